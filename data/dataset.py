"""What a data set is to the rest of the project, and what a batch of it is."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from data.preparation import Preparation

Batch = dict[str, np.ndarray]
Indices = Sequence[int] | np.ndarray


@runtime_checkable
class Dataset(Protocol):
    """N samples that can be asked for by index. A set answers for itself: a new one stands in no list but DATASETS.

    A batch is a dict of arrays, each [N, ...] of the same N samples, so that a step is cut into passes, and a pass into
    BN's workers, by slicing every value. Ragged lists are padded to one number, with how many are real beside them:
    boxes [N, M, 4] and boxes_num [N], not the boxes [R, 4] of all samples. M may be another in each batch, 0 too.
    """

    classes: tuple[str, ...]  # names, in the order of the labels
    image_shape: tuple[int, ...]  # (C, H, W); of clips (C, T, H, W); of pictures of many sizes what the largest pads to
    preparation: Preparation  # what turns a picture into an input in validation and inference
    labels: np.ndarray | None  # int64 [N]; None where a sample has not one class
    origin: str  # in words where the samples were found; empty where there is nothing to say
    unused: Counter  # how many pictures are there and not taken, by (reason, folder)
    skipped: int  # how many corrupt images were left out so far
    in_memory: bool  # whether the loader batches it without worker processes
    sample_bytes: int  # what one sample takes in a batch at most, all its arrays together

    def __len__(self) -> int:
        """How many samples there are."""

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices`, in that order; what is random about sample i follows from (seed, epoch, i) alone.

        Shorter only where corrupt images are skipped. Of no indices: the same keys, arrays [0, ...]. Raises DataError.
        """

    def digest(self) -> str:
        """A short text, another one for other images or labels, or another order."""

    def stored_picture(self, index: int) -> Image.Image:
        """The picture, grey or RGB, that lies behind a sample, before any augmentation. Raises DataError."""

    def path(self, index: int) -> str | None:
        """The file of a sample; None where a file holds many, or none does."""


def length(batch: Mapping[str, Any]) -> int:
    """How many samples a batch has, of arrays or tensors. Raises ValueError where its values do not agree."""
    lengths = {name: len(value) for name, value in batch.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"a batch wants as many of each value; got {lengths}")
    return next(iter(lengths.values()))


def labelled_bytes(image_shape: Sequence[int]) -> int:
    """What an image float32 of this shape takes, and its label int64."""
    return 4 * math.prod(image_shape) + 8


def picture_of(pixels: np.ndarray) -> Image.Image:
    """uint8 [C, H, W], grey or RGB, as a PIL picture."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
