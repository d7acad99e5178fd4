"""From a picture to what a network sees, apart from any data set: what validation does, and what inference needs."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import DataError
from data.files import open_file
from data.normalise import normalise

PICTURE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)
# What a file may be, whatever its name says: Pillow would start Ghostscript for an EPS that is called .jpg.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg")
MAX_PIXELS = 178_956_970  # where Pillow sees a decompression bomb
warnings.filterwarnings("ignore", module="PIL")  # of damaged files: what matters of it becomes an error
Image.MAX_IMAGE_PIXELS = None  # open_picture looks, and a user may allow more
LARGEST_OF_12_BITS = 4095


@dataclass(frozen=True)
class Preparation:
    """Calling it turns a PIL picture into float32 [C, H, W] as validation sees it.

    classes: names in the order of the labels. image_shape: (C, H, W), one channel is grey, three are RGB. The short
    side is scaled to `resize_short` pixels and the centre cropped, or, where that is None, the picture scaled to
    H x W. Then (pixels / 255 - mean) / std for each channel. All fields are JSON-able: training writes them beside
    the weights.
    """

    axes: ClassVar[int] = 3  # of image_shape
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_short: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("classes", "image_shape", "mean", "std"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        numbers = (*self.image_shape, *self.mean, *self.std)
        if len(self.image_shape) != self.axes or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError("image_shape, mean and std: expected (C, H, W) and numbers for each channel")

    def __call__(self, picture: Image.Image) -> np.ndarray:
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

    def shown(self, image: np.ndarray) -> np.ndarray:
        """What a prepared image float [..., C, H, W] shows: RGB uint8 [..., H, W, 3]; what lies beyond is clipped."""
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (self.mean, self.std))
        pixels = np.moveaxis(np.rint(255 * (image * std + mean)).clip(0, 255).astype(np.uint8), -3, -1)
        return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS, short_side: int = 256) -> Image.Image:
    """Decode an image file into an upright RGB PIL picture; DataError with the path where that cannot be done.

    Of a file with several pictures the first is taken. 16 bits of grey become 8: a picture without a value above 4095
    is taken for 12 bits (cameras, microscopes and DICOM store them so), one without a value above 255 for 8.
    max_pixels: how many pixels it may have, as it is and once its short side is scaled to `short_side`.
    """
    with open_picture(path, max_pixels, short_side) as picture:
        picture.load()  # here: _upright forgives, and what is damaged decodes at a second try
        picture = _upright(picture)
        if picture.mode.startswith("I"):  # convert() would make all above 255 white
            picture = Image.fromarray(_eight_bits(np.asarray(picture)))
        if picture.mode == "F":
            raise ValueError("its pixels are floating-point numbers; wanted 8 or 16 bits")
        return picture.convert("RGB")


@contextlib.contextmanager
def open_picture(path: str | Path, max_pixels: int = MAX_PIXELS, short_side: int = 0) -> Iterator[Image.Image]:
    """The PIL picture of an image file, its header read and judged; what goes wrong with it becomes a DataError."""
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as picture:
            _check_size(*picture.size, max_pixels, short_side)
            compression = picture.info.get("compression")
            if picture.format == "TIFF" and compression not in TIFF_COMPRESSIONS:
                raise ValueError(f"a TIFF compressed as {compression}; wanted one of {', '.join(TIFF_COMPRESSIONS)}")
            yield picture
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: cannot be read as an image") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders fail on damaged files with errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error


def _check_size(width, height, max_pixels, short_side):
    scale = max(1, short_side / max(1, min(width, height)))
    if width * height * scale**2 > max_pixels:
        scaled = f", which are more once its short side is scaled to {short_side}" if scale > 1 else ""
        raise ValueError(f"{width} x {height} pixels{scaled}; data.max_pixels allows {max_pixels:,}")


def _eight_bits(grey):
    """uint8 of the shades of a picture of 16 bits, or of 12 or 8 in a file of 16."""
    lowest, highest = int(grey.min()), int(grey.max())
    if lowest < 0 or highest > 65535:
        raise ValueError(f"its pixels go from {lowest} to {highest}; wanted 8 or 16 bits")
    bits = 8 if highest <= 255 else 12 if highest <= LARGEST_OF_12_BITS else 16
    return (grey >> (bits - 8)).astype(np.uint8)


def _upright(picture):
    """As its EXIF orientation says, which phones and cameras write instead of turning the pixels."""
    if "exif" not in picture.info:
        return picture
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF ends in errors of many kinds, and the picture is none the worse
        return picture
