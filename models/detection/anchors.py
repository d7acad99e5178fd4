"""Anchors: the boxes that a region proposal network starts from (arXiv:1506.01497)."""

import logging
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from ops import box_iou

FITS = 0.5  # of an anchor's IoU; below it hardly anything is learned of an object
MUCH = 0.25  # of all objects: more is a problem
FIRST = 300  # objects that a training is judged by: some steps
log = logging.getLogger("models")


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> list[list[float]]:
    """The anchors of one place, around 0: sides whose product is size^2, height over width is ratio; sizes outermost.

    -> [x1, y1, x2, y2] for each size and ratio. Nothing is rounded.
    """
    anchors = []
    for size in sizes:
        for ratio in ratios:
            width, height = size / ratio**0.5, size * ratio**0.5
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return anchors


def grid_anchors(cell: Sequence[Sequence[float]], height: int, width: int, stride: int) -> Tensor:
    """`cell` around every place (column * stride, row * stride) of a map -> [height * width * A, 4], rows outermost."""
    row = paddle.arange(height, dtype="float32").unsqueeze(1).expand([height, width]) * stride
    column = paddle.arange(width, dtype="float32").unsqueeze(0).expand([height, width]) * stride
    places = paddle.stack([column, row, column, row], axis=-1).reshape([-1, 1, 4])
    return (places + paddle.to_tensor(cell, dtype="float32")).reshape([-1, 4])


class Anchors(nn.Layer):
    """All anchors of a picture: `sizes_of_levels` holds for each level its sizes in pixels of the input image.

    forward(shapes), (height, width) of each level's map -> for each level [height * width * A, 4].
    """

    def __init__(
        self, sizes_of_levels: Sequence[Sequence[float]], ratios: Sequence[float], strides: Sequence[int]
    ):
        super().__init__()
        if len(sizes_of_levels) != len(strides):
            raise ValueError(f"anchor_sizes: {len(sizes_of_levels)} for {len(strides)} levels, expected one a level")
        self.cells = [cell_anchors(sizes, ratios) for sizes in sizes_of_levels]
        self.strides = strides

    def forward(self, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        return _grids(self.cells, shapes, self.strides)

    def best_overlap(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """How well the anchors of a height x width picture fit: boxes [G, 4], G above 0 -> the best IoU of each, [G].

        Objects below the 0.7 of a positive anchor are learned from their best anchors alone, those far below hardly
        at all: anchors of 32 to 512 pixels fit nothing in pictures of 128.
        """
        shapes = [(-(-height // stride), -(-width // stride)) for stride in self.strides]
        return paddle.stack([box_iou(boxes, anchors).max(axis=1) for anchors in self(shapes)]).max(axis=0)


class Fit:
    """Says once, of the first objects that a network learns from, that no anchor fits many of them."""

    def __init__(self):
        self.objects = self.without = 0

    def look(self, overlaps: Tensor) -> None:
        """The IoU [G, A] of an image's G objects, above 0, with all anchors."""
        if self.objects >= FIRST:
            return
        best = overlaps.max(axis=1).numpy()
        self.objects += len(best)
        self.without += int((best < FITS).sum())
        if self.objects >= FIRST and self.without > MUCH * self.objects and paddle.distributed.get_rank() == 0:
            log.warning(
                "no anchor fits %.0f %% of the first %d objects (IoU below %s), which are hardly learned: see "
                "model.anchor_sizes; tools/check_data.py says how large objects are",
                100 * self.without / self.objects, self.objects, FITS,
            )


def _grids(cells, shapes, strides):
    """A function, for where Paddle 2.6 makes a graph of a forward() it knows no zip with `strict`."""
    return [grid_anchors(cell, *shape, stride) for cell, shape, stride in zip(cells, shapes, strides, strict=True)]
