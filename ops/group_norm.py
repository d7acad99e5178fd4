"""Group Normalization (Wu & He, arXiv:1803.08494), with Layer and Instance Normalization as its two limits."""

from types import SimpleNamespace

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ops import native
from ops.implementation import (
    affine,
    at_least_float32,
    best,
    check_floats,
    check_name,
    check_vectors,
    choose,
    gamma_and_beta,
    scale_and_shift,
    sizes,
)


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    implementation: str = "auto", *, relu: bool = False,
) -> Tensor:
    """Normalise every image over groups of neighbouring channels (arXiv:1803.08494, equations 1, 2, 6, 7).

    x [N, C, ...] with any number of spatial dimensions; `groups` must divide C and group g holds the channels
    g * C / groups to (g + 1) * C / groups - 1. `weight` (gamma) and `bias` (beta) are [C] or None.
    Returns x's shape and dtype. groups = 1 is layer norm, groups = C is instance norm. The variance is the
    biased one. Nothing depends on the other images of the batch, in training or in evaluation.

    relu: max(0, y) is returned, which "native" computes in the same pass.

    implementation: "native" (ops/csrc, the "auto" choice on a CPU), "folded" (Paddle's batch norm kernel, that choice
    where "native" cannot be built: two to five times as fast as Paddle's group norm there), "paddle" (its group
    norm kernel, the "auto" choice on a GPU) or "composed". On a CPU Paddle's group norm
    kernel is wrong in two ways, which the others are not: its gradient of gamma is 0 where gamma is 0, so that residual
    blocks whose last norm starts at 0 never wake up; and it takes the variance in one pass, which loses all
    precision where a group's mean is large against its deviation.

    Raises ValueError where groups do not divide C, gamma and beta have another size, x has no values in a group, or
    dtypes are no floats or differ (16 bits beside 32 are fine: they are computed in 32).
    """
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"group norm: x has shape {list(x.shape)}, expected [N, C, ...], none of C, ... 0")
    channels = x.shape[1]
    check_groups(channels, groups)
    check_vectors("group norm", channels, weight=weight, bias=bias)
    check_floats("group norm", x=x, weight=weight, bias=bias)
    if implementation == "auto":
        implementation = best(x, on_cpu="folded")
    run = choose(IMPLEMENTATIONS, implementation)
    if x.shape[0] == 0:  # which no kernel knows
        return affine(x, weight, bias)
    if run is _native:
        return run(x, groups, weight, bias, eps, relu)
    y = run(x, groups, weight, bias, eps)
    return F.relu(y) if relu else y


def _native(x, groups, weight, bias, eps, relu=False):
    dtype, x = x.dtype, at_least_float32(x)
    return native.run("group_norm", x, *gamma_and_beta(weight, bias, x), groups, eps, relu).astype(dtype)


def _composed(x, groups, weight, bias, eps):
    grouped = at_least_float32(x).reshape([0, groups, -1])  # S_i of the paper: (C / G, H, W) of one image
    centred = grouped - grouped.mean(axis=2, keepdim=True)
    variance = (centred * centred).mean(axis=2, keepdim=True)
    y = (centred / paddle.sqrt(variance + eps)).reshape([0, *sizes(x)[1:]])
    return affine(y, weight, bias).astype(x.dtype)


def _paddle(x, groups, weight, bias, eps):
    if hasattr(F, "group_norm"):
        return F.group_norm(x, num_groups=groups, epsilon=eps, weight=weight, bias=bias)
    learns = any(vector is not None and not vector.stop_gradient for vector in (weight, bias))
    if not paddle.in_dynamic_mode() or (learns and x.stop_gradient and paddle.is_grad_enabled()):  # which needs x's
        return _composed(x, groups, weight, bias, eps)
    # Paddle 2.6 has the kernel behind its layer only, so the layer's forward is handed our values.
    layer = SimpleNamespace(weight=weight, bias=bias, _epsilon=eps, _num_groups=groups, _data_format="NCHW")
    return nn.GroupNorm.forward(layer, x)


def _folded(x, groups, weight, bias, eps):
    """Group norm is batch norm of one image whose channels are the N * groups groups; no value moves for it."""
    images = x.shape[0]
    if x.size <= images * groups:  # groups of one value, which that kernel hands through as they are
        return _composed(x, groups, weight, bias, eps)
    dtype, x = x.dtype, at_least_float32(x)
    zeros, ones = paddle.zeros([images * groups], x.dtype), paddle.ones([images * groups], x.dtype)
    y = F.batch_norm(x.reshape([1, images * groups, -1]), zeros, ones, training=True, epsilon=eps).reshape(x.shape)
    if weight is not None or bias is not None:
        y = scale_and_shift(y, *gamma_and_beta(weight, bias, x))
    return y.astype(dtype)


IMPLEMENTATIONS = {"native": _native, "folded": _folded, "paddle": _paddle, "composed": _composed}


def check_groups(channels: int, groups: int, op: str = "group norm") -> None:
    """ValueError unless `groups` equal groups can be made of `channels`."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{op}: {groups} groups do not divide {channels} channels")


class GroupNorm(nn.Layer):
    """`group_norm` with its gamma [C], started at `initial_scale`, and beta [C], started at 0.

    x [N, C, ...] -> the same shape. Channels come first here, groups first in paddle.nn.GroupNorm.
    """

    def __init__(
        self, channels: int, groups: int = 32, eps: float = 1e-5, initial_scale: float = 1.0,
        implementation: str = "auto", relu: bool = False,
    ):
        super().__init__()
        check_groups(channels, groups)
        check_name(IMPLEMENTATIONS, implementation)
        self.groups, self.eps, self.implementation, self.relu = groups, eps, implementation, relu
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(initial_scale))
        self.bias = self.create_parameter([channels], is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.groups, self.weight, self.bias, self.eps, self.implementation, relu=self.relu)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, groups={self.groups}, eps={self.eps}{', relu' * self.relu}"
