"""RoIAlign (He et al., arXiv:1703.06870), on Paddle's kernel, for boxes of any kind and number."""

from collections.abc import Sequence

import paddle
from paddle import Tensor
from paddle.vision.ops import roi_align as paddle_roi_align

from ops.deform_roi_pool import Size, no_boxes, one_box, pair
from ops.implementation import at_least_float32, check_floats

FURTHEST = 16  # sizes of the map that a box may reach beyond it: the kernel samples every pixel of a box


def roi_align(
    x: Tensor, boxes: Tensor, boxes_num: Sequence[int] | Tensor, output_size: Size, spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
) -> Tensor:
    """Average of x over kh x kw bins of every box, sampled bilinearly with coordinates aligned by half a pixel.

    x [N, C, H, W]; boxes [R, 4] as x1, y1, x2, y2 in pixels of the input image, those of the first image first;
    boxes_num, how many each image has, N integers or a tensor [N] -> [R, C, kh, kw] in x's dtype. output_size is
    kh = kw or (kh, kw); spatial_scale is x's size over the input image's. Each bin takes sampling_ratio^2 samples, or
    with 0 as many as it has pixels. No gradient reaches the boxes. A box without area is sampled at its corner.

    Paddle's kernel aborts the process, reads beyond its memory or answers nan for some boxes and counts. Here all of
    these raise ValueError: boxes_num that does not sum to R, boxes that are not finite or lie beyond 16 sizes of the
    map, shapes and dtypes that do not fit. On a GPU the check of the boxes waits for them.
    """
    settings = output_size, spatial_scale, sampling_ratio
    if not paddle.in_dynamic_mode():  # a graph for export takes them as they come; boxes_num is a tensor there
        return paddle_roi_align(x, _with_area(boxes), boxes_num, *settings, aligned=True)
    counts = boxes_num.tolist() if isinstance(boxes_num, paddle.Tensor) else list(boxes_num)
    boxes = at_least_float32(boxes)
    _check(x, boxes, counts, pair(output_size), spatial_scale, sampling_ratio)
    if no_boxes(boxes):
        box, count = one_box(boxes, paddle.to_tensor(counts, dtype="int32"))
        return roi_align(x, box, count, *settings)[:0]
    dtype, x = x.dtype, at_least_float32(x)
    boxes = _with_area(boxes.detach().astype(x.dtype))
    counts = paddle.to_tensor(counts, dtype="int32")
    return paddle_roi_align(x, boxes, counts, *settings, aligned=True).astype(dtype)


def _with_area(boxes):
    """boxes with sides of at least a thousandth pixel, more where float32 is coarser: in a side of 0 the kernel takes
    0 samples and divides by their number."""
    low = boxes[:, :2]
    return paddle.concat([low, paddle.maximum(boxes[:, 2:], low + 1e-3 + 1e-5 * low.abs())], axis=1)


def _check(x, boxes, counts, bins, spatial_scale, sampling_ratio):
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"roi_align: x has shape {list(x.shape)}, expected [N, C, H, W], none of them 0")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"roi_align: boxes has shape {list(boxes.shape)}, expected [R, 4]")
    check_floats("roi_align", x=x, boxes=boxes)
    if len(bins) != 2 or not all(isinstance(size, int) and size > 0 for size in bins):
        raise ValueError(f"roi_align: output_size {bins}, expected a positive integer or (vertical, horizontal)")
    if not spatial_scale > 0 or not isinstance(sampling_ratio, int) or sampling_ratio < 0:
        raise ValueError(
            f"roi_align: spatial_scale {spatial_scale} and sampling_ratio {sampling_ratio}, expected a positive number "
            "and an integer of 0 or more"
        )
    images, found = x.shape[0], boxes.shape[0]
    if len(counts) != images or min(counts) < 0 or sum(counts) != found:
        raise ValueError(f"roi_align: boxes_num {counts}, expected {images} counts that sum to the {found} boxes")
    furthest = (1 + FURTHEST) * max(x.shape[2:]) / spatial_scale
    if found and not bool((boxes.abs() <= furthest).all()):  # nan is not
        place = int((boxes.abs() <= furthest).all(axis=1).astype("int32").argmin())
        raise ValueError(f"roi_align: box {place} is {boxes[place].tolist()}, expected numbers within +-{furthest:g}")
