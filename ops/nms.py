"""Non-maximum suppression, on Paddle's kernel, for boxes of any kind and number."""

import paddle
from paddle import Tensor
from paddle.vision.ops import nms as paddle_nms

from ops.boxes import has_area


@paddle.no_grad()
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, categories: Tensor | None = None) -> Tensor:
    """The boxes that no better one of the same category overlaps by more than `iou_threshold`.

    boxes [B, 4] as x1, y1, x2, y2, scores [B], categories int [B] or None -> int64 [kept], by falling score, and among
    equal ones by place. Boxes that are not finite or without area, and scores that are not finite, are never kept:
    Paddle's kernel keeps them, and what comes after it may not survive them.
    Raises ValueError where shapes do not fit or the threshold is not from 0 to 1.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"nms: boxes has shape {list(boxes.shape)}, expected [B, 4]")
    for name, vector in (("scores", scores), ("categories", categories)):
        if vector is not None and list(vector.shape) != [boxes.shape[0]]:
            raise ValueError(f"nms: {name} has shape {list(vector.shape)}, expected [{boxes.shape[0]}]")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"nms: iou_threshold {iou_threshold}, expected a number from 0 to 1")
    nothing = paddle.zeros([0], "int64")
    if boxes.shape[0] == 0:  # which Paddle 2.6 cannot index
        return nothing
    valid = paddle.logical_and(has_area(boxes), paddle.isfinite(scores)).nonzero().flatten()
    if valid.shape[0] == 0:
        return nothing
    order = paddle.gather(valid, _falling(paddle.gather(scores, valid)))
    boxes = paddle.gather(boxes, order)
    if categories is not None:
        boxes = apart(boxes, paddle.gather(categories, order))
    return paddle.gather(order, paddle_nms(boxes, iou_threshold))


def _falling(scores):
    """The order of falling scores, equal ones by place. Paddle 2.6's argsort may swap these, so they sort on the host:
    at most some thousands."""
    return paddle.to_tensor((-scores.astype("float64")).numpy().argsort(kind="stable"), dtype="int64")


def apart(boxes: Tensor, categories: Tensor) -> Tensor:
    """Boxes [B, 4], B above 0, moved so that those of two of the categories [B] cannot overlap; in float64, which moves
    them by no more than that."""
    boxes = boxes.astype("float64")
    low = boxes.min()
    return boxes - low + categories.astype("float64").unsqueeze(1) * (boxes.max() - low + 1)
