"""Deformable RoI pooling: v1 (Dai et al., arXiv:1703.06211) and v2 (Zhu et al., arXiv:1811.11168)."""

import contextlib
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from ops import native
from ops.deform_conv import MODULATION
from ops.implementation import at_least_float32, best, check_floats, check_name, choose, sizes

OP = "deformable RoI pooling"
Size = int | tuple[int, int]  # kh = kw, or (kh, kw)


def deform_roi_pool(
    x: Tensor, boxes: Tensor, boxes_num: Tensor, output_size: Size, offset: Tensor | None = None,
    mask: Tensor | None = None, spatial_scale: float = 1.0, sampling_ratio: int = 2, gamma: float = 0.1,
    implementation: str = "auto",
) -> Tensor:
    """Average of x over kh x kw bins of every box, each bin moved by its own offset (arXiv:1703.06211, equation 5).

        y(i, j) = mask(i, j) * mean over samples p of bin (i, j) of x(p0 + p + gamma * offset(i, j) * (w, h))

    x [N, C, H, W]; boxes [R, 4] as x1, y1, x2, y2 in pixels of the input image, those of the first image first;
    boxes_num [N] of int32 or int64, how many each image has -> [R, C, kh, kw] in x's dtype. output_size is kh = kw
    or (kh, kw); spatial_scale is x's size over the input image's. offset [R, 2, kh, kw] holds all dx, then all dy;
    times gamma they are in widths w and heights h of the box. mask [R, 1, kh, kw] is v2's modulation (arXiv:1811.11168,
    equation 2). Either may be None: offsets of zero, a mask of one.

    Each bin takes sampling_ratio^2 bilinear samples, at the centres of as many equal parts. Coordinates are aligned by
    half a pixel: 0 is the outer edge of the first pixel, not its centre. A sample up to one pixel beyond the centre of
    an outer pixel sees that pixel, further out zero. So without offset and mask this is paddle.vision.ops.roi_align of
    the same sampling_ratio, and mmcv's deform_roi_pool with an offset; the authors' own kernel rounds the boxes and
    samples at the parts' corners. No gradient reaches the boxes, as in roi_align. Under AMP all is computed in float32.
    "auto" takes our kernel on a CPU, else "composed", which beside a copy of x keeps 4 * sampling_ratio^2 values for
    each of y (the pixels read) in training, and holds 2 * sampling_ratio^2 in inference.

    The surprise: offsets are dx before dy, all of an axis together, as in the paper's (w, h), the boxes and the
    published kernels; those of deform_conv2d are dy before dx, tap by tap.

    Raises ValueError where a shape does not fit, naming it and what was expected, boxes_num does not sum to R, or
    dtypes are no floats or differ (16 bits beside 32 are fine: they are computed in 32).
    """
    return pool(
        OP, x, boxes, boxes_num, output_size, offset, mask, spatial_scale, sampling_ratio, gamma,
        implementation=implementation,
    )


def bin_points(
    boxes: Tensor, output_size: Size, offset: Tensor | None = None, spatial_scale: float = 1.0, sampling_ratio: int = 2,
    gamma: float = 0.1,
) -> list[Tensor]:
    """Where each bin samples, in pixels of x, 0 the centre of the first pixel: at every y with every x.

    boxes [R, 4], offset [R, 2 * D, kh, kw] or None -> y, x [R, D, kh, kw, sampling_ratio]; D and, for y, kw or, for x,
    kh are 1 without an offset.
    """
    kh, kw = pair(output_size)
    box = (boxes * spatial_scale).reshape([-1, 4, 1, 1, 1, 1])
    part = (paddle.arange(sampling_ratio).astype(boxes.dtype) + 0.5) / sampling_ratio
    points = []
    for axis, bins, shape in ((1, kh, [kh, 1, 1]), (0, kw, [1, kw, 1])):
        length = box[:, axis + 2] - box[:, axis]
        point = box[:, axis] - 0.5 + length / bins * (paddle.arange(bins).astype(boxes.dtype).reshape(shape) + part)
        if offset is not None:
            moved = offset.reshape([-1, offset.shape[1] // 2, 2, kh, kw, 1])[:, :, axis]
            point = point + gamma * length * moved
        points.append(point)
    return points


def pool(
    op: str, x: Tensor, boxes: Tensor, boxes_num: Tensor, output_size: Size, offset: Tensor | None, mask: Tensor | None,
    spatial_scale: float, sampling_ratio: int, gamma: float, deformable_groups: int = 1,
    position_sensitive: bool = False, implementation: str = "auto",
) -> Tensor:
    """What deform_roi_pool and deform_ps_roi_pool share; in the latter each bin has channels of its own."""
    bins = pair(output_size)
    check_settings(op, output_size, spatial_scale, sampling_ratio, deformable_groups)
    check(op, x, boxes, boxes_num, bins, offset, mask, deformable_groups, position_sensitive)
    check_name(IMPLEMENTATIONS, implementation)
    if no_boxes(boxes):  # which Paddle 2.6 cannot compute with; so x still gets its gradient of zeros
        one = one_box(boxes, boxes_num)
        settings = spatial_scale, sampling_ratio, gamma, 1, position_sensitive, implementation
        return pool(op, x, *one, output_size, None, None, *settings)[:0]
    dtype = x.dtype
    x, boxes, offset, mask = (
        None if tensor is None else at_least_float32(tensor) for tensor in (x, _constant(boxes), offset, mask)
    )
    with paddle.amp.auto_cast(enable=False) if paddle.in_dynamic_mode() else contextlib.nullcontext():
        points = bin_points(boxes, bins, offset, spatial_scale, sampling_ratio, gamma)
        groups = 1 if offset is None else deformable_groups
        name = best(x, on_cpu="composed", elsewhere="composed") if implementation == "auto" else implementation
        mean_of_samples = choose(IMPLEMENTATIONS, name)
        y = mean_of_samples(x, *points, _image_of_box(boxes, boxes_num), bins, groups, position_sensitive)
        if mask is not None:
            y = y.reshape([0, deformable_groups, -1, *bins]) * mask.unsqueeze(2)
            y = y.reshape([0, -1, *bins])
    return y.astype(dtype)


def _native(x, point_y, point_x, image, bins, groups, position_sensitive):
    """As `_composed`. What has no offset has the same points for all groups, rows or columns."""
    shape = [point_y.shape[0], groups, *bins, point_y.shape[4]]
    learn = not (point_y.stop_gradient and point_x.stop_gradient)
    points = point_y.expand(shape), point_x.expand(shape)
    return native.run("roi_pooling", x, *points, image.astype("int64"), position_sensitive, learn)


def _composed(x, point_y, point_x, image, bins, groups, position_sensitive):
    """x at every point_y with every point_x of a bin, averaged -> [R, C, kh, kw].

    Every pixel is a row of the channels that are read together, so that the index has one number a sample and pixel:
    with one number a value, as in bilinear_sample, it would be larger than the values.
    """
    height, width = sizes(x)[2:]
    samples = point_y.shape[4]
    maps = bins[0] * bins[1] if position_sensitive else 1
    members = x.shape[1] // (groups * maps)
    rows = x.reshape([0, groups, members, maps, -1]).transpose([0, 4, 1, 3, 2]).reshape([-1, members])
    group = paddle.arange(groups).reshape([groups, 1, 1, 1, 1])
    own_map = paddle.arange(maps).reshape([*bins, 1, 1] if position_sensitive else [1, 1, 1, 1])
    image = image.reshape([-1, 1, 1, 1, 1, 1])
    total = 0
    for index_y, share_y in _neighbours(point_y.unsqueeze(5), height):
        for index_x, share_x in _neighbours(point_x.unsqueeze(4), width):
            share = share_y * share_x  # [R, groups, kh, kw, samples, samples]
            index = (((image * height + index_y) * width + index_x) * groups + group) * maps + own_map
            value = paddle.gather(rows, index.reshape([-1])).reshape([-1, samples**2, members])
            total = total + (value * share.reshape([-1, samples**2, 1])).sum(axis=1)
    y = (total / samples**2).reshape([-1, groups, bins[0] * bins[1], members]).transpose([0, 1, 3, 2])
    return y.reshape([0, groups * members, *bins])


IMPLEMENTATIONS = {"native": _native, "composed": _composed}


def _neighbours(point, size):
    """Both pixels beside each point of one axis and their shares, as roi_align has it: (index, share) twice."""
    near = point.clip(0, size - 1)
    inside = ((point - near).abs() <= 1).astype(point.dtype)
    low = _constant(paddle.floor(near))
    rest = near - low
    low = low.astype("int64").clip(0, size - 1)  # a point that is nan has some index, and its share makes y nan
    return (low, (1 - rest) * inside), ((low + 1).clip(0, size - 1), rest * inside)


def _image_of_box(boxes, boxes_num):
    """The image that each box lies in, [R]."""
    box = paddle.arange(sizes(boxes)[0]).astype(boxes_num.dtype)
    return paddle.searchsorted(paddle.cumsum(boxes_num), box, right=True)


def _constant(tensor):
    """The tensor, through which no gradient flows. In a graph for export a detached tensor shares the memory of its
    source without the graph knowing, which then overwrites the one or the other."""
    return tensor.detach() if paddle.in_dynamic_mode() else tensor


def no_boxes(boxes: Tensor) -> bool:
    """Whether there are none; in a graph for export, which takes them as they come, never."""
    return paddle.in_dynamic_mode() and 0 in boxes.shape[:1]


def one_box(boxes: Tensor, boxes_num: Tensor) -> tuple[Tensor, Tensor]:
    """A box in the first image where there was none, to compute with and to forget."""
    count = paddle.to_tensor([1] + [0] * (boxes_num.shape[0] - 1), dtype=boxes_num.dtype)
    return paddle.zeros([1, 4], boxes.dtype), count


def pair(output_size: Size) -> tuple[int, ...]:
    return (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)


def check_settings(
    op: str, output_size: Size, spatial_scale: float, sampling_ratio: int, deformable_groups: int = 1, version: int = 2,
    modulation: str = "2sigmoid",
) -> None:
    """ValueError where a setting is none, whatever the tensors."""
    sizes = pair(output_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"{op}: output_size {output_size}, expected a positive integer or (vertical, horizontal)")
    if not isinstance(sampling_ratio, int) or sampling_ratio < 1:
        raise ValueError(f"{op}: sampling_ratio {sampling_ratio}, expected a positive integer")
    if not spatial_scale > 0:
        raise ValueError(f"{op}: spatial_scale {spatial_scale}, expected a positive number")
    if deformable_groups < 1:
        raise ValueError(f"{op}: {deformable_groups} deformable groups, expected at least 1")
    if version not in (1, 2):
        raise ValueError(f"{op}: version {version}, expected 1 or 2")
    if modulation not in MODULATION:
        raise ValueError(f"{op}: modulation {modulation!r}, expected one of {list(MODULATION)}")


def check(
    op: str, x: Tensor, boxes: Tensor, boxes_num: Tensor, bins: tuple[int, int], offset: Tensor | None = None,
    mask: Tensor | None = None, deformable_groups: int = 1, position_sensitive: bool = False,
) -> None:
    """ValueError where tensors do not fit."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W], none of them 0")
    channels, maps = x.shape[1], bins[0] * bins[1] if position_sensitive else 1
    if channels % maps:
        raise ValueError(f"{op}: {channels} channels are no multiple of the {bins[0]} x {bins[1]} bins")
    if channels // maps % deformable_groups:
        raise ValueError(f"{op}: {deformable_groups} deformable groups do not divide {channels // maps} channels")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{op}: boxes has shape {list(boxes.shape)}, expected [R, 4]")
    check_floats(op, x=x, boxes=boxes, offset=offset, mask=mask)
    if boxes_num.dtype not in (paddle.int32, paddle.int64):
        raise ValueError(f"{op}: boxes_num is of {str(boxes_num.dtype).rpartition('.')[2]}, expected int32 or int64")
    images, found = x.shape[0], boxes.shape[0]
    for name, tensor, expected in (
        ("boxes_num", boxes_num, [images]),
        ("offset", offset, [found, 2 * deformable_groups, *bins]),
        ("mask", mask, [found, deformable_groups, *bins]),
    ):
        if tensor is not None:
            check_shape(op, name, tensor, expected)
    if paddle.in_dynamic_mode():
        counts = boxes_num.tolist()
        if min(counts) < 0 or sum(counts) != found:
            raise ValueError(f"{op}: boxes_num {counts} does not sum to the {found} boxes")


def check_shape(op: str, name: str, tensor: Tensor, expected: list[int]) -> None:
    """ValueError where a size differs; -1 is one that a graph for export leaves open, or that may be any."""
    shape = list(tensor.shape)
    if len(shape) != len(expected) or any(a != b and -1 not in (a, b) for a, b in zip(shape, expected, strict=True)):
        raise ValueError(f"{op}: {name} has shape {shape}, expected {expected}")


class DeformRoIPool(nn.Layer):
    """Deformable RoI pooling with its own offset branch, v1 (arXiv:1703.06211) or v2 (arXiv:1811.11168).

    x [N, channels, H, W], boxes [R, 4], boxes_num [N] -> [R, channels, kh, kw], as `deform_roi_pool` has them. The
    branch pools the boxes plainly and ends in the fully connected layer `offset`, whose 2 (v1) or 3 (v2) * kh * kw
    outputs hold all dx, all dy, then v2's raw modulation, bins in row-major order. It starts at zero: v1, and v2 with
    modulation "2sigmoid", start as plain RoI pooling; the paper's "sigmoid" starts at half of it. Before it lie fully
    connected layers of `hidden` outputs each, with ReLU: none in v1's paper, two of 1024 in v2's, which start normal
    with deviation 0.01.
    """

    def __init__(
        self, channels: int, output_size: Size, spatial_scale: float = 1.0, sampling_ratio: int = 2, gamma: float = 0.1,
        version: int = 2, modulation: str = "2sigmoid", hidden: Sequence[int] | None = None,
    ):
        super().__init__()
        check_settings(OP, output_size, spatial_scale, sampling_ratio, version=version, modulation=modulation)
        self.channels, self.bins, self.version, self.modulation = channels, pair(output_size), version, modulation
        self.geometry = {"spatial_scale": spatial_scale, "sampling_ratio": sampling_ratio, "gamma": gamma}
        bins = self.bins[0] * self.bins[1]
        if hidden is None:
            hidden = () if version == 1 else (1024, 1024)
        sizes = [channels * bins, *hidden]
        normal = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 0.01))
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.hidden = nn.Sequential()
        for step, (entering, leaving) in enumerate(zip(sizes, hidden, strict=False)):
            self.hidden.add_sublayer(f"fc{step + 1}", nn.Linear(entering, leaving, normal, zero))
            self.hidden.add_sublayer(f"relu{step + 1}", nn.ReLU())
        self.offset = nn.Linear(sizes[-1], (version + 1) * bins, zero, zero)

    def offset_and_mask(self, x: Tensor, boxes: Tensor, boxes_num: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> offset [R, 2, kh, kw] in widths and heights of the box over gamma, mask [R, 1, kh, kw] or None for v1."""
        check_shape(OP, "x", x, [-1, self.channels, -1, -1])
        pooled = deform_roi_pool(x, boxes, boxes_num, self.bins, **self.geometry)
        branch = self.offset(self.hidden(pooled.flatten(1))).reshape([-1, self.version + 1, *self.bins])
        if self.version == 1:
            return branch, None
        return branch[:, :2], MODULATION[self.modulation](branch[:, 2:])

    def forward(self, x: Tensor, boxes: Tensor, boxes_num: Tensor) -> Tensor:
        if no_boxes(boxes):  # so that the branch gets its gradient of zeros
            check(OP, x, boxes, boxes_num, self.bins)
            return self.forward(x, *one_box(boxes, boxes_num))[:0]
        offset, mask = self.offset_and_mask(x, boxes, boxes_num)
        return deform_roi_pool(x, boxes, boxes_num, self.bins, offset, mask, **self.geometry)

    def extra_repr(self) -> str:
        return f"v{self.version}, {self.channels}, output_size={self.bins}, {self.geometry}"
