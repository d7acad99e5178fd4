"""What a set of pictures with objects is beyond a Dataset, and its objects as COCO writes them."""

from typing import Protocol, runtime_checkable

import numpy as np

from data.dataset import Dataset
from data.detection.masks import run_lengths
from data.detection.objects import Objects
from data.randomness import SAMPLING, generator


@runtime_checkable
class DetectionDataset(Dataset, Protocol):
    """A Dataset whose batches are those of `data.detection.batch`: in training with objects, in evaluation without.

    `labels` is None. What its pictures show is asked for by index, in pixels of the stored picture.
    """

    image_ids: np.ndarray  # int64 [N], as files of results name the pictures
    category_ids: tuple[int, ...]  # the same for the classes, in the order of `classes`
    has_masks: bool
    left_out: dict[str, list[str]]  # annotations that are of no use, and where they stand, by the reason

    def objects(self, index: int) -> Objects:
        """All that is annotated, crowds too. Raises DataError."""

    def annotations(self, index: int) -> list[dict]:
        """The same as entries of COCO's "annotations", without "id", each with "area", "iscrowd" and, of a set with
        masks, "segmentation" as pycocotools takes it. Raises DataError."""


def sampling_seed(seed: int, epoch: int, index: int) -> int:
    """What decides which anchors and RoIs an image's losses are taken of, in this epoch: 0 to 2^63 - 1.

    An epoch shows an image once, so this is as good as the step's number; and it knows nothing of the step's size, of
    workers, passes or devices, so that the draw depends on none of them.
    """
    return int(generator(SAMPLING, seed, epoch, index).integers(2**63))


def annotations_of(objects: Objects, image_id: int, category_ids: tuple[int, ...]) -> list[dict]:
    """Objects as COCO writes them: boxes as x, y, width, height, masks as run lengths, areas counted in pixels."""
    masks = [None] * len(objects) if objects.masks is None else objects.masks
    entries = []
    for box, label, mask, crowd in zip(objects.boxes.tolist(), objects.classes, masks, objects.crowd, strict=True):
        x1, y1, x2, y2 = box
        entry = {
            "image_id": int(image_id), "category_id": int(category_ids[label]), "iscrowd": int(crowd),
            "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
        }
        if mask is not None:
            entry.update(area=int(mask.sum()), segmentation=run_lengths(mask))
        entries.append(entry)
    return entries
