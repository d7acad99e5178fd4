"""From a picture to what a network sees, apart from any data set: what validation does, and what inference needs."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import DataError
from data.normalise import normalise

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Preparation:
    """Calling it turns a PIL picture into float32 [C, H, W] as validation sees it.

    classes: names in the order of the labels. image_shape: (C, H, W), one channel is grey, three are RGB. The short
    side is scaled to `resize_short` pixels and the centre cropped, or, where that is None, the picture scaled to
    H x W. Then (pixels / 255 - mean) / std for each channel. All fields are JSON-able: training writes them beside
    the weights.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_short: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self):
        for name in ("classes", "image_shape", "mean", "std"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        numbers = (*self.image_shape, *self.mean, *self.std)
        if len(self.image_shape) != 3 or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError("image_shape, mean and std: expected (C, H, W) and numbers for each channel")

    def __call__(self, picture):
        channels, height, width = self.image_shape
        picture = picture.convert("L" if channels == 1 else "RGB")
        if self.resize_short is not None:
            from paddle.vision import transforms  # here, for it loads Paddle

            picture = transforms.Resize(self.resize_short, self.interpolation)(picture)
            picture = transforms.CenterCrop((height, width))(picture)
        elif picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling[self.interpolation.upper()])
        pixels = np.asarray(picture, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
        return normalise(pixels, self.mean, self.std)


def read_picture(path):
    """Decode an image file into an upright RGB PIL picture; DataError with the path where that cannot be done."""
    try:
        with Image.open(path) as picture:
            picture.load()  # here: _upright forgives, and what is damaged decodes at a second try
            picture = _upright(picture)
            if picture.mode.startswith("I"):  # 16 bits of grey: convert() would make all above 255 white
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            return picture.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: cannot be read as an image") from None
    except Exception as error:  # Pillow's decoders fail on damaged files with errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error


def _upright(picture):
    """As its EXIF orientation says, which phones and cameras write instead of turning the pixels."""
    if "exif" not in picture.info:
        return picture
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF ends in errors of many kinds, and the picture is none the worse
        return picture
