"""Fashion-MNIST (Xiao et al., arXiv:1708.07747; MIT licence) from its idx files; a part of it lies in this folder."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data.arrays import ArrayDataset, balanced_part
from data.dataset import Dataset
from data.errors import DataError
from data.files import open_file
from data.sources import DOWNLOADS
from data.user_path import UserPath

EMBEDDED = Path(__file__).parent / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts the full set
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)
LARGEST = 1 << 30  # bytes of an array; the full set has 47 million
ADVICE = "`python tools/fetch_data.py fashion_mnist` fetches the full set"
MEAN, STD = (0.2860,), (0.3530,)  # over the pixels of the 60,000 training images
SIDE = 28  # pixels


def fashion_mnist(
    root: UserPath | None = None, train_images: int | None = None, validation_images: int | None = None,
    crop_padding: int = 2, flip: bool = True, classes: tuple[str, ...] | None = None, channels: Literal[1, 3] = 1,
    image_size: int = SIDE,
) -> tuple[Dataset, Dataset]:
    """Fashion-MNIST: grey pictures, 28 x 28, 10 classes -> (train, validation), in memory.

    root: None is the embedded class-balanced part (12,000 training images; 2,000 of the official test images for
    validation). "full" is the full set (60,000 and 10,000) wherever it is found: where tools/fetch_data.py puts
    it, else where Debian's package does. Anything else is a folder with the four idx files, gzipped or not.
    train_images, validation_images: take a class-balanced part of that size, always the same one; None takes all.
    crop_padding (pixels), flip: augmentation of the training images.
    classes: only these, by name, in the order of their labels. channels, image_size: 3 gives R, G and B the same grey,
    and more than 28 pixels a side scale the pictures up: for networks that were trained on others. Raises DataError.
    """
    if image_size < SIDE:
        raise DataError(f"fashion_mnist: image_size is {image_size}, wanted {SIDE} or more pixels, the pictures' own")
    names = CLASSES if classes is None else tuple(classes)
    label_of = _labels(names)
    folder = _folder(root)
    sets = []
    for split, setting, images in (
        ("train", "train_images", train_images),
        ("t10k", "validation_images", validation_images),
    ):
        pictures_path, labels_path = _files(folder, split)
        pictures, labels = read_idx(pictures_path, dimensions=3)[:, None], read_idx(labels_path, dimensions=1)
        if pictures.shape[1:] != (1, SIDE, SIDE):
            raise DataError(f"{pictures_path}: pictures of {pictures.shape[2:]} pixels, wanted ({SIDE}, {SIDE})")
        whole = ArrayDataset(pictures, labels, CLASSES, source=pictures_path, mean=MEAN, std=STD)
        kept = np.flatnonzero(label_of[whole.labels] >= 0)
        if images is not None:
            kept = kept[balanced_part(label_of[whole.labels[kept]], images, len(names), setting)]
        augmentation = {"crop_padding": crop_padding, "flip": flip} if split == "train" else {}
        sets.append(ArrayDataset(
            _scaled(whole.images[kept], image_size).repeat(channels, axis=1), label_of[whole.labels[kept]], names,
            source=pictures_path, mean=channels * MEAN, std=channels * STD, **augmentation,
        ))
    return tuple(sets)


def _labels(names):
    """int64 [10]: the label of each of CLASSES where these are the classes, -1 for one that is none of them."""
    for number, name in enumerate(names):
        if name not in CLASSES or name in names[:number]:
            fault = "is there twice" if name in CLASSES else f"is none of {', '.join(CLASSES)}"
            raise DataError(f"classes: {name} {fault}")
    if not names:
        raise DataError("classes: empty, wanted names such as Coat")
    return np.array([names.index(name) if name in names else -1 for name in CLASSES])


def _scaled(pictures, side):
    """uint8 [N, 1, side, side], bilinear."""
    if side == SIDE:
        return pictures
    scaled = [Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR) for picture in pictures[:, 0]]
    return np.stack([np.asarray(picture) for picture in scaled])[:, None]


def read_idx(path: str | Path, dimensions: int) -> np.ndarray:
    """An idx file of unsigned bytes (the MNIST format), plain or gzipped.

    dimensions: 3 for pictures, 1 for labels. Returns uint8 [N, H, W] or [N]. Raises DataError where the file is
    missing, is no such idx file, or is shorter or longer than its header says.
    """
    try:
        with open_file(path) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            return _read(path, gzip.GzipFile(fileobj=raw) if packed else raw, dimensions)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; wanted an idx file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as an idx file: {error}") from error


def _read(path, file, dimensions):
    """The array in an open idx file; of what a gzip file may unpack to, only what the header promises is read."""
    magic = bytes([0, 0, 8, dimensions])  # 8: unsigned bytes
    header = file.read(4 + 4 * dimensions)
    if header[:4] != magic or len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"{path}: begins with {header[:4].hex() or 'nothing'}, wanted {magic.hex()} and {dimensions} sizes "
            f"(idx, unsigned bytes)"
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    wanted = math.prod(shape)
    if wanted > LARGEST:
        raise DataError(f"{path}: its header says {shape}, which are {wanted:,} bytes; wanted {LARGEST:,} at most")
    content = file.read(wanted + 1)
    if len(content) != wanted:
        came = f"{'at least ' * (len(content) > wanted)}{len(content)}"
        raise DataError(f"{path}: holds {came} bytes of data, wanted {wanted} as its header says {shape}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write uint8 [N, ...] as a gzipped idx file, without a time stamp: the same array gives the same file."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as packed:
        packed.write(header + array.tobytes())


def _folder(root):
    if root is None:
        return EMBEDDED
    if root != "full":
        return Path(root)
    places = [DOWNLOADS / "fashion_mnist", DEBIAN]
    for place in places:
        if all(_find(place, name) for split in ("train", "t10k") for name in _names(split)):
            return place
    raise DataError(f"data.root 'full': neither {places[0]} nor {places[1]} holds the four idx files; {ADVICE}")


def _names(split):
    return f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"


def _find(folder, name):
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _files(folder, split):
    for name in _names(split):
        if not _find(folder, name):
            what = f"holds neither {name} nor {name}.gz" if folder.is_dir() else "no such folder"
            raise DataError(f"{folder}: {what}; {ADVICE}")
        yield _find(folder, name)
