"""Which of an op's implementations runs.

Every op keeps its implementations in a dictionary that anyone can see:

    IMPLEMENTATIONS = {"native": _native, "paddle": _paddle, "composed": _composed}

`composed` is made of plain tensor operations, stands beside the paper's equation and runs on any device and
dtype; `paddle` calls Paddle's own kernel; `native` is our own for CPUs (ops/csrc, see ops/native.py). "auto" is what is
best where x lies; in a graph for export that is always Paddle's own, so that the graph needs no library of ours.
"""

from collections.abc import Callable, Collection, Mapping

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from ops import native

FLOATS = (paddle.float16, paddle.bfloat16, paddle.float32, paddle.float64)
LOW_PRECISION = (paddle.float16, paddle.bfloat16)


def choose(implementations: Mapping[str, Callable], name: str) -> Callable:
    """The callable for `name`, which is not "auto". ValueError where it is not there or cannot run on this machine."""
    check_name(implementations, name)
    if name == "native" and not native.available():
        raise ValueError("implementation 'native': it cannot be built here, or a graph is being made")
    return implementations[name]


def check_name(implementations: Collection[str], name: str) -> None:
    """ValueError for a name that is neither "auto" nor an implementation's."""
    if name != "auto" and name not in implementations:
        raise ValueError(f"implementation {name!r}: expected one of {', '.join(['auto', *implementations])}")


def best(x: Tensor, *, on_cpu: str = "paddle", elsewhere: str = "paddle") -> str:
    """What "auto" is for x: our own kernels on a CPU; without them `on_cpu`; on a GPU and in a graph `elsewhere`."""
    if not (paddle.in_dynamic_mode() and x.place.is_cpu_place()):
        return elsewhere
    return "native" if native.available() else on_cpu


def folded_or_composed(x: Tensor) -> str:
    """What "auto" is for x where an op has no kernel of its own: on a CPU "folded", by kernels of Paddle for others."""
    return "folded" if paddle.in_dynamic_mode() and x.place.is_cpu_place() else "composed"


def check_floats(op: str, **tensors: Tensor | None) -> None:
    """ValueError unless all (None is left out) are floats, and of one dtype as soon as 16 bits have become 32."""
    dtypes = {name: tensor.dtype for name, tensor in tensors.items() if tensor is not None}
    for name, dtype in dtypes.items():
        if dtype not in FLOATS:
            raise ValueError(f"{op}: {name} is of {_name(dtype)}, expected float32 or float64")
    if len({paddle.float32 if dtype in LOW_PRECISION else dtype for dtype in dtypes.values()}) > 1:
        found = ", ".join(f"{name} of {_name(dtype)}" for name, dtype in dtypes.items())
        raise ValueError(f"{op}: {found}; expected one dtype")


def _name(dtype):
    return str(dtype).rpartition(".")[2]


def check_vectors(op: str, channels: int, **vectors: Tensor | None) -> None:
    """ValueError unless every vector is [channels] or None."""
    for name, vector in vectors.items():
        if vector is not None and list(vector.shape) != [channels]:
            raise ValueError(f"{op}: {name} has shape {list(vector.shape)}, expected [{channels}]")


def at_least_float32(x: Tensor) -> Tensor:
    """x, or its float32 copy where its dtype is too coarse to take statistics or sampling positions in."""
    return x.astype(paddle.float32) if x.dtype in LOW_PRECISION else x


def sizes(x: Tensor) -> list[int | Tensor]:
    """The shape; sizes that a graph for export leaves open are tensors."""
    return [paddle.shape(x)[axis] if size < 0 else size for axis, size in enumerate(x.shape)]


def per_channel(vector: Tensor, x: Tensor) -> Tensor:
    """A [C] vector shaped [1, C, 1, ...] to be broadcast over x [N, C, ...]."""
    return vector.reshape([1, -1] + [1] * (x.ndim - 2))


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """gamma * x + beta for x [N, C, ...], in x's dtype; None is left out."""
    if weight is not None:
        x = x * per_channel(weight, x).astype(x.dtype)
    if bias is not None:
        x = x + per_channel(bias, x).astype(x.dtype)
    return x


def gamma_and_beta(weight: Tensor | None, bias: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """gamma and beta [C] in x's dtype, 1 and 0 where they are None: what kernels ask for."""
    channels = x.shape[1]
    weight = paddle.ones([channels], x.dtype) if weight is None else weight.astype(x.dtype)
    bias = paddle.zeros([channels], x.dtype) if bias is None else bias.astype(x.dtype)
    return weight, bias


def scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * x + shift for x [N, C, ...], vectors [C]: Paddle's batch norm kernel with fixed statistics.

    On a CPU some ten times as fast as a multiplication and an addition, the sums of its gradient above all.
    """
    zeros, ones = paddle.zeros_like(shift), paddle.ones_like(shift)
    scale, shift = learn_together(scale, shift)
    return F.batch_norm(x, zeros, ones, scale, shift, training=False, epsilon=0.0, use_global_stats=True)


def learn_together(weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """gamma and beta as Paddle's batch norm kernel needs them: where one learns alone it gets no gradient at all.

    The other is then replaced by a copy that learns too and is forgotten.
    """
    if weight is None or bias is None or weight.stop_gradient == bias.stop_gradient or not paddle.is_grad_enabled():
        return weight, bias
    weight, bias = (vector.detach().clone() if vector.stop_gradient else vector for vector in (weight, bias))
    for vector in (weight, bias):
        vector.stop_gradient = False
    return weight, bias
