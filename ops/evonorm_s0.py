"""EvoNorm-S0 (Liu et al., arXiv:2004.02967): a normalisation and its nonlinearity that were searched for as one."""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ops import native
from ops.group_norm import check_groups
from ops.implementation import (
    affine,
    at_least_float32,
    best,
    check_floats,
    check_name,
    check_vectors,
    choose,
    folded_or_composed,
    gamma_and_beta,
    per_channel,
    scale_and_shift,
    sizes,
)


def evonorm_s0(
    x: Tensor, groups: int, slope: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    implementation: str = "auto",
) -> Tensor:
    """x, made nonlinear, over the deviation of its group, which `group_norm` has too (table 2 of the paper).

        y = gamma * x * sigmoid(slope * x) / sqrt(variance + eps) + beta

    x [N, C, ...]; `groups` must divide C, a group holds neighbouring channels of one image and the variance is the
    biased one. `slope` (v in the paper), `weight` (gamma) and `bias` (beta) are [C], the last two maybe None. Returns
    x's shape and dtype. Nothing is centred, and nothing depends on the other images.

    implementation: "native" (ops/csrc, the "auto" choice on a CPU), "folded" (by Paddle's batch norm kernel, that
    choice where "native" cannot be built) or "composed" (elsewhere).

    Raises ValueError where groups do not divide C, a vector has another size, x has no values in a group, or dtypes are
    no floats or differ (16 bits beside 32 are fine: they are computed in 32).
    """
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"evonorm: x has shape {list(x.shape)}, expected [N, C, ...], none of C, ... 0")
    check_groups(x.shape[1], groups, "evonorm")
    vectors = {"slope": slope, "weight": weight, "bias": bias}
    check_vectors("evonorm", x.shape[1], **vectors)
    check_floats("evonorm", x=x, **vectors)
    if implementation == "auto":
        implementation = best(x, on_cpu="folded", elsewhere="composed")
    run = choose(IMPLEMENTATIONS, implementation)
    if x.shape[0] == 0:
        return affine(x, weight, bias)
    wide = at_least_float32(x)
    return run(wide, groups, slope.astype(wide.dtype), weight, bias, eps).astype(x.dtype)


def _native(x, groups, slope, weight, bias, eps):
    return native.run("evonorm_s0", x, slope, *gamma_and_beta(weight, bias, x), groups, eps)


def _composed(x, groups, slope, weight, bias, eps):
    grouped = x.reshape([0, groups, -1])
    centred = grouped - grouped.mean(axis=2, keepdim=True)
    deviation = paddle.sqrt((centred * centred).mean(axis=2, keepdim=True) + eps)
    y = (x * F.sigmoid(per_channel(slope, x) * x)).reshape([0, groups, -1]) / deviation
    return affine(y.reshape([0, *sizes(x)[1:]]), weight, bias)


def _folded(x, groups, slope, weight, bias, eps):
    """What is scaled and shifted is each channel, for the variance each group, and at last each channel of an image."""
    images, channels = x.shape[:2]
    gamma, beta = gamma_and_beta(weight, bias, x)
    grouped = x.reshape([images * groups, -1])
    mean = grouped.mean(axis=1)
    centred = scale_and_shift(grouped.unsqueeze(0), paddle.ones_like(mean), -mean).squeeze(0)
    deviation = paddle.sqrt((centred * centred).mean(axis=1) + eps)
    scale = (gamma.reshape([1, groups, -1]) / deviation.reshape([images, groups, 1])).flatten()
    y = x * F.sigmoid(scale_and_shift(x, slope, paddle.zeros_like(slope)))
    y = scale_and_shift(y.reshape([1, images * channels, -1]), scale, beta.expand([images, channels]).flatten())
    return y.reshape(x.shape)


IMPLEMENTATIONS = {"native": _native, "folded": _folded, "composed": _composed}


class EvoNormS0(nn.Layer):
    """`evonorm_s0` with gamma [C], started at `initial_scale`, beta [C], started at 0, and slope [C], started at 1.

    x [N, C, ...] -> the same shape. Where it is not `activated` there is nothing to be nonlinear: as in the authors'
    code it is then gamma * x + beta and no more, without a slope.
    """

    def __init__(
        self, channels: int, groups: int = 32, eps: float = 1e-5, initial_scale: float = 1.0, activated: bool = False,
        implementation: str = "auto",
    ):
        super().__init__()
        check_groups(channels, groups, "evonorm")
        check_name(IMPLEMENTATIONS, implementation)
        self.groups, self.eps, self.implementation = groups, eps, implementation
        start = nn.initializer.Constant
        self.weight = self.create_parameter([channels], default_initializer=start(initial_scale))
        self.bias = self.create_parameter([channels], is_bias=True)
        self.slope = self.create_parameter([channels], default_initializer=start(1.0)) if activated else None

    def forward(self, x: Tensor) -> Tensor:
        if self.slope is not None:
            return evonorm_s0(x, self.groups, self.slope, self.weight, self.bias, self.eps, self.implementation)
        dtype, x = x.dtype, at_least_float32(x)
        if folded_or_composed(x) == "folded" and x.shape[0]:
            return scale_and_shift(x, *gamma_and_beta(self.weight, self.bias, x)).astype(dtype)
        return affine(x, self.weight, self.bias).astype(dtype)

    def extra_repr(self) -> str:
        kind = f"groups={self.groups}, eps={self.eps}" if self.slope is not None else "affine"
        return f"{self.weight.shape[0]}, {kind}"
