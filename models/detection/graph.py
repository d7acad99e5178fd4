"""The network of a detector as a graph can hold it: of operators alone, for one picture of any size.

`MaskRCNN` looks at numbers on its way: how many boxes there are, which level each belongs to. A graph cannot, and where
nothing is left, Paddle 2.6 cannot go on. So here all that is chosen from keeps one box that is never an answer.
"""

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F
from paddle.vision.ops import nms

from models.detection.box_head import WEIGHTS
from models.detection.mask_head import mask_probabilities
from models.detection.mask_rcnn import MULTIPLE, MaskRCNN
from models.detection.roi_pooling import RoIPooling
from ops import box_area, clip_boxes, decode_boxes, has_area, roi_align
from ops.implementation import sizes
from ops.nms import apart


class DetectionGraph(nn.Layer):
    """image float32 [1, C, H, W] without padding -> boxes [D, 4] in pixels of it, scores [D], classes int64 [D] and, of
    a network with masks, masks [D, S, S]: what `model` answers in evaluation, the best first; D may be 0."""

    input_shape = (1, 3, None, None)

    def __init__(self, model: MaskRCNN):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return _answer(self.model, image)


# Functions: what Paddle 2.6 finds in a layer it reads as a graph's source, and does not know a zip with `strict`.


def _answer(model, image):
    heads, size = model.heads, sizes(image)[2:]
    maps = model.neck(model.backbone(_padded(image, *size), last=model.last_stage))
    rois = _proposals(model.rpn, maps, size)
    logits, deltas = heads.predictor(heads.box_head(_pooled(heads.box_pool, maps, rois)))
    boxes, scores, classes = _chosen(logits, deltas, rois, size, **heads.answering)
    if heads.mask_head is None:
        return boxes[:-1], scores[:-1], classes[:-1]
    if heads.mask_pool is None:
        features = heads.box_head(_pooled(heads.box_pool, maps, boxes))
    else:
        features = _pooled(heads.mask_pool, maps, boxes)
    masks = mask_probabilities(heads.mask_head(features), classes)
    return boxes[:-1], scores[:-1], classes[:-1], masks[:-1]


def _padded(image, height, width):
    """With sides that are multiples of MULTIPLE: padded by the most that can be missing, a plain number, then cut."""
    most = MULTIPLE - 1
    image = F.pad(image, [0, most, 0, most])
    return image[:, :, : (height + most) // MULTIPLE * MULTIPLE, : (width + most) // MULTIPLE * MULTIPLE]


def _proposals(rpn, maps, size):
    """[P, 4], P above 0: those of RPN.propose, and where there are too few some without area."""
    all_boxes, all_scores = [], []
    anchors = rpn.anchors([sizes(level)[2:] for level in maps])
    for score, delta, anchor in zip(*rpn(maps), anchors, strict=True):
        score, place = _best(score[0], rpn.before_nms[1])
        boxes = clip_boxes(decode_boxes(paddle.gather(delta[0], place), paddle.gather(anchor, place)), *size)
        kept = nms(boxes, rpn.nms_threshold)  # the best come first
        all_boxes.append(paddle.gather(boxes, kept))
        all_scores.append(paddle.gather(score, kept))
    boxes, scores = paddle.concat(all_boxes), paddle.concat(all_scores)
    scores = paddle.where(has_area(boxes), scores, paddle.full_like(scores, -1e9))
    return paddle.gather(boxes, _best(scores, rpn.after_nms[1])[1])


def _chosen(logits, deltas, rois, size, *, score_threshold, nms_threshold, most):
    """boxes [D + 1, 4], scores, classes: those of `detect`, and one that is no answer."""
    scores = F.softmax(logits, axis=1)[:, :-1]
    boxes = clip_boxes(decode_boxes(deltas, rois.unsqueeze(1), WEIGHTS), *size)
    valid = paddle.logical_and(has_area(boxes), has_area(rois).unsqueeze(1))
    likely = paddle.logical_and(scores > score_threshold, valid).nonzero()
    likely = paddle.concat([likely, paddle.zeros([1, 2], "int64")])
    boxes, scores, classes = paddle.gather_nd(boxes, likely), paddle.gather_nd(scores, likely), likely[:, 1]
    real = paddle.arange(sizes(scores)[0]) < sizes(scores)[0] - 1
    scores = paddle.where(real, scores, paddle.zeros_like(scores))
    order = scores.argsort(descending=True)  # what is no answer comes last,
    boxes, scores, classes = (paddle.gather(values, order) for values in (boxes, scores, classes))
    kept = nms(apart(boxes, paddle.where(scores > 0, classes, paddle.full_like(classes, -1))), nms_threshold)
    kept = paddle.concat([kept[:-1][:most], kept[-1:]])  # and nothing overlaps it
    return tuple(paddle.gather(values, kept) for values in (boxes, scores, classes))


def _best(scores, most):
    """The highest of scores [A], A above 0, falling, `most` of them where there are so many; and their places."""
    count = sizes(scores)[0]
    count = min(count, most) if isinstance(count, int) else paddle.minimum(count, paddle.to_tensor(most, count.dtype))
    return paddle.topk(scores, count)


def _pooled(pool: RoIPooling, maps, boxes):
    """`pool` for boxes [R, 4] of one picture, R above 0. Every level pools one box more, for it may have none."""
    levels = len(pool.strides)
    if levels == 1:
        return _pool(pool, 0, maps[0], boxes)
    canonical_size, canonical_level = pool.canonical
    sides = box_area(boxes).clip(min=0).sqrt().astype("float64")
    level = paddle.floor(canonical_level + paddle.log2(sides / canonical_size + 1e-8)).clip(0, levels - 1)
    pooled, places = [], []
    for number in range(levels):
        own = (level == number).nonzero().flatten()
        places.append(own)
        some = paddle.concat([paddle.gather(boxes, own), paddle.zeros([1, 4])])
        pooled.append(_pool(pool, number, maps[number], some)[:-1])
    return paddle.gather(paddle.concat(pooled), paddle.concat(places).argsort())


def _pool(pool, level, features, boxes):
    count = paddle.shape(boxes)[:1].astype("int32")
    if pool.levels:
        return pool.levels[level](features, boxes, count)
    return roi_align(features, boxes, count, pool.output_size, 1 / pool.strides[level], pool.sampling_ratio)
