"""Which frames of a video make a clip: by time stamps, for a header's count and an average rate can be wrong."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-6  # of times: what is less apart is as near


def check_together(frames: int, size: tuple[int, int], max_pixels: int) -> None:
    """Raise ValueError where so many frames of (width, height), which are held at once, have more than max_pixels."""
    width, height = size
    if frames * width * height > max_pixels:
        raise ValueError(f"{frames} frames of {width} x {height} pixels at once; data.max_pixels allows {max_pixels:,}")


def check_alike(sizes: Iterable[tuple[int, int]]) -> None:
    """Raise ValueError where frames of one clip differ in (width, height): one crop is to hold for all of them."""
    one, *others = sorted(set(sizes))
    if others:
        raise ValueError(f"has frames of {one[0]} x {one[1]} and of {others[0][0]} x {others[0][1]} pixels")


class Timeline(NamedTuple):
    """When the frames of a video begin, how long it is, and what a clip of it is: in seconds, or in frames.

    times float64 [F], rising from 0; length, of the video; frames, of a clip, and the step from one to the next.
    """

    times: np.ndarray
    length: float
    frames: int
    step: float

    @property
    def span(self) -> float:
        """How much of a video a clip shows."""
        return self.frames * self.step

    def clip(self, start: float) -> np.ndarray:
        """The numbers [frames] of the frames nearest to start, start + step … ; beyond its end a video begins anew.

        Of two that are as near it is the earlier one.
        """
        wanted = start + self.step * np.arange(self.frames)
        wanted = (wanted + ROUNDING) % self.length - ROUNDING  # a rounding short of the end is the beginning
        behind = np.searchsorted(self.times, wanted).clip(0, len(self.times) - 1)
        before = np.maximum(behind - 1, 0)
        return np.where(wanted - self.times[before] <= self.times[behind] - wanted + ROUNDING, before, behind)

    def random_start(self, rng: np.random.Generator) -> float:
        """Anywhere from which a clip lies within the video; at its beginning where none does."""
        return rng.random() * max(0.0, self.length - self.span)

    def starts(self, clips: int) -> list[float]:
        """Where so many clips of a test begin: evenly from the first to the last of the video; one is in its middle."""
        room = max(0.0, self.length - self.span)
        return [room / 2] if clips == 1 else [room * number / (clips - 1) for number in range(clips)]
