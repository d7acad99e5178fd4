"""Filter Response Normalization and its thresholded linear unit (Singh & Krishnan, arXiv:1911.09737)."""

import math

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
    per_channel,
    scale_and_shift,
)


def filter_response_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, threshold: Tensor | None = None,
    eps: float = 1e-6, implementation: str = "auto",
) -> Tensor:
    """Divide each channel of each image by the root of its mean square: instance norm without centring (equation 1).

        y = gamma * x / sqrt(mean(x^2) + eps) + beta, and with a threshold max(y, threshold)

    x [N, C, ...]; `weight` (gamma), `bias` (beta) and `threshold` are [C] or None. Returns x's shape and dtype. As
    nothing is centred, the threshold of the activation is learned where ReLU has 0; on the threshold itself the
    gradient is the threshold's. Of a map of one value no more than its sign is left, and next to no gradient: eps is
    learned there in the paper, and not here.

    implementation: "native" (ops/csrc, all of it in one pass, the "auto" choice on a CPU), "folded" (by Paddle's batch
    norm kernel, that choice where "native" cannot be built) or "composed" (elsewhere).

    Raises ValueError where a vector has another size, x has no values in a channel, or dtypes are no floats or differ
    (16 bits beside 32 are fine: they are computed in 32).
    """
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"filter response norm: x has shape {list(x.shape)}, expected [N, C, ...], none of C, ... 0")
    vectors = {"weight": weight, "bias": bias, "threshold": threshold}
    check_vectors("filter response norm", x.shape[1], **vectors)
    check_floats("filter response norm", x=x, **vectors)
    run = choose(IMPLEMENTATIONS, _best(x) if implementation == "auto" else implementation)
    if x.shape[0] == 0:
        return affine(x, weight, bias)
    threshold = threshold if threshold is None else threshold.astype(at_least_float32(x).dtype)
    return run(at_least_float32(x), weight, bias, threshold, eps).astype(x.dtype)


def thresholded_linear(x: Tensor, threshold: Tensor, implementation: str = "auto") -> Tensor:
    """max(x, threshold), the activation of `filter_response_norm` alone: x [N, C, ...], threshold [C].

    Raises ValueError as that does.
    """
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"thresholded linear unit: x has shape {list(x.shape)}, expected [N, C, ...], no C, ... of 0")
    check_vectors("thresholded linear unit", x.shape[1], threshold=threshold)
    check_floats("thresholded linear unit", x=x, threshold=threshold)
    if x.shape[0] == 0:
        return x
    run = choose(MAXIMA, _best(x) if implementation == "auto" else implementation)
    return run(at_least_float32(x), threshold.astype(at_least_float32(x).dtype)).astype(x.dtype)


def _best(x):
    return best(x, on_cpu="folded", elsewhere="composed")


def _native(x, weight, bias, threshold, eps):
    if threshold is None:
        threshold = paddle.full([x.shape[1]], -math.inf, x.dtype)
    return native.run("filter_response_norm", x, *gamma_and_beta(weight, bias, x), threshold, eps)


def _native_maximum(x, threshold):
    return native.run("thresholded_linear", x, threshold)


def _composed(x, weight, bias, threshold, eps):
    mean_square = (x * x).mean(axis=list(range(2, x.ndim)), keepdim=True) if x.ndim > 2 else x * x
    y = affine(x / paddle.sqrt(mean_square + eps), weight, bias)
    return y if threshold is None else _maximum(y, threshold)


def _maximum(x, threshold):
    """The paper's form: on the threshold Paddle's maximum would give the gradient to x."""
    threshold = per_channel(threshold, x)
    return F.relu(x - threshold) + threshold


def _folded(x, weight, bias, threshold, eps):
    """Each channel of each image is a channel to be scaled."""
    images, channels = x.shape[:2]
    gamma, beta = gamma_and_beta(weight, bias, x)
    rows = x.reshape([images * channels, -1])
    scale = gamma / paddle.sqrt((rows * rows).mean(axis=1).reshape([images, channels]) + eps)
    shift = (beta if threshold is None else beta - threshold).expand([images, channels])
    y = scale_and_shift(rows.unsqueeze(0), scale.flatten(), shift.flatten()).reshape(x.shape)
    return y if threshold is None else _shift(F.relu(y), threshold)


def _folded_maximum(x, threshold):
    return _shift(F.relu(_shift(x, -threshold)), threshold)


def _shift(x, by):
    return scale_and_shift(x, paddle.ones_like(by), by)


IMPLEMENTATIONS = {"native": _native, "folded": _folded, "composed": _composed}
MAXIMA = {"native": _native_maximum, "folded": _folded_maximum, "composed": _maximum}


class FilterResponseNorm(nn.Layer):
    """`filter_response_norm` with its gamma [C], started at `initial_scale`, and beta [C], started at 0.

    x [N, C, ...] -> the same shape. Activated it has a `threshold` [C] too, started at 0, where it is ReLU.
    """

    def __init__(
        self, channels: int, eps: float = 1e-6, initial_scale: float = 1.0, activated: bool = False,
        implementation: str = "auto",
    ):
        super().__init__()
        check_name(IMPLEMENTATIONS, implementation)
        self.eps, self.implementation = eps, implementation
        self.groups = channels  # that have statistics of their own, as in instance norm
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(initial_scale))
        self.bias = self.create_parameter([channels], is_bias=True)
        self.threshold = self.create_parameter([channels], is_bias=True) if activated else None

    def forward(self, x: Tensor) -> Tensor:
        return filter_response_norm(x, self.weight, self.bias, self.threshold, self.eps, self.implementation)

    def extra_repr(self) -> str:
        return f"{self.groups}, eps={self.eps}{', thresholded' * (self.threshold is not None)}"


class ThresholdedLinearUnit(nn.Layer):
    """`thresholded_linear` with its threshold [C], started at 0, where it is ReLU. x [N, C, ...] -> the same shape."""

    def __init__(self, channels: int, implementation: str = "auto"):
        super().__init__()
        check_name(IMPLEMENTATIONS, implementation)
        self.implementation = implementation
        self.threshold = self.create_parameter([channels], is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return thresholded_linear(x, self.threshold, self.implementation)
