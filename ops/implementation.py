"""Which of an op's implementations runs.

Every op keeps its implementations in a dictionary that anyone can see:

    IMPLEMENTATIONS = {"paddle": _paddle, "composed": _composed}

`composed` is made of plain tensor operations, stands beside the paper's equation and runs on any device and
dtype; `paddle` calls Paddle's own kernel. "auto" is what is best where x lies. A faster kernel is one more entry.
"""

import paddle

LOW_PRECISION = (paddle.float16, paddle.bfloat16)


def choose(implementations, name):
    """The callable for `name`; for "auto" the first. ValueError for a name that is not there."""
    if name == "auto":
        return next(iter(implementations.values()))
    if name not in implementations:
        raise ValueError(f"implementation {name!r}: expected one of {', '.join(['auto', *implementations])}")
    return implementations[name]


def check_vectors(op, channels, **vectors):
    """ValueError unless every vector is [channels] or None."""
    for name, vector in vectors.items():
        if vector is not None and list(vector.shape) != [channels]:
            raise ValueError(f"{op}: {name} has shape {list(vector.shape)}, expected [{channels}]")


def at_least_float32(x):
    """x, or its float32 copy where its dtype is too coarse to take statistics or sampling positions in."""
    return x.astype(paddle.float32) if x.dtype in LOW_PRECISION else x


def per_channel(vector, x):
    """A [C] vector shaped [1, C, 1, ...] to be broadcast over x [N, C, ...]."""
    return vector.reshape([1, -1] + [1] * (x.ndim - 2))


def learn_together(weight, bias):
    """gamma and beta as Paddle's batch norm kernel needs them: where one learns alone it gets no gradient at all.

    The other is then replaced by a copy that learns too and is forgotten.
    """
    if weight is None or bias is None or weight.stop_gradient == bias.stop_gradient or not paddle.is_grad_enabled():
        return weight, bias
    weight, bias = (vector.detach().clone() if vector.stop_gradient else vector for vector in (weight, bias))
    for vector in (weight, bias):
        vector.stop_gradient = False
    return weight, bias
