"""Mask R-CNN (He et al., arXiv:1703.06870), and without masks Faster R-CNN (arXiv:1506.01497)."""

from collections.abc import Callable, Iterator, Mapping

import paddle
from paddle import Tensor, nn

from models.detection.matching import real_objects
from models.detection.roi_heads import RoIHeads
from models.detection.rpn import RPN
from models.resnet import ResNet

MULTIPLE = 32  # of which a padded side is one; data.detection.batch pads to the same


class MaskRCNN(nn.Layer):
    """Called with a batch dict of N images; H and W are those of the padded image.

    Always
      image          float [N, 3, H, W], padded on the right and at the bottom
      size           [N, 2], height and width of each image without padding; in evaluation without it H and W
    In evaluation
      original_size  [N, 2], those of the picture before it was resized; without it `size`
    In training, objects padded to the M of the richest image
      boxes          float [N, M, 4] as x1, y1, x2, y2 in pixels of the resized image, edges from 0 to width
      classes        int64 [N, M], from 0
      masks          uint8 [N, M, H, ceil(W / 8)], bits packed as `pack_masks` does: 13 MB for 100 objects in 800 x 1333
                     pixels; not asked for without a mask branch
      objects        int64 [N], how many are real
      crowd          bool [N, M], optional: regions that are no object; nothing is learned from them
      sampling_seed  int64 [N], 0 or more: decides which anchors and RoIs are drawn in this image and step. Drawn from
                     (seed, step, image) it makes the result independent of workers, passes and processes.
    Objects whose box has no area are left out, whatever `objects` says.

    Training returns scalars: `loss`, the sum of `loss_rpn_cls`, `loss_rpn_loc`, `loss_cls`, `loss_box_reg` and
    `loss_mask`, each the average of what every worker of `images_per_worker` images would compute. Evaluation returns
    a dict of answers padded to the D of `detections_per_image`, the best first: `objects` int64 [N], how many are
    real; `boxes` [N, D, 4] in pixels of the original picture; `scores` [N, D]; `classes` int64 [N, D], and
    `masks` float32 [N, D, S, S], probabilities over the box, for `paste_mask`.

    Padding is seen: group norm averages over it, convolutions find its edge. So no more is left than is needed. In
    evaluation each image has its own sides, rounded up to MULTIPLE, and so the same answer whatever shares its batch.
    In training all have those of the largest image, as each of Detectron's GPUs pads its own, and it does not matter
    what larger batch a pass was cut out of.

    `neck` makes maps of the backbone's stages up to `last_stage`.
    """

    def __init__(self, backbone: ResNet, neck: nn.Layer, rpn: RPN, heads: RoIHeads, *, last_stage: str):
        super().__init__()
        self.backbone, self.neck, self.rpn, self.heads = backbone, neck, rpn, heads
        self.last_stage = last_stage

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = batch["image"]
        sizes = batch["size"].tolist() if "size" in batch else [image.shape[2:]] * image.shape[0]
        return self._losses(batch, sizes) if self.training else self._answers(batch, sizes)

    def _first_stage(self, image, sizes):
        """(maps, what the RPN says of their anchors and these, proposals of each image)."""
        maps = self.neck(self.backbone(image, last=self.last_stage))
        logits, deltas = self.rpn(maps)
        anchors = self.rpn.anchors([level.shape[2:] for level in maps])
        return maps, (logits, deltas, anchors), self.rpn.propose(logits, deltas, anchors, sizes)

    def _losses(self, batch, sizes):
        height, width = _rounded_up(map(max, zip(*sizes, strict=True)))
        batch = {**batch, "image": _cut(batch["image"], height, width)}
        if "masks" in batch:
            batch["masks"] = _cut(batch["masks"], height, width // 8)
        maps, said, proposals = self._first_stage(batch["image"], sizes)
        objects = real_objects(batch)
        losses = self.rpn.losses(*said, objects, batch["sampling_seed"].tolist())
        losses.update(self.heads.losses(maps, proposals, objects, batch))
        return {"loss": sum(losses.values()), **losses}

    def _answers(self, batch, sizes):
        rows_of, answers = {}, {}
        for row, size in enumerate(sizes):
            rows_of.setdefault(_rounded_up(size), []).append(row)
        for size, rows in rows_of.items():
            image, own = _cut(batch["image"], *size), [sizes[row] for row in rows]
            if len(rows_of) > 1:
                image = paddle.gather(image, paddle.to_tensor(rows))
            maps, _, proposals = self._first_stage(image, own)
            answers.update(zip(rows, self.heads.answers(maps, proposals, own), strict=True))
        return self._padded([answers[row] for row in range(len(sizes))], sizes, batch.get("original_size"))

    def parts(self, image: Tensor) -> Iterator[tuple[int, Callable[[], object]]]:
        """(how often an image passes it at most, a function that runs it once) of each part, for image [1, 3, H, W].

        Boxes and masks are as many as there can be in evaluation: how many there are, weights and images decide.
        """
        maps = []
        yield 1, lambda: maps.extend(self.neck(self.backbone(image, last=self.last_stage)))
        yield 1, lambda: self.rpn(maps)
        yield self.rpn.after_nms[1], lambda: self.heads.one_box(maps)
        if self.heads.mask_head is not None:
            yield self.heads.answering["most"], lambda: self.heads.one_mask(maps)

    def _padded(self, answers, sizes, original_sizes):
        """The answers of all images in one dict, boxes in pixels of the original pictures."""
        originals = sizes if original_sizes is None else original_sizes.tolist()
        most = self.heads.answering["most"]
        images = []
        for answer, (height, width), (tall, wide) in zip(answers, sizes, originals, strict=True):
            vertical, horizontal = tall / height, wide / width  # rounding made them differ
            boxes, *rest = (_pad(values, most) for values in answer)
            boxes = boxes * paddle.to_tensor([horizontal, vertical, horizontal, vertical], dtype=boxes.dtype)
            images.append([boxes, *rest])
        names = ("boxes", "scores", "classes", "masks")
        padded = {name: paddle.stack(values) for name, values in zip(names, zip(*images, strict=True), strict=False)}
        return {"objects": paddle.to_tensor([len(answer[0]) for answer in answers], dtype="int64"), **padded}


def _rounded_up(size):
    height, width = (-(-int(side) // MULTIPLE) * MULTIPLE for side in size)
    return height, width


def _cut(padded, height, width):
    """[N, M, H, W] without what lies beyond."""
    is_larger = padded.shape[2] > height or padded.shape[3] > width
    return padded[:, :, :height, :width] if is_larger else padded


def _pad(values, length):
    """[D, ...] -> [length, ...], zeros behind."""
    missing = length - values.shape[0]
    return paddle.concat([values, paddle.zeros([missing, *values.shape[1:]], values.dtype)]) if missing else values
