"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the python archive, whose pickles are read as data, never run."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.arrays import ArrayDataset, balanced_part
from data.dataset import Dataset
from data.errors import DataError
from data.files import open_file, read_file
from data.lists import check_names
from data.members import next_member, open_tar, tar_pieces
from data.pickles import read_pickle
from data.sources import DOWNLOADS
from data.user_path import UserPath

LARGEST = 1 << 30  # bytes of an archive unpacked; the published ones have 190 million


class Layout(NamedTuple):
    """How one of the two sets lies in its archive; mean and std of R, G, B are over its training pixels."""

    name: str
    packed: str
    unpacked: str
    train: tuple
    test: tuple
    meta: str
    labels: bytes
    classes: bytes
    mean: tuple
    std: tuple



CIFAR10 = Layout(
    "cifar10", "cifar-10-python.tar.gz", "cifar-10-batches-py",
    ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"), ("test_batch",),
    "batches.meta", b"labels", b"label_names", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
)
CIFAR100 = Layout(
    "cifar100", "cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",),
    "meta", b"fine_labels", b"fine_label_names", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
)


def cifar10(
    root: UserPath | None = None, train_images: int | None = None, validation_images: int | None = None,
    crop_padding: int = 4, flip: bool = True,
) -> tuple[Dataset, Dataset]:
    """CIFAR-10: RGB pictures, 32 x 32, 10 classes, 50,000 + 10,000 -> (train, validation), in memory.

    root: cifar-10-python.tar.gz, the unpacked folder cifar-10-batches-py, or a folder that holds one of them; None is
    where tools/fetch_data.py puts it. train_images, validation_images: a class-balanced part of that size,
    always the same one; None takes all. crop_padding (pixels), flip: augmentation of the training images.
    Raises DataError.
    """
    return _sets(CIFAR10, root, train_images, validation_images, crop_padding, flip)


def cifar100(
    root: UserPath | None = None, train_images: int | None = None, validation_images: int | None = None,
    crop_padding: int = 4, flip: bool = True,
) -> tuple[Dataset, Dataset]:
    """CIFAR-100 with its 100 fine classes: RGB pictures, 32 x 32, 50,000 + 10,000 -> (train, validation), in memory.

    root: cifar-100-python.tar.gz, the unpacked folder cifar-100-python, or a folder that holds one of them; None
    is where tools/fetch_data.py puts it. The rest as for cifar10.
    """
    return _sets(CIFAR100, root, train_images, validation_images, crop_padding, flip)


def _sets(layout, root, train_images, validation_images, crop_padding, flip):
    path, contents = _read(layout, root)
    classes = _class_names(contents[layout.meta], layout.classes, f"{path}/{layout.meta}")
    check_names(classes, f"{path}/{layout.meta}")
    sets = []
    for files, setting, images, augmentation in (
        (layout.train, "train_images", train_images, {"crop_padding": crop_padding, "flip": flip}),
        (layout.test, "validation_images", validation_images, {}),
    ):
        parts = [_pictures_and_labels(contents[file], layout.labels, f"{path}/{file}") for file in files]
        pictures, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        dataset = ArrayDataset(pictures, labels, classes, source=path, mean=layout.mean, std=layout.std, **augmentation)
        if images is not None:
            dataset.keep(balanced_part(labels, images, len(classes), setting))
        sets.append(dataset)
    return tuple(sets)


def _read(layout, root):
    """Path of the archive or folder, and file name -> what its pickle holds."""
    root = Path(root or DOWNLOADS / layout.name)
    advice = f"wanted {layout.packed} or {layout.unpacked}; `python tools/fetch_data.py {layout.name}` fetches it"
    path = next((path for path in (root / layout.unpacked, root / layout.packed, root) if path.exists()), None)
    if path is None:
        raise DataError(f"{root}: no such file or folder; {advice}")
    if not path.is_file() and not path.is_dir():  # a pipe could be waited for without end
        raise DataError(f"{path}: is neither a file nor a folder; {advice}")
    names = (*layout.train, *layout.test, layout.meta)
    try:
        if path.is_dir():
            contents = {name: read_file(path / name, LARGEST) for name in names if os.path.lexists(path / name)}
        else:
            contents = _packed(path, {f"{layout.unpacked}/{name}": name for name in names})
    except DataError:
        raise
    except Exception as error:  # tarfile, gzip and zlib each have their own ways to say that an archive is damaged
        raise DataError(f"{path}: is truncated or no tar.gz archive: {error}") from error
    for name in names:
        if name not in contents:
            raise DataError(f"{path}: lacks {name}; {advice}")
    return path, {name: read_pickle(content, f"{path}/{name}") for name, content in contents.items()}


def _packed(path, wanted):
    """The bytes of the members `wanted` (member -> name), in one pass: a tar.gz cannot be sought in."""
    contents = {}
    with open_file(path) as file, open_tar(file, partial(_check_end, path)) as archive:
        while (member := next_member(archive)) is not None:
            if member.isreg() and member.name in wanted:
                contents[wanted[member.name]] = b"".join(tar_pieces(archive, member))
    return contents


def _check_end(path, position):
    if position > LARGEST:
        raise DataError(f"{path}: has more than {LARGEST:,} bytes unpacked; wanted one of the published sets")


def _class_names(content, key, name):
    names = _entry(content, key, name, list)
    try:
        return tuple(word.decode() if isinstance(word, bytes) else word.encode().decode() for word in names)
    except (AttributeError, UnicodeError):  # no text, or none that can be shown
        raise DataError(f"{name}: {key.decode()} holds something else than names") from None


def _pictures_and_labels(content, labels_key, name):
    """uint8 [N, 3, 32, 32] and int64 [N]; a row of the file is 1024 red bytes, then green, then blue, row-major."""
    rows, labels = _entry(content, b"data", name, np.ndarray), _entry(content, labels_key, name, list)
    if rows.dtype != np.uint8 or rows.shape != (len(labels), 3 * 32 * 32):
        wanted = f"uint8 {(len(labels), 3 * 32 * 32)}"
        raise DataError(f"{name}: data is {rows.dtype} {rows.shape}, wanted {wanted} to go with the labels")
    if not all(isinstance(label, int) and abs(label) < 2**63 for label in labels):
        raise DataError(f"{name}: {labels_key.decode()} holds something else than whole numbers")
    return rows.reshape(-1, 3, 32, 32), np.array(labels, np.int64)


def _entry(content, key, name, kind):
    # The published pickles have keys of bytes, one that Python 3 wrote has text.
    entries = content if isinstance(content, dict) else {}
    entry = entries.get(key, entries.get(key.decode()))
    if not isinstance(entry, kind):
        raise DataError(f"{name}: has no {'list' if kind is list else 'array'} {key.decode()!r}")
    return entry
