"""The clips of a video that a network is shown: anywhere in training, evenly spaced in a test."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data.preparation import MAX_PIXELS
from data.video.decoding import VideoFile, open_video
from data.video.preparation import ClipPreparation
from data.video.sampling import Timeline
from data.video.stills import Stills, open_stills


class View(NamedTuple):
    """A clip float32 [C, T, H, W], where it begins (seconds, or frames where those count), and which crop it is."""

    start: float
    crop: int
    clip: np.ndarray


@contextlib.contextmanager
def open_source(path: str, frames: int | None = None, max_pixels: int = MAX_PIXELS) -> Iterator[VideoFile | Stills]:
    """A video file or a folder of pictures, open; `frames`: how many a list promises of pictures. Raises DataError."""
    if os.path.isdir(path):
        yield open_stills(path, frames, max_pixels)
    else:
        with open_video(path, max_pixels) as video:
            yield video


def timeline(video: VideoFile | Stills, preparation: ClipPreparation) -> Timeline:
    """By the clock, or by frames where those count."""
    frames = preparation.image_shape[1]
    if preparation.fps is None or isinstance(video, Stills):
        count = len(video.times)
        return Timeline(np.arange(count, dtype=np.float64), float(count), frames, float(preparation.stride))
    return Timeline(video.times, video.seconds, frames, preparation.stride / preparation.fps)


def views_of(
    video: VideoFile | Stills, preparation: ClipPreparation, clips: int = 1, crops: int = 1
) -> Iterator[View]:
    """Evenly spaced clips, and of each the crop in the middle or so many along the long side."""
    line = timeline(video, preparation)
    for start in line.starts(clips):
        pictures = video.pictures(line.clip(start))
        for number, place in enumerate([0.5] if crops == 1 else np.linspace(0, 1, crops).tolist()):
            yield View(start, number, preparation.cropped(pictures, preparation.crop(pictures[0].size, place)))
