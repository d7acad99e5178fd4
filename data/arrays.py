"""Small sets that live in memory as uint8 arrays and are cropped, flipped and normalised a batch at a time."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from data.dataset import Batch, Indices, labelled_bytes, picture_of
from data.errors import DataError
from data.normalise import normalise
from data.preparation import Preparation
from data.randomness import AUGMENTATION, generator


class ArrayDataset:
    """Pictures and labels in memory, with the usual augmentation of small pictures.

    images uint8 [N, C, H, W] with C = 1 (grey) or 3 (RGB); labels [N], integers from 0 to len(classes) - 1; mean
    and std: C numbers each, in units of the full range. Augmentation: pad `crop_padding` black pixels on every side
    and crop back to H x W, then mirror left-right half of the time; 0 and False (the defaults) leave all as it is.
    `source` is named in errors; `computed` says that the pictures follow from settings, and on another machine may
    differ by a bit. Raises DataError where images, labels and classes contradict each other.
    """

    in_memory = True
    skipped = 0  # a corrupt picture in a file of many stops the reader: nothing is ever skipped here
    unused = Counter()

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: tuple[str, ...],
        *,
        source: str | Path,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        crop_padding: int = 0,
        flip: bool = False,
        computed: bool = False,
    ):
        if len(images) != len(labels):
            raise DataError(f"{source}: {len(images)} images but {len(labels)} labels; wanted as many of each")
        labels = np.asarray(labels, np.int64)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
        if len(wrong):
            raise DataError(f"{source}: label {labels[wrong[0]]} of image {wrong[0]} is outside 0..{len(classes) - 1}")
        if crop_padding < 0:
            raise DataError(f"crop_padding: got {crop_padding}, wanted 0 or more pixels")
        self.images, self.labels, self.classes = images, labels, tuple(classes)
        self.image_shape = tuple(images.shape[1:])
        self.sample_bytes = labelled_bytes(self.image_shape)
        self.origin = "" if computed else str(source)
        self.preparation = Preparation(self.classes, self.image_shape, mean, std)
        self.crop_padding, self.flip, self.computed = crop_padding, flip, computed
        self._draws, self._drawn_for = None, None

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """Another text for other labels or pictures, or another order."""
        content = hashlib.sha256(np.ascontiguousarray(self.labels))
        if not self.computed:
            content.update(np.ascontiguousarray(self.images))
        return content.hexdigest()

    def keep(self, indices: Indices) -> None:
        """Reduce the set to the samples `indices`, in that order."""
        self.images, self.labels = self.images[indices], self.labels[indices]

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N], in that order: {"image": float32 [N, C, H, W] normalised, "label": int64 [N]}.

        What augmentation does to sample i depends on (seed, epoch, i) and nothing else.
        """
        pixels = self.images[indices]
        if self.crop_padding or self.flip:
            pixels = self._augmented(pixels, self._epoch_draws(seed, epoch)[indices])
        return {"image": normalise(pixels, self.preparation.mean, self.preparation.std), "label": self.labels[indices]}

    def stored_picture(self, index: int) -> Image.Image:
        """The PIL picture of a sample, before any augmentation."""
        return picture_of(self.images[index])

    def path(self, index: int) -> None:
        """None: a file holds many."""

    def _epoch_draws(self, seed, epoch):
        """Row i says what happens to sample i in this epoch: top and left of the crop, mirrored or not."""
        if self._drawn_for != (seed, epoch):
            offsets = 2 * self.crop_padding + 1
            table = generator(AUGMENTATION, seed, epoch).integers(0, [offsets, offsets, 2], size=(len(self), 3))
            self._draws, self._drawn_for = table, (seed, epoch)
        return self._draws

    def _augmented(self, pixels, draws):
        count, _, height, width = pixels.shape
        border = (self.crop_padding, self.crop_padding)
        padded = np.pad(pixels, ((0, 0), (0, 0), border, border))
        rows = draws[:, :1] + np.arange(height)
        columns = draws[:, 1:2] + np.arange(width)
        if self.flip:
            columns = np.where(draws[:, 2:] == 1, columns[:, ::-1], columns)
        # Index arrays on both sides of the slice: NumPy puts their axes first, the channels last.
        cropped = padded[np.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return cropped.transpose(0, 3, 1, 2)


def balanced_part(labels: np.ndarray, images: int, classes: int, name: str) -> np.ndarray:
    """Indices [images] of a class-balanced part: the first ones of every class, in the order of the set.

    Where `images` is no multiple of the number of classes, the first classes have one more. `name` is the setting
    that asked, for the error: DataError where a class has too few.
    """
    shares = np.full(classes, images // classes)
    shares[: images % classes] += 1
    available = np.bincount(labels, minlength=classes)
    if images < 1 or (available < shares).any():
        raise DataError(
            f"{name}: got {images}, wanted 1 to {int(available.min()) * classes} ({classes} classes, "
            f"the smallest has {available.min()} images)"
        )
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:share] for c, share in enumerate(shares)]))
