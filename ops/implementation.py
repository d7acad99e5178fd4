"""Which of an op's implementations runs.

Every op keeps its implementations in a dictionary, fastest first, that anyone can see:

    IMPLEMENTATIONS = {"paddle": _paddle, "composed": _composed}

`composed` is made of plain tensor operations, stands beside the paper's equation and runs on any device and
dtype; `paddle` calls Paddle's own kernel. A faster kernel is one more entry at the front.
"""

import paddle

LOW_PRECISION = (paddle.float16, paddle.bfloat16)


def choose(implementations, name):
    """The callable for `name`; "auto" is the first, the fastest. ValueError for a name that is not there."""
    if name == "auto":
        return next(iter(implementations.values()))
    if name not in implementations:
        raise ValueError(f"implementation {name!r}: expected one of {', '.join(['auto', *implementations])}")
    return implementations[name]


def at_least_float32(x):
    """x, or its float32 copy where its dtype is too coarse to take statistics or sampling positions in."""
    return x.astype(paddle.float32) if x.dtype in LOW_PRECISION else x


def per_channel(vector, x):
    """A [C] vector shaped [1, C, 1, ...] to be broadcast over x [N, C, ...]."""
    return vector.reshape([1, -1] + [1] * (x.ndim - 2))
