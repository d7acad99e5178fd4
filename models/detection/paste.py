"""From a box's small mask to the picture's."""

from collections.abc import Sequence

import numpy as np


def paste_mask(
    mask: np.ndarray, box: Sequence[float] | np.ndarray, height: int, width: int, threshold: float = 0.5
) -> np.ndarray:
    """The pixels of a height x width picture that show the object: bool [height, width].

    mask [S, S] holds probabilities for the S x S parts of box x1, y1, x2, y2, which is in pixels of the picture. It is
    sampled bilinearly at the centre of every pixel and is zero outside; a pixel belongs to the object from `threshold`
    on. So a mask that comes from RoIAlign goes back to where it was. One mask at a time: a hundred of 800 x 1333 pixels
    are 107 MB. A box that is not finite or has no area shows nothing.
    """
    pasted = np.zeros([height, width], bool)
    box = np.asarray(box, np.float64)
    if not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
        return pasted
    rows, down = _samples(box[1], box[3], height, mask.shape[0])
    columns, across = _samples(box[0], box[2], width, mask.shape[1])
    pasted[rows, columns] = down @ mask @ across.T >= threshold
    return pasted


def _samples(start, end, size, parts):
    """The pixels of one axis that the box covers, a slice, and the shares of its parts in each: [pixels, parts]."""
    first, last = (int(min(max(edge, 0), size)) for edge in (np.floor(start), np.ceil(end)))
    place = (np.arange(first, last) + 0.5 - start) / (end - start) * parts - 0.5
    return slice(first, last), np.maximum(0, 1 - np.abs(place[:, None] - np.arange(parts)))
