"""Deformable convolution: v1 (Dai et al., arXiv:1703.06211) and v2 (Zhu et al., arXiv:1811.11168)."""

import contextlib
from collections.abc import Sequence
from typing import Literal

import paddle
from paddle import Tensor, nn
from paddle.vision import ops as vision_ops

from ops import native
from ops.conv2d import Conv2D
from ops.implementation import affine, at_least_float32, best, check_floats, check_name, choose

MODULATION = {
    # What turns the branch's raw output (0 at the start) into the modulation of a tap.
    "2sigmoid": lambda raw: 2 * nn.functional.sigmoid(raw),  # the authors' released example: starts at 1
    "sigmoid": nn.functional.sigmoid,  # the paper's text: starts at 0.5
}


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None = None, mask: Tensor | None = None,
    stride: int | Sequence[int] = 1, padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1,
    groups: int = 1, deformable_groups: int = 1, implementation: str = "auto",
) -> Tensor:
    """Convolution that samples x at its grid plus learned offsets (arXiv:1703.06211, equations 2 to 4).

        y(p) = sum over taps k of w_k * x(p + p_k + offset_k(p)) * mask_k(p)

    x [N, C_in, H, W], weight [C_out, C_in / groups, kh, kw], bias [C_out] or None -> y [N, C_out, H', W'].
    offset [N, deformable_groups * 2 * kh * kw, H', W'], in input pixels: for each deformable group (a run of
    neighbouring input channels) and each tap, taps in row-major order, (dy, dx). mask [N, deformable_groups *
    kh * kw, H', W'] is v2's modulation; None is v1. stride, padding and dilation are numbers or (vertical,
    horizontal). Between pixels x is bilinear, beyond the border zero, so that a point up to one pixel outside
    still sees the border. Offsets of zero and a mask of one give the plain convolution.

    implementation: "native" (ops/csrc, the "auto" choice on a CPU), "paddle" (Paddle's kernel, that choice
    elsewhere) or "composed". All compute in float32 under AMP.

    Raises ValueError where a shape does not fit, naming it and what was expected, or dtypes are no floats or differ
    (16 bits beside 32 are fine: they are computed in 32).
    """
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    _check_shapes(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups)
    check_floats("deformable convolution", x=x, offset=offset, weight=weight, bias=bias, mask=mask)
    run = choose(IMPLEMENTATIONS, best(x) if implementation == "auto" else implementation)
    return run(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups)


def sampling_points(
    offset: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Where each tap samples: p + p_k + offset_k(p), in input pixels, 0 the centre of the first pixel.

    offset [N, D * 2 * kh * kw, H', W'] -> (y, x), each [N, D, kh * kw, H', W'].
    """
    kh, kw = kernel
    height, width = offset.shape[2:]
    offset = offset.reshape([offset.shape[0], -1, kh * kw, 2, height, width])
    tap_y = (paddle.arange(kh) * dilation[0]).reshape([kh, 1]).expand([kh, kw]).reshape([kh * kw, 1, 1])
    tap_x = (paddle.arange(kw) * dilation[1]).reshape([1, kw]).expand([kh, kw]).reshape([kh * kw, 1, 1])
    out_y = (paddle.arange(height) * stride[0] - padding[0]).reshape([1, height, 1])
    out_x = (paddle.arange(width) * stride[1] - padding[1]).reshape([1, 1, width])
    dtype = offset.dtype
    return offset[:, :, :, 0] + (out_y + tap_y).astype(dtype), offset[:, :, :, 1] + (out_x + tap_x).astype(dtype)


def bilinear_sample(x: Tensor, point_y: Tensor, point_x: Tensor) -> Tensor:
    """x at fractional points, zero beyond the border (arXiv:1703.06211, equations 3 and 4).

    x [N, C, H, W]; points [N, D, K, H', W'], D dividing C -> [N, C, K, H', W']. Differentiable in all three.
    """
    batch, channels, height, width = x.shape
    parts, taps, rows, columns = point_y.shape[1:]
    flat = x.reshape([batch, parts, channels // parts, height * width])
    top, left = paddle.floor(point_y), paddle.floor(point_x)
    down, right = point_y - top, point_x - left
    total = 0
    # G(q, p) = g(q_y, p_y) g(q_x, p_x) with g(a, b) = max(0, 1 - |a - b|); only 4 pixels q have G > 0. On a pixel
    # itself, where every training starts, the gradient is that towards larger coordinates, as in Paddle's kernel, and
    # none a whole pixel outside, where a padded corner starts.
    near = ((point_y > -1) & (point_x > -1)).astype(point_y.dtype)
    for corner_y, share_y in ((top, 1 - down), (top + 1, down)):
        for corner_x, share_x in ((left, 1 - right), (left + 1, right)):
            share = share_y * share_x
            inside = (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
            share = share * inside.astype(share.dtype) * near
            pixel = corner_y.clip(0, height - 1) * width + corner_x.clip(0, width - 1)
            index = pixel.detach().astype("int64").clip(0, height * width - 1)  # NaN as an integer is anything
            index = index.reshape([batch, parts, 1, -1])
            index = index.expand([batch, parts, channels // parts, index.shape[3]])
            value = paddle.take_along_axis(flat, index, axis=3)
            total = total + value * share.reshape([batch, parts, 1, -1])
    return total.reshape([batch, channels, taps, rows, columns])


def _native(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups):
    dtype = x.dtype
    x, offset, weight = at_least_float32(x), at_least_float32(offset), at_least_float32(weight)
    geometry = [*stride, *padding, *dilation, groups, deformable_groups]
    if mask is None:
        y = native.run("deform_conv2d_v1", x, offset, weight, geometry)
    else:
        y = native.run("deform_conv2d_v2", x, offset, weight, at_least_float32(mask), geometry)
    return affine(y, None, bias).astype(dtype)


def _composed(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups):
    dtype = x.dtype
    x, offset, weight = at_least_float32(x), at_least_float32(offset), at_least_float32(weight)
    out_channels, in_per_group, kh, kw = weight.shape
    batch, channels = x.shape[:2]
    columns = bilinear_sample(x, *sampling_points(offset, (kh, kw), stride, padding, dilation))
    rows, cols = columns.shape[3:]
    if mask is not None:
        modulation = at_least_float32(mask).reshape([batch, deformable_groups, 1, kh * kw, rows, cols])
        columns = columns.reshape([batch, deformable_groups, -1, kh * kw, rows, cols]) * modulation
    columns = columns.reshape([batch, groups, in_per_group * kh * kw, rows * cols])
    kernel = weight.reshape([1, groups, out_channels // groups, in_per_group * kh * kw])
    y = paddle.matmul(kernel, columns).reshape([batch, out_channels, rows, cols])
    return affine(y, None, bias).astype(dtype)


def _paddle(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups):
    # What Paddle's kernel refuses, though nothing in the mathematics asks for it; and what it crashes on: an empty
    # batch, and the gradient of v2 where not both of offset and mask want theirs.
    refused = weight.shape[0] % deformable_groups
    learns = paddle.is_grad_enabled() and any(
        tensor is not None and not tensor.stop_gradient for tensor in (x, offset, weight, bias, mask)
    )
    crashes = x.shape[0] == 0 or (learns and mask is not None and (offset.stop_gradient or mask.stop_gradient))
    if refused or crashes:
        return _composed(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups)
    dtype = x.dtype
    x, offset, weight, bias, mask = (
        None if tensor is None else at_least_float32(tensor) for tensor in (x, offset, weight, bias, mask)
    )
    unknown = None
    if paddle.in_dynamic_mode() and x.place.is_cpu_place():
        offset, unknown = _within_reach(offset, x, weight, stride, padding, dilation)
    # The kernel knows float32 and float64 only; an exported graph has no mixed precision to switch off.
    with paddle.amp.auto_cast(enable=False) if paddle.in_dynamic_mode() else contextlib.nullcontext():
        y = vision_ops.deform_conv2d(
            x, offset, weight, bias, stride=list(stride), padding=list(padding), dilation=list(dilation),
            deformable_groups=deformable_groups, groups=groups, mask=mask,
        )
    if unknown is not None:
        y = y + unknown
    return y.astype(dtype)


def _within_reach(offset, x, weight, stride, padding, dilation):
    """Offsets that Paddle's kernel can be given, and what its output lacks then, [N, 1, H', W'] of 0 or NaN.

    On a CPU its gradient makes an index of any point and writes where a NaN or a huge offset leads, and its forward
    pass takes NaN for a point outside. Offsets further than every pixel are cut off, where they see nothing anyway;
    those that are no numbers become 0, and NaN is added to what they would have given.
    """
    unknown = (offset.detach() * 0).sum(axis=1, keepdim=True)
    sizes = (*x.shape[2:], *offset.shape[2:], *weight.shape[2:], *stride, *padding, *dilation)
    reach = 4.0 * max(sizes) ** 2
    known = paddle.where(paddle.isfinite(offset), offset, paddle.zeros_like(offset))
    return known.clip(-reach, reach), unknown


IMPLEMENTATIONS = {"native": _native, "paddle": _paddle, "composed": _composed}


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """A number twice, or (vertical, horizontal) as it is. ValueError for anything else."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2:
        raise ValueError(f"deformable convolution: {value}, expected a number or (vertical, horizontal)")
    return both


def _check_shapes(x, offset, weight, bias, mask, stride, padding, dilation, groups, deformable_groups):
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            f"deformable convolution: x {list(x.shape)} and weight {list(weight.shape)}, expected [N, C_in, H, W] and "
            "[C_out, C_in / groups, kh, kw]"
        )
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ValueError(f"deformable convolution: stride {stride}, padding {padding}, dilation {dilation}")
    channels = x.shape[1]
    out_channels, in_per_group, kh, kw = weight.shape
    if groups < 1 or channels != in_per_group * groups or out_channels % groups:
        raise ValueError(
            f"deformable convolution: weight {list(weight.shape)} does not fit {channels} channels in {groups} groups"
        )
    if deformable_groups < 1 or channels % deformable_groups:
        raise ValueError(
            f"deformable convolution: {deformable_groups} deformable groups do not divide {channels} channels"
        )
    if -1 in x.shape:  # sizes that a graph for export leaves open
        return
    out = [
        (x.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    ]
    if min(*x.shape[1:], *weight.shape, *out) < 1:
        raise ValueError(
            f"deformable convolution: x {list(x.shape)} and weight {list(weight.shape)} leave no values or no positions"
        )
    taps = deformable_groups * kh * kw
    for name, tensor, expected in (
        ("offset", offset, [x.shape[0], 2 * taps, *out]),
        ("mask", mask, [x.shape[0], taps, *out]),
        ("bias", bias, [out_channels]),
    ):
        if tensor is not None and list(tensor.shape) != expected:
            raise ValueError(f"deformable convolution: {name} has shape {list(tensor.shape)}, expected {expected}")


class DeformConv2D(nn.Layer):
    """Deformable convolution with its own offset branch, v1 (arXiv:1703.06211) or v2 (arXiv:1811.11168).

    x [N, C_in, H, W] -> [N, C_out, H', W'], the same positions as a convolution of the same kernel, stride, padding and
    dilation. `offset` is a plain convolution over the same input whose 2 (v1) or 3 (v2) * deformable_groups * kernel^2
    output channels hold first the offsets in input pixels, (dy, dx) for each tap, taps in row-major order, then
    v2's raw modulation. It starts at zero: v1, and v2 with modulation "2sigmoid", start as the plain convolution;
    "sigmoid" starts at half of it. `weight` and `bias` are those of nn.Conv2D, so a plain network's weights fit.
    standardized: see `ops.Conv2D`; the offset branch, which starts at zero, is not.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1, groups: int = 1,
        version: Literal[1, 2] = 2, deformable_groups: int = 1, modulation: Literal["2sigmoid", "sigmoid"] = "2sigmoid",
        weight_attr: paddle.ParamAttr | None = None, bias_attr: paddle.ParamAttr | Literal[False] | None = None,
        implementation: str = "auto", standardized: bool = False,
    ):
        super().__init__()
        if version not in (1, 2):
            raise ValueError(f"deformable convolution: version {version}, expected 1 or 2")
        if modulation not in MODULATION:
            raise ValueError(f"deformable convolution: modulation {modulation!r}, expected one of {list(MODULATION)}")
        if deformable_groups < 1 or in_channels % deformable_groups:
            raise ValueError(
                f"deformable convolution: {deformable_groups} deformable groups do not divide {in_channels} channels"
            )
        check_name(IMPLEMENTATIONS, implementation)
        self.version, self.modulation = version, modulation
        self.implementation, self.standardized = implementation, standardized
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        self.groups, self.deformable_groups = groups, deformable_groups
        # The parameters of a plain convolution, and so its initial values, are taken over.
        plain = nn.Conv2D(
            in_channels, out_channels, kernel_size, **self.geometry, groups=groups,
            weight_attr=weight_attr, bias_attr=bias_attr,
        )
        self.weight, self.bias = plain.weight, plain.bias
        kh, kw = plain.weight.shape[2:]
        self.taps = deformable_groups * kh * kw
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.offset = Conv2D(
            in_channels, (version + 1) * self.taps, (kh, kw), **self.geometry, weight_attr=zero, bias_attr=zero
        )

    filters = Conv2D.filters

    def offset_and_mask(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [N, C_in, H, W] -> offset [N, 2 * taps, H', W'] in input pixels, mask [N, taps, H', W'] or None for v1."""
        branch = self.offset(x)
        if self.version == 1:
            return branch, None
        return branch[:, : 2 * self.taps], MODULATION[self.modulation](branch[:, 2 * self.taps :])

    def forward(self, x: Tensor) -> Tensor:
        offset, mask = self.offset_and_mask(x)
        return deform_conv2d(
            x, offset, self.filters(), self.bias, mask, **self.geometry, groups=self.groups,
            deformable_groups=self.deformable_groups, implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        return f"v{self.version}, weight={list(self.weight.shape)}, deformable_groups={self.deformable_groups}"
