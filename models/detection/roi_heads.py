"""The second stage put together: pooling, what a box shows, its mask."""

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from models.detection.box_head import BoxPredictor, box_losses, detect, draw_rois, no_answer
from models.detection.layers import idle
from models.detection.mask_head import MaskHead, mask_loss, mask_probabilities, mask_targets
from models.detection.matching import Objects, joined, shares_of_workers
from models.detection.roi_pooling import RoIPooling, RoIs, concatenate, image_of, some_box
from models.detection.worker_statistics import StatisticsOfWorkers
from ops import SyncBatchNorm


class LastStage:
    """A backbone's c5 as the box head of a C4 network: pooled features [R, C, 14, 14] -> [R, C', 7, 7].

    No layer itself: the stage's parameters are the backbone's, to be counted and saved once.
    """

    def __init__(self, stage: nn.Layer):
        self.stage = stage

    def __call__(self, pooled: Tensor) -> Tensor:
        return self.stage(pooled)

    def parameters(self) -> list[Tensor]:
        return self.stage.parameters()

    def sublayers(self) -> list[nn.Layer]:
        return self.stage.sublayers()


class RoIHeads(nn.Layer):
    """Box and mask branch over maps, a list of [N, C, H, W].

    box_pool and box_head make the features from which the box predictor answers. The mask branch (mask_head None:
    there is none) pools for itself with mask_pool, or, where that is None, shares the features of box_head.
    """

    def __init__(
        self, num_classes: int, *, box_pool: RoIPooling, box_head: nn.Layer | LastStage, box_features: int,
        mask_pool: RoIPooling | None, mask_head: MaskHead | None, mask_size: int, rois_per_image: int, most: int,
        positive_fraction: float = 0.25, score_threshold: float = 0.05, nms_threshold: float = 0.5,
        images_per_worker: int | None = None,
    ):
        super().__init__()
        self.num_classes, self.mask_size, self.images_per_worker = num_classes, mask_size, images_per_worker
        self.box_pool, self.box_head, self.mask_pool, self.mask_head = box_pool, box_head, mask_pool, mask_head
        self.predictor = BoxPredictor(box_features, num_classes)
        self.drawing = {"count": rois_per_image, "positive_fraction": positive_fraction}
        self.answering = {"score_threshold": score_threshold, "nms_threshold": nms_threshold, "most": most}

    def _features(self, maps, rois):
        return self._by_worker(self.box_head, self.box_pool(maps, rois), rois.counts)

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], objects: Sequence[Objects],
        batch: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """{"loss_cls", "loss_box_reg", "loss_mask"}, the last one where there is a mask branch."""
        drawn = draw_rois(proposals, objects, batch["sampling_seed"].tolist(), self.num_classes, **self.drawing)
        if sum(drawn.rois.counts) == 0:
            boxes = idle(self.box_pool, self.box_head, self.predictor)
            losses, features = {"loss_cls": boxes, "loss_box_reg": 0 * boxes}, None
        else:
            features = self._features(maps, drawn.rois)
            shares = paddle.to_tensor(shares_of_workers(drawn.rois.counts, self.images_per_worker))
            losses = box_losses(*self.predictor(features), drawn, shares)
        if self.mask_head is not None:
            losses["loss_mask"] = self._mask_loss(maps, drawn, features, batch)
        return losses

    def _mask_loss(self, maps, drawn, features, batch):
        positive = np.flatnonzero(drawn.classes.numpy() < self.num_classes)
        if len(positive) == 0:
            return idle(*(layer for layer in (self.mask_pool, self.mask_head) if layer is not None))
        counts = np.bincount(image_of(drawn.rois.counts)[positive], minlength=len(drawn.rois.counts)).tolist()
        positive = paddle.to_tensor(positive)
        boxes, classes, owners = (
            paddle.gather(values, positive) for values in (drawn.rois.boxes, drawn.classes, drawn.owners)
        )
        targets = self._targets(batch, owners, boxes, counts)
        shared = paddle.gather(features, positive) if self.mask_pool is None else None
        logits = self._mask_logits(maps, RoIs(boxes, counts), shared)
        shares = paddle.to_tensor(shares_of_workers(counts, self.images_per_worker))
        return mask_loss(logits, classes, targets, shares)

    def _targets(self, batch, owners, boxes, counts):
        width, targets, start = batch["image"].shape[3], [], 0
        for image, count in enumerate(counts):
            if count:
                own = slice(start, start + count)
                targets.append(mask_targets(batch["masks"][image], owners[own], boxes[own], width, self.mask_size))
            start += count
        return paddle.concat(targets)

    def _mask_logits(self, maps, rois, shared=None):
        if shared is None:
            shared = self._features(maps, rois) if self.mask_pool is None else self.mask_pool(maps, rois)
        return self._by_worker(self.mask_head, shared, rois.counts)

    def _by_worker(self, head, features, counts):
        """head(features [R, ...]), in training worker by worker: live batch norm sees the RoIs of one at a time, and
        sync_bn those of all."""
        is_synchronised = any(isinstance(layer, SyncBatchNorm) for layer in head.sublayers())
        if not self.training or is_synchronised or self.images_per_worker in (None, len(counts)):
            return head(features)
        shares = np.reshape(counts, [-1, self.images_per_worker]).sum(axis=1).tolist()
        # the gradient of split is one concatenation; that of each slice would be a tensor as large as the whole
        parts = iter(paddle.split(features, [share for share in shares if share]))
        statistics, outputs = StatisticsOfWorkers(head), []
        for share in shares:
            with statistics.of_one():
                if share:  # else its batch norms have seen nothing
                    outputs.append(head(next(parts)))
        statistics.settle()
        return paddle.concat(outputs)

    def one_box(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the box branch says of some box, whose level does not matter."""
        return self.predictor(self._features(maps, some_box()))

    def one_mask(self, maps: Sequence[Tensor]) -> Tensor:
        """The logits of its masks."""
        return self._mask_logits(maps, some_box())

    def answers(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], sizes: Sequence[Sequence[float]]
    ) -> list[tuple[Tensor, ...]]:
        """For each image (boxes [D, 4], scores [D], classes [D]), then masks [D, S, S] where there is a mask branch."""
        rois = concatenate(proposals)
        if sum(rois.counts) == 0:
            found = [no_answer() for _ in sizes]
        else:
            found = detect(*self.predictor(self._features(maps, rois)), rois, sizes, **self.answering)
        if self.mask_head is None:
            return found
        rois = concatenate([boxes for boxes, _, _ in found])
        if sum(rois.counts) == 0:
            masks = paddle.zeros([0, self.mask_size, self.mask_size])
        else:
            classes = joined([classes for _, _, classes in found])
            masks = mask_probabilities(self._mask_logits(maps, rois), classes)
        starts = [sum(rois.counts[:image]) for image in range(len(sizes))]
        return [
            (*answer, masks[start : start + count])
            for answer, start, count in zip(found, starts, rois.counts, strict=True)
        ]
