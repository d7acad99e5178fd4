"""What the stored pictures of a set are like, before any network sees them: broken, doubled, how large, how bright."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.composed import ComposedDataset
from data.errors import DataError
from data.image_folder import ImageDataset
from data.layout import is_visible
from data.preparation import read_picture
from data.warped import WarpedDataset

BLOCK = 256  # pictures that are given to the threads at a time
LEVELS = np.arange(256) / 255
OTHER_PICTURES = (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".tif", ".tiff")  # which image_folder passes over


@dataclass
class Survey:
    """What the pictures of a set are like, as they are stored. C channels, M of them could be read.

    indices int64 [M]; fingerprints uint64 [M], the same for the same size and pixels as training reads them, whatever
    the file's format; sizes int32 [M, 2], width and height; mean and deviation [C] in units of the full range, each
    picture counting the same; modes, how many by Pillow's mode of the file; broken, (index, path and what is wrong).
    """

    opened: int
    indices: np.ndarray
    fingerprints: np.ndarray
    sizes: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    modes: Counter = field(default_factory=Counter)
    broken: list = field(default_factory=list)


def survey(dataset, *, limit: int | None = None, threads=1, advance: Callable | None = None) -> Survey:
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
        each = pool.map if isinstance(dataset, ImageDataset) else map  # decoders let go of Python's lock
        for start in range(0, count, BLOCK):
            block = chosen[start : start + BLOCK]
            for index, look in zip(block, each(partial(_look, dataset), block), strict=True):
                if isinstance(look, str):
                    result.broken.append((int(index), look))
                    continue
                result.indices[done], result.fingerprints[done], result.sizes[done] = index, look.fingerprint, look.size
                result.modes[look.mode] += 1
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


def stored_picture(dataset, index):
    """The PIL picture, grey or RGB, that lies behind a sample, before any augmentation. Raises DataError.

    Of a composed set without an end it is a draw that training does not show.
    """
    if isinstance(dataset, ImageDataset):
        return read_picture(path_of(dataset, index))
    if isinstance(dataset, ComposedDataset):
        pixels = dataset.stored_picture(index)
    else:
        pixels = (dataset.garments if isinstance(dataset, WarpedDataset) else dataset).images[index]
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def path_of(dataset, index):
    """The file of a sample; None where a file holds many."""
    return os.fsdecode(dataset.paths[index]) if isinstance(dataset, ImageDataset) else None


def duplicates(surveys) -> list[list[tuple[int, int]]]:
    """Groups of two or more samples with the same picture: (number of the survey, index in its set)."""
    keys = np.concatenate([each.fingerprints for each in surveys])
    owners = np.concatenate([np.full(len(each.indices), number) for number, each in enumerate(surveys)])
    indices = np.concatenate([each.indices for each in surveys])
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    lengths = np.diff(starts, append=len(keys))
    groups = [order[start : start + length] for start, length in zip(starts, lengths, strict=True) if length > 1]
    return sorted([(int(owners[at]), int(indices[at])) for at in group] for group in groups)


def passed_over(datasets) -> Counter:
    """How many picture files, by their ending, lie beside those of a set of files and are of no format it takes."""
    paths = [path for dataset in datasets if isinstance(dataset, ImageDataset) for path in dataset.paths]
    others = []
    for folder in {os.path.dirname(path) for path in paths}:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        others += [os.path.join(folder, name) for name in names if _is_other_picture(os.fsdecode(name))]
    return Counter(_ending(os.fsdecode(path)) for path in set(others).difference(paths))


def _is_other_picture(name):
    return is_visible(name) and _ending(name) in OTHER_PICTURES


def _ending(path):
    return os.path.splitext(path)[1].lower()


class _Look(NamedTuple):
    fingerprint: int
    size: tuple[int, int]
    mean: np.ndarray
    variance: np.ndarray
    mode: str


def _look(dataset, index):
    """What one picture is like, or a text that says why it cannot be read."""
    try:
        picture = stored_picture(dataset, index)
    except DataError as error:
        return str(error)
    pixels = hashlib.blake2b(b"%d %d" % picture.size, digest_size=8)
    pixels.update(picture.tobytes())
    shares = np.array(picture.histogram()).reshape(-1, 256) / (picture.width * picture.height)
    mean = shares @ LEVELS
    variance = (shares * (LEVELS - mean[:, None]) ** 2).sum(axis=1)
    path = path_of(dataset, index)
    mode = _file_mode(path) if path else picture.mode
    return _Look(int.from_bytes(pixels.digest(), "little"), picture.size, mean, variance, mode)


def _file_mode(path):
    with Image.open(path) as file:  # the header only
        return file.mode
