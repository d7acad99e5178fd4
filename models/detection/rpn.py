"""Region proposal network (Ren et al., arXiv:1506.01497): where objects might be, whatever their class."""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from models.detection.anchors import Anchors, Fit
from models.detection.layers import Normal, convolution
from models.detection.matching import Objects, match, sample
from ops import box_iou, clip_boxes, decode_boxes, encode_boxes, nms

BCE = F.binary_cross_entropy_with_logits


class RPN(nn.Layer):
    """maps, a list of [N, C, H, W], one a level -> logits [N, A_l] and deltas [N, A_l, 4] of each level's anchors.

    A 3x3 convolution with ReLU, then two of 1x1, shared by all levels; no norm in any of the published variants.
    Anchors are ordered by row, column, then size and ratio. `anchors` makes them (see `Anchors`). Proposals are kept
    as `before_nms` and `after_nms` say, (in training, in evaluation): the best of each level, then of each image.
    """

    def __init__(
        self, channels: int, anchors: Anchors, *, before_nms: tuple[int, int], after_nms: tuple[int, int],
        nms_threshold: float = 0.7, negative_below: float = 0.3, positive_from: float = 0.7,
        anchors_per_image: int = 256, positive_fraction: float = 0.5,
    ):
        super().__init__()
        self.anchors, self.fit, self.before_nms, self.after_nms = anchors, Fit(), before_nms, after_nms
        self.nms_threshold, self.thresholds = nms_threshold, (negative_below, positive_from)
        self.anchors_per_image, self.positive_fraction = anchors_per_image, positive_fraction
        start, places = Normal(0.0, 0.01), len(anchors.cells[0])
        self.conv = convolution(channels, channels, 3, start)
        self.logits = convolution(channels, places, 1, start)
        self.deltas = convolution(channels, 4 * places, 1, start)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = [], []
        for level in maps:
            hidden = F.relu(self.conv(level))
            images = level.shape[0]
            logits.append(self.logits(hidden).astype("float32").transpose([0, 2, 3, 1]).reshape([images, -1]))
            deltas.append(self.deltas(hidden).astype("float32").transpose([0, 2, 3, 1]).reshape([images, -1, 4]))
        return logits, deltas

    @paddle.no_grad()
    def propose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor],
        sizes: Sequence[Sequence[float]],
    ) -> list[Tensor]:
        """-> for each image the best boxes [P, 4] by falling score, inside its (height, width) of `sizes`.

        Boxes without area or that are not finite are none of them, so that P may be 0.
        """
        before, after = (counts[0 if self.training else 1] for counts in (self.before_nms, self.after_nms))
        best = [paddle.topk(level, min(before, level.shape[1]), axis=1) for level in logits]
        proposals = []
        for image, size in enumerate(sizes):
            boxes, scores = [], []
            for (score, place), delta, anchor in zip(best, deltas, anchors, strict=True):
                place = place[image]
                box = decode_boxes(paddle.gather(delta[image], place), paddle.gather(anchor, place))
                box = clip_boxes(box, *size)
                kept = nms(box, score[image], self.nms_threshold)
                if kept.shape[0]:
                    boxes.append(paddle.gather(box, kept))
                    scores.append(paddle.gather(score[image], kept))
            if boxes:
                boxes, scores = paddle.concat(boxes), paddle.concat(scores)
                boxes = paddle.gather(boxes, paddle.topk(scores, min(after, scores.shape[0]))[1])
            else:
                boxes = paddle.zeros([0, 4])
            proposals.append(boxes)
        return proposals

    def losses(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor],
        objects: Sequence[Objects], seeds: Sequence[int],
    ) -> dict[str, Tensor]:
        """{"loss_rpn_cls", "loss_rpn_loc"}: sums over the drawn anchors, divided by the number that ought to be drawn.

        `objects` are those of each image; `seeds` decide which anchors are drawn.
        """
        logits, deltas, anchors = paddle.concat(logits, 1), paddle.concat(deltas, 1), paddle.concat(anchors)
        images, count = logits.shape
        chosen, targets, places, goals = [], [], [], []
        for image, (found, seed) in enumerate(zip(objects, seeds, strict=True)):
            positive, negative, boxes = self._draw(anchors, found, seed)
            for drawn, target in ((positive, 1.0), (negative, 0.0)):
                chosen.append(drawn + image * count)
                targets.append(np.full(len(drawn), target, "float32"))
            if len(positive):
                drawn = paddle.to_tensor(positive)
                places.append(drawn + image * count)
                goals.append(encode_boxes(boxes, paddle.gather(anchors, drawn)))
        chosen = paddle.to_tensor(np.concatenate(chosen), dtype="int64")
        nominal = self.anchors_per_image * images
        classified = BCE(
            paddle.gather(logits.flatten(), chosen), paddle.to_tensor(np.concatenate(targets)), reduction="sum"
        )
        located = 0 * deltas.sum()  # without positives the graph stays whole; and one nan anywhere is seen
        if places:
            found = paddle.gather(deltas.reshape([-1, 4]), paddle.concat(places))
            located = located + F.l1_loss(found, paddle.concat(goals), reduction="sum")
        return {"loss_rpn_cls": classified / nominal, "loss_rpn_loc": located / nominal}

    @paddle.no_grad()
    def _draw(self, anchors, objects, seed):
        """Places of positive and of negative anchors (NumPy), and the boxes [positive, 4] that the former look for."""
        total = anchors.shape[0]
        if objects.boxes.shape[0] == 0:
            label, owner = paddle.zeros([total], "int32"), None
        else:
            overlaps = box_iou(objects.boxes, anchors)
            self.fit.look(overlaps)
            owner, label = match(overlaps, *self.thresholds, best_of_each=True)
        positive, negative = sample(label.numpy(), self.anchors_per_image, self.positive_fraction, seed, 0)
        if len(positive) == 0:
            return positive, negative, None
        return positive, negative, paddle.gather(objects.boxes, paddle.gather(owner, paddle.to_tensor(positive)))
