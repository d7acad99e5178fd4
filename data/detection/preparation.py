"""From a picture of any size to what a detector sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.normalise import normalise
from data.preparation import Preparation


@dataclass(frozen=True)
class DetectionPreparation(Preparation):
    """Calling it turns a picture into float32 [3, h, w] as validation sees it, without padding: nothing is cropped.

    The short side is scaled to `resize_short` pixels, or the long side to `resize_long` where that makes it smaller.
    image_shape is what the largest picture in landscape pads to. category_ids: those of the classes, for files of
    results. All else: as of Preparation.
    """

    resize_long: int = 0
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "category_ids", tuple(self.category_ids))

    def __call__(self, picture: Image.Image) -> np.ndarray:
        picture = resized(picture.convert("RGB"), self.resize_short, self.resize_long, self.interpolation)
        return normalise(np.asarray(picture).transpose(2, 0, 1), self.mean, self.std)


def resized(picture: Image.Image, short: int, long: int, interpolation: str = "bilinear") -> Image.Image:
    """The picture with a short side of `short`, or a long side of `long` pixels where that is smaller."""
    size = resized_sides(picture.size, short, long)
    return picture if size == picture.size else picture.resize(size, Image.Resampling[interpolation.upper()])


def resized_sides(sides: Sequence[int], short: int, long: int) -> tuple[int, ...]:
    """What the sides of a picture are then, in their order."""
    scale = min(short / min(sides), long / max(sides))
    return tuple(max(1, round(scale * side)) for side in sides)
