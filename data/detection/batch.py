"""The batch that a detector is called with: pictures padded to the largest, lists of objects to the longest."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.dataset import Batch
from data.detection.objects import Objects

MULTIPLE = 32  # of which a padded side is one: the coarsest stride of a pyramid's stages


class Sample(NamedTuple):
    """A picture as a network sees it, without padding.

    image float32 [3, h, w], normalised; original_size, the stored picture's (height, width); index in its set; and in
    training objects in pixels of the image, and sampling_seed, an integer from 0 on.
    """

    image: np.ndarray
    original_size: tuple[int, int]
    index: int
    objects: Objects | None = None
    sampling_seed: int = 0


def detection_batch(samples: Sequence[Sample], *, training: bool, masks: bool = True) -> Batch:
    """N samples as a dict of arrays [N, ...]; H and W are the largest height and width, rounded up to 32.

    image          float32 [N, 3, H, W], padded on the right and at the bottom with 0, the mean
    size           int64 [N, 2], height and width without padding
    original_size  int64 [N, 2], those of the stored picture
    index          int64 [N], where `DetectionDataset.objects` and `.annotations` find what is there

    In training besides, padded with 0 to the M of the richest picture:

    boxes          float32 [N, M, 4], x1, y1, x2, y2 in pixels of the image
    classes        int64 [N, M]
    masks          uint8 [N, M, H, ceil(W / 8)], eight pixels a byte, the left one the highest bit; with `masks` alone
    objects        int64 [N], how many are real
    sampling_seed  int64 [N]: decides which anchors and RoIs are drawn
    """
    sizes = np.array([sample.image.shape[1:] for sample in samples], np.int64).reshape(-1, 2)
    height, width = padded(sizes.max(axis=0, initial=1))
    image = np.zeros((len(samples), 3, height, width), np.float32)
    for row, sample in zip(image, samples, strict=True):
        row[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
    batch = {
        "image": image,
        "size": sizes,
        "original_size": np.array([sample.original_size for sample in samples], np.int64).reshape(-1, 2),
        "index": np.array([sample.index for sample in samples], np.int64),
    }
    return {**batch, **_targets(samples, height, width, masks)} if training else batch


def _targets(samples, height, width, with_masks):
    count, most = len(samples), max((len(sample.objects) for sample in samples), default=0)
    boxes, classes = np.zeros((count, most, 4), np.float32), np.zeros((count, most), np.int64)
    masks = np.zeros((count, most, height, -(-width // 8)), np.uint8)
    for row, sample in enumerate(samples):
        own = slice(len(sample.objects))
        boxes[row, own], classes[row, own] = sample.objects.boxes, sample.objects.classes
        if with_masks and len(sample.objects):
            packed = np.packbits(sample.objects.masks, axis=-1)
            masks[row, own, : packed.shape[1], : packed.shape[2]] = packed
    return {
        "boxes": boxes,
        "classes": classes,
        **({"masks": masks} if with_masks else {}),
        "objects": np.array([len(sample.objects) for sample in samples], np.int64),
        "sampling_seed": np.array([sample.sampling_seed for sample in samples], np.int64),
    }


def padded(size: Sequence[int]) -> tuple[int, int]:
    """Height and width rounded up to MULTIPLE."""
    height, width = (-(-int(side) // MULTIPLE) * MULTIPLE for side in size)
    return height, width


def sample_bytes(size: Sequence[int], most: int, *, masks: bool) -> int:
    """What one sample takes in a batch padded to `size`, with as many as `most` objects."""
    height, width = padded(size)
    return 4 * 3 * height * width + most * (40 + masks * height * -(-width // 8)) + 56
