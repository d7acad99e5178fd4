"""What the stored pictures of a set are like, before any network sees them: broken, doubled, how large, how bright."""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data.dataset import Dataset
from data.errors import DataError
from data.preparation import open_picture

BLOCK = 256  # pictures that are given to the threads at a time
LEVELS = np.arange(256) / 255
DARK = 16  # of 255: where nothing is brighter, little is to be seen; 12 bits in three channels of 16 come to that


@dataclass
class Survey:
    """What the pictures of a set are like, as they are stored. C channels, M of them could be read.

    indices int64 [M]; fingerprints uint64 [M], the same for the same size and pixels as training reads them, whatever
    the file's format; sizes int32 [M, 2], width and height; mean and deviation [C] in units of the full range, each
    picture counting the same; modes, how many by Pillow's mode of the file; broken, (index, path and what is wrong);
    dark, indices of pictures that are all but black; several, how many files hold more than the picture that is taken;
    facts, by index, what the set's own `look` says beyond all that.
    """

    opened: int
    indices: np.ndarray
    fingerprints: np.ndarray
    sizes: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    modes: Counter = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)
    dark: list[int] = field(default_factory=list)
    several: int = 0
    facts: dict[int, Any] = field(default_factory=dict)


def survey(
    dataset: Dataset, *, limit: int | None = None, threads: int = 1, advance: Callable[[int], object] | None = None
) -> Survey:
    """Open every stored picture of a set, or `limit` evenly spaced ones, one after the other.

    A few at a time are in memory. Broken files are noted and passed. `advance` is told how many more were opened.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(np.int64)
    channels = dataset.image_shape[0]
    result = Survey(
        count, chosen.copy(), np.empty(count, np.uint64), np.empty((count, 2), np.int32), *np.zeros((2, channels))
    )
    means, squares, variances = np.zeros((3, channels))
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        each = pool.map if count and dataset.path(0) else map  # decoders let go of Python's lock
        for start in range(0, count, BLOCK):
            block = chosen[start : start + BLOCK]
            for index, look in zip(block, each(partial(_look_or_why_not, dataset), block), strict=True):
                if isinstance(look, str):
                    result.broken.append((int(index), look))
                    continue
                result.indices[done], result.fingerprints[done], result.sizes[done] = index, look.fingerprint, look.size
                result.modes[look.mode] += 1
                result.several += look.several
                if look.dark:
                    result.dark.append(int(index))
                if look.facts is not None:
                    result.facts[int(index)] = look.facts
                means += look.mean
                squares += look.mean**2
                variances += look.variance
                done += 1
            if advance:
                advance(len(block))
    for name in ("indices", "fingerprints", "sizes"):
        setattr(result, name, getattr(result, name)[:done])
    result.mean = means / max(1, done)
    between = np.maximum(0, squares / max(1, done) - result.mean**2)  # rounding can leave a little less than nothing
    result.deviation = np.sqrt(variances / max(1, done) + between)
    return result


def duplicates(surveys: Sequence[Survey]) -> list[list[tuple[int, int]]]:
    """Groups of two or more samples with the same picture: (number of the survey, index in its set)."""
    keys = np.concatenate([each.fingerprints for each in surveys])
    owners = np.concatenate([np.full(len(each.indices), number) for number, each in enumerate(surveys)])
    indices = np.concatenate([each.indices for each in surveys])
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    lengths = np.diff(starts, append=len(keys))
    groups = [order[start : start + length] for start, length in zip(starts, lengths, strict=True) if length > 1]
    return sorted([(int(owners[at]), int(indices[at])) for at in group] for group in groups)


class Look(NamedTuple):
    """What one sample is like: see Survey. `size` is (width, height); facts: what the set itself has to say."""

    fingerprint: int
    size: tuple[int, int]
    mean: np.ndarray
    variance: np.ndarray
    mode: str
    several: bool = False
    dark: bool = False
    facts: Any = None


def look_at(pictures: Sequence[Image.Image], facts: Any = None) -> Look:
    """Of a sample that is these pictures, one or the frames of a clip, all of one size."""
    content = hashlib.blake2b(b"%d %d" % pictures[0].size, digest_size=8)
    shares = 0.0
    for picture in pictures:
        content.update(picture.tobytes())
        histogram = np.array(picture.histogram()).reshape(-1, 256)
        shares = shares + histogram / (len(pictures) * picture.width * picture.height)
    mean = shares @ LEVELS
    variance = (shares * (LEVELS - mean[:, None]) ** 2).sum(axis=1)
    fingerprint = int.from_bytes(content.digest(), "little")
    dark = bool(np.max(np.nonzero(shares)[1]) <= DARK)
    return Look(fingerprint, pictures[0].size, mean, variance, pictures[0].mode, dark=dark, facts=facts)


def _look_or_why_not(dataset, index):
    """What one sample is like, or a text that says why it cannot be read."""
    try:
        return dataset.look(index) if hasattr(dataset, "look") else _look_at_picture(dataset, index)
    except DataError as error:
        return str(error)


def _look_at_picture(dataset, index):
    look = look_at([dataset.stored_picture(index)])
    if path := dataset.path(index):
        with open_picture(path, sys.maxsize) as file:  # the header, and of a GIF where its second picture lies
            # An MPO is a photograph with a smaller copy of itself.
            several = file.format != "MPO" and getattr(file, "is_animated", False)
            return look._replace(mode=file.mode, several=several)
    return look
