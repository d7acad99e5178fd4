"""What a picture shows: boxes, classes, silhouettes and crowds, and how they move with the picture.

Boxes are x1, y1, x2, y2 in pixels, edges from 0 to the picture's width and height: a box around the column c alone goes
from c to c + 1, and its mirror image in a picture W wide from W - c - 1 to W - c.
"""

from dataclasses import dataclass, replace

import numpy as np

SMALLEST_SIDE = 1e-5  # pixels; a box that is narrower or lower has no area, and its logarithm no end


@dataclass(frozen=True)
class Objects:
    """M objects of a picture of H x W pixels: boxes float32 [M, 4]; classes int64 [M]; masks bool [M, H, W], or None
    where a set has none; crowd bool [M], regions of many objects that nobody told apart."""

    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def chosen(self, which: np.ndarray) -> "Objects":
        """Those of a bool [M], or of indices, in that order."""
        masks = None if self.masks is None else self.masks[which]
        return Objects(self.boxes[which], self.classes[which], masks, self.crowd[which])


def flipped(objects: Objects, width: int) -> Objects:
    """As a mirror shows a picture of this width: left is right."""
    boxes = objects.boxes.copy()
    boxes[:, [0, 2]] = width - objects.boxes[:, [2, 0]]
    return replace(objects, boxes=boxes, masks=None if objects.masks is None else objects.masks[:, :, ::-1])


def clipped(objects: Objects, height: int, width: int) -> Objects:
    """With boxes cut at the picture's edges."""
    return replace(objects, boxes=objects.boxes.clip(0, np.float32([width, height, width, height])))


def can_be_learned(objects: Objects) -> np.ndarray:
    """bool [M]: no crowd, with a box that has an area, and with a mask that is not empty where there are masks."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    learned = ~objects.crowd & (sides > SMALLEST_SIDE).all(axis=1)
    return learned if objects.masks is None else learned & objects.masks.any(axis=(1, 2))
