"""Silhouettes as annotation files have them: polygons, and run lengths as numbers or as COCO's text.

Run lengths go down the columns of a picture: so many pixels outside, so many inside, and so on. In the text each number
is the difference to the last but one, from the fourth number on, in pieces of five bits with a sign, the lowest first.
"""

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from data.errors import DataError

MOST_PIECES = 7  # of five bits: more than any picture has pixels
WANTED = "pip install -r requirements-detection.txt, or data.masks=false, which needs boxes only"


def run_lengths(mask: np.ndarray) -> dict:
    """bool [H, W] -> {"size": [H, W], "counts": [...]}, which pycocotools takes."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    ends = np.concatenate([[0] if pixels[0] else [], changes, [pixels.size]]).astype(np.int64)
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def checked_lengths(counts: Sequence[int] | str, height: int, width: int) -> np.ndarray:
    """The run lengths int64 of a picture, of numbers or text. Raises ValueError where they do not make it up."""
    lengths = _from_text(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    if lengths.size and (lengths.min() < 0 or lengths.max() > height * width):
        raise ValueError(f"a run of {lengths.min() if lengths.min() < 0 else lengths.max()} pixels")
    if (total := int(lengths.sum())) != height * width:
        raise ValueError(f"{total:,} pixels in all")
    return lengths


def mask_of(segmentation: list | dict, before: tuple[int, int], after: tuple[int, int] | None = None) -> np.ndarray:
    """bool [H, W] of what `annotations.py` has checked, as it lies once the picture is resized.

    before, after: height and width of the picture; None: as it is. Polygons are drawn at the new size, of run lengths a
    pixel shows what lies under its centre. Raises DataError where polygons want pycocotools.
    """
    after = after or before
    if isinstance(segmentation, list):
        coco = pycocotools_mask()
        (tall, wide), (height, width) = before, after
        factors = width / wide, height / tall
        polygons = [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in segmentation]
        return _drawn(coco.merge(coco.frPyObjects(polygons, height, width))["counts"].decode(), after)
    mask = _drawn(segmentation["counts"], before)
    if after == before:
        return mask
    rows, columns = _centres(before, after)
    return mask[rows][:, columns]


def is_lost(segmentation: list | dict, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether `mask_of` would be empty, without drawing the run lengths of a large picture."""
    if isinstance(segmentation, list):
        return not mask_of(segmentation, before, after).any()
    rows, columns = _centres(before, after)
    shown = (columns[:, None] * before[0] + rows).ravel()  # pixels, down the columns as the runs go
    passed = np.searchsorted(shown, checked_lengths(segmentation["counts"], *before).cumsum())
    return bool((passed[1::2] == passed[: len(passed) // 2 * 2 : 2]).all())  # as many at a run's end as at its start


def _centres(before, after):
    """The rows and the columns that the pixels of a resized picture have their centres in."""
    return (
        ((np.arange(there) + 0.5) * here / there).astype(np.intp) for here, there in zip(before, after, strict=True)
    )


def _drawn(counts, shape):
    lengths = checked_lengths(counts, *shape)
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(shape[::-1]).T


def pycocotools_mask() -> ModuleType:
    """pycocotools.mask, which is no requirement of the rest. Raises DataError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError:
        raise DataError(f"polygons want pycocotools, which is not installed: {WANTED}") from None
    return mask


def polygon_area(polygons: Sequence[Sequence[float]]) -> float:
    """Pixels within, as if none lay over another."""
    area = 0.0
    for polygon in polygons:
        x, y = np.reshape(polygon, (-1, 2)).T
        area += abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(area)


def _from_text(text):
    pieces = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    if pieces.size and (pieces.min() < 0 or pieces.max() > 63):
        raise ValueError("letters that stand for no run lengths")
    last = pieces & 32 == 0
    if pieces.size and not last[-1]:
        raise ValueError("no end of the last number")
    starts = np.flatnonzero(np.r_[True, last[:-1]]) if pieces.size else np.zeros(0, int)
    sizes = np.diff(starts, append=len(pieces))
    if pieces.size and sizes.max() > MOST_PIECES:
        raise ValueError("a number without end")
    place = np.arange(len(pieces)) - np.repeat(starts, sizes)
    values = np.add.reduceat((pieces & 31) << (5 * place), starts) if pieces.size else np.zeros(0, np.int64)
    negative = pieces[starts + sizes - 1] & 16 > 0
    values = values - (negative << (5 * sizes))
    for first in (1, 2):  # the third number is as it is, as are the first two
        values[first::2] = values[first::2].cumsum()
    return values
