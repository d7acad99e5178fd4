"""Mask R-CNN (He et al., arXiv:1703.06870), and without masks Faster R-CNN (arXiv:1506.01497)."""

from collections.abc import Callable, Iterator, Mapping

import paddle
from paddle import Tensor, nn

from models.detection.matching import real_objects
from models.detection.roi_heads import RoIHeads
from models.detection.rpn import RPN
from models.resnet import ResNet


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

    `neck` makes maps of the backbone's stages up to `last_stage`.
    """

    def __init__(self, backbone: ResNet, neck: nn.Layer, rpn: RPN, heads: RoIHeads, *, last_stage: str):
        super().__init__()
        self.backbone, self.neck, self.rpn, self.heads = backbone, neck, rpn, heads
        self.last_stage = last_stage

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = batch["image"]
        sizes = batch["size"].tolist() if "size" in batch else [image.shape[2:]] * image.shape[0]
        maps = self.neck(self.backbone(image, last=self.last_stage))
        logits, deltas = self.rpn(maps)
        anchors = self.rpn.anchors([level.shape[2:] for level in maps])
        proposals = self.rpn.propose(logits, deltas, anchors, sizes)
        if not self.training:
            return self._padded(self.heads.answers(maps, proposals, sizes), sizes, batch.get("original_size"))
        objects = real_objects(batch)
        losses = self.rpn.losses(logits, deltas, anchors, objects, batch["sampling_seed"].tolist())
        losses.update(self.heads.losses(maps, proposals, objects, batch))
        return {"loss": sum(losses.values()), **losses}

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


def _pad(values, length):
    """[D, ...] -> [length, ...], zeros behind."""
    missing = length - values.shape[0]
    return paddle.concat([values, paddle.zeros([missing, *values.shape[1:]], values.dtype)]) if missing else values
