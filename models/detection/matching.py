"""Which anchors or proposals show which object, and which of them a step learns from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import paddle

from ops import has_area

SMALLEST_SIDE = 1e-5  # pixels; a smaller object's logarithm of sides makes losses that are not finite
NEGATIVE, IGNORED = 0, -1


class Objects(NamedTuple):
    """What one image shows: boxes [G, 4], classes [G], and the places of both among the batch's padded ones, [G]."""

    boxes: paddle.Tensor
    classes: paddle.Tensor
    places: paddle.Tensor


def real_objects(batch: Mapping[str, paddle.Tensor]) -> list[Objects]:
    """The objects of each image of a batch, without padding, crowds and boxes that have no area or are not finite."""
    boxes = batch["boxes"].astype("float32")
    images, most = boxes.shape[:2]
    real = np.arange(most) < batch["objects"].numpy().reshape([-1, 1])
    if most:
        real &= has_area(boxes, SMALLEST_SIDE).numpy()
        if "crowd" in batch:
            real &= ~batch["crowd"].astype("bool").numpy()
    found = []
    for image in range(images):
        places = paddle.to_tensor(np.flatnonzero(real[image]), dtype="int64")
        if 0 in places.shape:
            found.append(Objects(paddle.zeros([0, 4]), places, places))
        else:
            found.append(
                Objects(paddle.gather(boxes[image], places), paddle.gather(batch["classes"][image], places), places)
            )
    return found


def joined(tensors: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """Tensors [A, ...], [B, ...], … as one; Paddle 2.6 cannot do that where all of them are empty."""
    return paddle.concat(tensors) if any(0 not in tensor.shape for tensor in tensors) else tensors[0]


def match(
    overlaps: paddle.Tensor, negative_below: float, positive_from: float, best_of_each: bool = False
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """overlaps [G, B], the IoU of G objects, G above 0, with B boxes -> object int64 [B], label int32 [B].

    Each box belongs to the object that it overlaps most. Its label is 1 from an IoU of `positive_from`, 0 below
    `negative_below`, -1 between. `best_of_each` makes those boxes positive, too, that overlap some object as much as no
    other box does, ties included (arXiv:1506.01497); they keep the object that they themselves overlap most, as in
    Detectron. An object that no box overlaps makes none positive.
    """
    most = overlaps.max(axis=0)
    positive = most >= positive_from
    if best_of_each:
        best = overlaps.max(axis=1, keepdim=True)
        best = paddle.logical_and(overlaps == best, best > 0).any(axis=0)
        positive = paddle.logical_or(positive, best)
    label = paddle.where(most < negative_below, paddle.zeros_like(most), paddle.full_like(most, IGNORED))
    label = paddle.where(positive, paddle.ones_like(most), label)
    return overlaps.argmax(axis=0), label.astype("int32")


def sample(label: np.ndarray, count: int, positive_fraction: float, *seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` places of label [B] (NumPy) by chance, at most that fraction of them positive.

    -> places of label 1, places of label 0, each rising. Where one kind is short, fewer than `count` come back only if
    it is the negatives. The draw depends on `seed`, integers, and label alone.
    """
    rng = np.random.default_rng(seed)
    positive, negative = np.flatnonzero(label == 1), np.flatnonzero(label == NEGATIVE)
    positives = min(len(positive), int(count * positive_fraction))
    negatives = min(len(negative), count - positives)
    chosen = (rng.permutation(places)[:number] for places, number in ((positive, positives), (negative, negatives)))
    return tuple(np.sort(places) for places in chosen)


def shares_of_workers(counts: Sequence[int], images_per_worker: int | None = None) -> np.ndarray:
    """The weight of each RoI in a loss: NumPy float32 [sum(counts)], for counts of the images.

    Each worker takes the mean over the RoIs of its own images, and the workers' losses are averaged, as those of as
    many GPUs would be; so a step cut into passes of whole workers has the same loss. None: all images are one worker's.
    """
    per_worker = images_per_worker or len(counts)
    if len(counts) % per_worker:
        raise ValueError(f"{len(counts)} images do not divide into workers of {per_worker} images")
    of_workers = np.reshape(counts, [-1, per_worker]).sum(axis=1)
    weights = 1 / (len(of_workers) * np.maximum(of_workers, 1))
    return np.repeat(weights, of_workers).astype("float32")
