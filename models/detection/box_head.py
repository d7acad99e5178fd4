"""What a box shows and where its object really ends: the second stage of Faster R-CNN (arXiv:1506.01497)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from models.detection.layers import Convolutions, Normal, linear, xavier
from models.detection.matching import Objects, joined, match, sample
from models.detection.roi_pooling import RoIs
from models.norm import Normalization
from ops import box_iou, clip_boxes, decode_boxes, encode_boxes, nms

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the deltas, which are some tenths: so they have about the deviation of 1


class Drawn(NamedTuple):
    """The RoIs that a step learns from. classes int64 [R], the number of classes for background; owners int64 [R], the
    object of each among its image's padded ones, and its box [R, 4]; both mean nothing for background."""

    rois: RoIs
    classes: paddle.Tensor
    owners: paddle.Tensor
    owner_boxes: paddle.Tensor


@paddle.no_grad()
def draw_rois(
    proposals: Sequence[paddle.Tensor], objects: Sequence[Objects], seeds: Sequence[int], num_classes: int, *,
    count: int, positive_fraction: float, positive_from: float = 0.5,
) -> Drawn:
    """At most `count` of each image's proposals and objects, at most that fraction of them positive: whose IoU with
    some object is at least `positive_from`. All lists are of images; `seeds` decide which are drawn."""
    parts = []
    for boxes, found, seed in zip(proposals, objects, seeds, strict=True):
        boxes = joined([boxes, found.boxes])
        total, known = boxes.shape[0], found.boxes.shape[0]
        if total == 0 or known == 0:
            label, owner = paddle.zeros([total], "int32"), paddle.zeros([total], "int64")
            known_as = owner, owner, paddle.zeros([total, 4])
        else:
            owner, label = match(box_iou(found.boxes, boxes), positive_from, positive_from)
            known_as = (paddle.gather(of_objects, owner) for of_objects in (found.classes, found.places, found.boxes))
        positive, negative = sample(label.numpy(), count, positive_fraction, seed, 1)
        chosen = paddle.to_tensor(np.concatenate([positive, negative]), dtype="int64")
        boxes, classes, places, owner_boxes = (paddle.gather(values, chosen) for values in (boxes, *known_as))
        background = paddle.full([len(negative)], num_classes, "int64")
        parts.append((boxes, joined([classes[: len(positive)], background]), places, owner_boxes))
    counts = [part[0].shape[0] for part in parts]
    boxes, classes, places, owner_boxes = (joined(values) for values in zip(*parts, strict=True))
    return Drawn(RoIs(boxes, counts), classes, places, owner_boxes)


class TwoLinear(nn.Layer):
    """"2fc": pooled features [R, C, k, k] -> [R, features] by two fully connected layers with ReLU."""

    def __init__(self, channels: int, pool_size: int, features: int):
        super().__init__()
        entering = channels * pool_size**2
        self.fc1, self.fc2 = linear(entering, features, xavier(entering)), linear(features, features, xavier(features))

    def forward(self, pooled: paddle.Tensor) -> paddle.Tensor:
        return F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))


class FourConvolutionsOneLinear(nn.Layer):
    """"4conv1fc": four 3x3 convolutions with norm and ReLU, one fully connected layer with ReLU (arXiv:1803.08494)."""

    def __init__(
        self, channels: int, pool_size: int, features: int, *, conv_channels: int, norm: Normalization,
        bias: bool,
    ):
        super().__init__()
        self.convs = Convolutions(4, channels, conv_channels, norm, bias)
        entering = conv_channels * pool_size**2
        self.fc1 = linear(entering, features, xavier(entering))

    def forward(self, pooled: paddle.Tensor) -> paddle.Tensor:
        return F.relu(self.fc1(self.convs(pooled).flatten(1)))


class BoxPredictor(nn.Layer):
    """features [R, C], or [R, C, k, k] whose mean is taken -> logits [R, classes + 1], background last, and deltas
    [R, classes, 4]."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.logits = linear(channels, num_classes + 1, Normal(0.0, 0.01))
        self.deltas = linear(channels, 4 * num_classes, Normal(0.0, 0.001))

    def forward(self, features: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        if features.ndim == 4:
            features = features.mean(axis=[2, 3])
        deltas = self.deltas(features).astype("float32")
        return self.logits(features).astype("float32"), deltas.reshape([0, -1, 4])


def box_losses(
    logits: paddle.Tensor, deltas: paddle.Tensor, drawn: Drawn, shares: paddle.Tensor
) -> dict[str, paddle.Tensor]:
    """{"loss_cls", "loss_box_reg"}, each RoI with its weight in `shares` [R]: the boxes' loss, too, is over all RoIs,
    not over the positive ones alone."""
    crossed = F.cross_entropy(logits, drawn.classes, reduction="none").flatten()
    located = 0 * deltas.sum()  # without positives the graph stays whole; and one nan anywhere is seen
    positive = (drawn.classes < deltas.shape[1]).nonzero().flatten()
    if positive.shape[0]:
        classes, boxes, goals, weights = (
            paddle.gather(values, positive)
            for values in (drawn.classes, drawn.rois.boxes, drawn.owner_boxes, shares)
        )
        found = paddle.gather(deltas.reshape([-1, 4]), positive * deltas.shape[1] + classes)
        away = F.l1_loss(found, encode_boxes(goals, boxes, WEIGHTS), reduction="none").sum(axis=1)
        located = located + (away * weights).sum()
    return {"loss_cls": (crossed * shares).sum(), "loss_box_reg": located}


@paddle.no_grad()
def detect(
    logits: paddle.Tensor, deltas: paddle.Tensor, rois: RoIs, sizes: Sequence[Sequence[float]], *,
    score_threshold: float, nms_threshold: float, most: int,
) -> list[tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]]:
    """-> for each image (boxes [D, 4], scores [D], classes int64 [D]), the best first, at most `most`.

    A box may be several classes' answer, each above the threshold and not suppressed by better ones of its class.
    Boxes lie inside the image's (height, width) of `sizes`.
    """
    scores = F.softmax(logits, axis=1)[:, :-1]
    boxes = decode_boxes(deltas, rois.boxes.unsqueeze(1), WEIGHTS)
    answers, start = [], 0
    for count, size in zip(rois.counts, sizes, strict=True):
        own = slice(start, start + count)
        answers.append(_best(scores[own], boxes[own], size, score_threshold, nms_threshold, most))
        start += count
    return answers


def _best(scores, boxes, size, score_threshold, nms_threshold, most):
    likely = (scores > score_threshold).nonzero() if scores.shape[0] else paddle.zeros([0, 2], "int64")
    if likely.shape[0] == 0:
        return no_answer()
    classes = likely[:, 1]
    boxes, scores = clip_boxes(paddle.gather_nd(boxes, likely), *size), paddle.gather_nd(scores, likely)
    kept = nms(boxes, scores, nms_threshold, classes)[:most]
    if kept.shape[0] == 0:
        return no_answer()
    return tuple(paddle.gather(values, kept) for values in (boxes, scores, classes))


def no_answer() -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    return paddle.zeros([0, 4]), paddle.zeros([0]), paddle.zeros([0], "int64")
