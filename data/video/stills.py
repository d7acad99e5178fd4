"""Videos that are stored as a folder of pictures, one a frame: img_00001.jpg, img_00002.jpg …"""

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.errors import DataError
from data.preparation import MAX_PIXELS, read_picture
from data.video.sampling import check_alike, check_together
from data.walk import is_picture

USUAL = ("img_", "image_", "frame_", "frame", "")  # how names begin; beside these there can be others, of flow for one
MOST_NAMED = 5  # missing frames in a message


class Stills:
    """The pictures of a video's folder, in the order of their numbers. Attributes as of VideoFile; a frame a second."""

    promised, damaged, kind = 0, 0, "pictures"

    def __init__(self, folder: str, names: list[str], max_pixels: int):
        self.path, self._names, self._max_pixels = folder, names, max_pixels
        self.times, self.seconds = np.arange(len(names), dtype=np.float64), float(len(names))

    def pictures(self, numbers: Sequence[int]) -> list[Image.Image]:
        """The frames of these numbers, RGB. Raises DataError for one that cannot be read or has another size, and where
        they have more than max_pixels together.
        """
        read, wanted = {}, set(map(int, numbers))
        for number in sorted(wanted):
            read[number] = self._read(number)
            try:
                check_together(len(wanted), read[number].size, self._max_pixels)
                check_alike(picture.size for picture in read.values())
            except ValueError as error:
                raise DataError(f"{self.path}: {error}") from None
        return [read[int(number)] for number in numbers]

    def check(self, clip: Sequence[int]) -> None:
        """Raise DataError as `pictures` does, of any frame of the video and any clip of as many as this one."""
        sizes = [self._read(number).size for number in range(len(self._names))]
        try:
            check_together(len(clip), max(sizes), self._max_pixels)
            check_alike(sizes)
        except ValueError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _read(self, number):
        return read_picture(os.path.join(self.path, self._names[number]), self._max_pixels, 0)


def open_stills(folder: str | Path, frames: int | None = None, max_pixels: int = MAX_PIXELS) -> Stills:
    """The frames of a folder; `frames`: how many a list promises. They are counted from 0, 1 or any other number on.

    Raises DataError where there are none, some are missing, or more or fewer than promised.
    """
    folder = os.fspath(folder)
    try:
        names = [name for name in os.listdir(folder) if is_picture(name)]
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None
    series = {}
    for name in sorted(names):
        if found := re.fullmatch(r"(.*?)(\d+)", os.path.splitext(name)[0]):
            other = series.setdefault(found[1], {}).setdefault(int(found[2]), name)
            if other != name:
                raise DataError(f"{folder}: {other} and {name} have one number; wanted one picture for each frame")
    if not series:
        raise DataError(f"{folder}: no frames in this folder; wanted pictures with a number at the end of their names")
    usual = [start for start in USUAL if start in series]
    if len(series) > 1 and not usual:
        came = ", ".join(sorted(series))
        raise DataError(f"{folder}: frames of several series ({came}); wanted one, or one that is called img_00001 …")
    numbered = series[usual[0]] if usual else next(iter(series.values()))
    first, last = min(numbered), max(numbered)
    if missing := last - first + 1 - len(numbered):
        shown = list(itertools.islice((n for n in range(first, last) if n not in numbered), MOST_NAMED))
        more = ", …" if missing > len(shown) else ""
        said = f"{missing} of them missing: {', '.join(map(str, shown))}{more}"
        raise DataError(f"{folder}: frames {first} to {last}, but {said}")
    if frames not in (None, len(numbered)):
        raise DataError(f"{folder}: the list says {frames} frames, found {len(numbered)}, {first} to {last}")
    return Stills(folder, [numbered[number] for number in sorted(numbered)], max_pixels)
