"""Boxes [..., 4] as x1, y1, x2, y2 in pixels: 0 is the outer edge of the first pixel, so a width is x2 - x1."""

import math
from collections.abc import Sequence

import paddle
from paddle import Tensor

LARGEST_GROWTH = math.log(1000 / 16)  # of a side in one decoding; a network not yet trained could ask for infinity


def box_area(boxes: Tensor) -> Tensor:
    """boxes [..., 4] -> [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def has_area(boxes: Tensor, smallest_side: float = 0.0) -> Tensor:
    """Whether all four numbers are finite and both sides longer than `smallest_side`: boxes [..., 4] -> bool [...]."""
    longer = ((boxes[..., 2:] - boxes[..., :2]) > smallest_side).all(axis=-1)
    return paddle.logical_and(longer, paddle.isfinite(boxes).all(axis=-1))


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every pair: boxes [A, 4], others [B, 4] -> [A, B], A and B above 0.

    Boxes without area overlap nothing: 0.
    """
    sides = []
    for low, high in ((0, 2), (1, 3)):
        start = paddle.maximum(boxes[:, low].unsqueeze(1), others[:, low])
        sides.append((paddle.minimum(boxes[:, high].unsqueeze(1), others[:, high]) - start).clip(min=0))
    intersection = sides[0] * sides[1]
    union = box_area(boxes).unsqueeze(1) + box_area(others) - intersection
    return paddle.where(intersection > 0, intersection / union, paddle.zeros_like(union))


def clip_boxes(boxes: Tensor, height: float | Tensor, width: float | Tensor) -> Tensor:
    """boxes [..., 4] with every corner moved into the picture; height and width are numbers or [...]."""
    limits = [paddle.to_tensor(limit, dtype=boxes.dtype) for limit in (width, height)]
    corners = [
        paddle.minimum(boxes[..., axis].clip(min=0), limits[axis % 2].expand_as(boxes[..., axis])) for axis in range(4)
    ]
    return paddle.stack(corners, axis=-1)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """How to come from anchors to boxes, both [..., 4] with area -> [..., 4] of weights * (dx, dy, dw, dh).

    dx and dy are in widths and heights of the anchor, dw and dh logarithms of the sides' ratio (arXiv:1311.2524).
    """
    size, anchor_size = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
    moved = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2 / anchor_size
    scaled = paddle.log(size / anchor_size)
    return paddle.concat([moved, scaled], axis=-1) * paddle.to_tensor(weights, dtype=boxes.dtype)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """The inverse of `encode_boxes`, in which no side grows by more than 1000 / 16; shapes broadcast."""
    deltas = deltas / paddle.to_tensor(weights, dtype=deltas.dtype)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = paddle.exp(deltas[..., 2:].clip(max=LARGEST_GROWTH)) * size / 2
    return paddle.concat([centre - half, centre + half], axis=-1)
