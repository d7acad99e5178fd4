"""From the frames of a video to the clip that a network sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image

from data.normalise import normalise
from data.preparation import Preparation


class Crop(NamedTuple):
    """The square that is seen of each frame of a clip, in the video's pixels, and whether it is mirrored."""

    left: float
    top: float
    side: float
    mirrored: bool = False


@dataclass(frozen=True)
class ClipPreparation(Preparation):
    """Calling it turns T frames, RGB PIL pictures of one size, into a clip float32 [C, T, H, W] as validation sees it.

    image_shape is (C, T, H, W). The frames of a clip are `stride` / `fps` seconds apart: every `stride`-th one of a
    video of `fps` frames a second; of one that is stored as pictures every `stride`-th picture, if `fps` is None of any
    other too. All else: as of Preparation.
    """

    axes: ClassVar[int] = 4
    stride: int = 1
    fps: float | None = None

    def __call__(self, frames: Sequence[Image.Image]) -> np.ndarray:
        return self.cropped(frames, self.crop(frames[0].size))

    def crop(self, size: tuple[int, int], place: float = 0.5) -> Crop | None:
        """What is seen of frames of (width, height); place: 0 to 1, where along the longer side. None: all of it."""
        if self.resize_short is None:
            return None
        side = self.image_shape[-1] * min(size) / self.resize_short
        left, top = (((length - side) * (place if length > min(size) else 0.5)) for length in size)
        return Crop(left, top, side)

    def cropped(self, frames: Sequence[Image.Image], crop: Crop | None) -> np.ndarray:
        """The same part of all frames, scaled to H x W, as a clip float32 [C, T, H, W]."""
        channels, _, height, width = self.image_shape
        box = None if crop is None else _within(crop, frames[0].size)
        resample = Image.Resampling[self.interpolation.upper()]
        clip = np.empty((channels, len(frames), height, width), np.uint8)
        for number, frame in enumerate(frames):
            picture = frame.convert("L" if channels == 1 else "RGB").resize((width, height), resample, box)
            clip[:, number] = np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)
        clip = normalise(clip.swapaxes(0, 1), self.mean, self.std).swapaxes(0, 1)
        return np.ascontiguousarray(clip[..., ::-1] if crop and crop.mirrored else clip)

    def frames_shown(self, clip: np.ndarray) -> np.ndarray:
        """What a prepared clip float [C, T, H, W] shows: RGB uint8 [T, H, W, 3]."""
        return self.shown(clip.swapaxes(0, 1))


def _within(crop, size):
    """The box (left, top, right, bottom) of a crop; rounding must not leave it outside."""
    right, bottom = (min(start + crop.side, length) for start, length in zip(crop[:2], size, strict=True))
    return max(0.0, crop.left), max(0.0, crop.top), right, bottom


def film_strip(frames: Sequence[np.ndarray], most: int = 8, gap: int = 2) -> np.ndarray:
    """Up to `most` frames [H, W, 3], evenly chosen, side by side: uint8 [H, W', 3]."""
    chosen = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)
    white = np.full((frames[0].shape[0], gap, 3), 255, np.uint8)
    pieces = [piece for number in chosen for piece in (white, frames[number])]
    return np.concatenate(pieces[1:], axis=1)
