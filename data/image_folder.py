"""Image files in the ImageNet layout: class folders, or lists of `path label` as PaddleClas writes them."""

import logging
import os
from pathlib import Path
from typing import Literal

import numpy as np

from data.errors import DataError
from data.preparation import PICTURE_ENDINGS, Preparation, read_picture
from data.randomness import AUGMENTATION, global_state_seeded

log = logging.getLogger("data")


def image_folder(
    root: str,
    train: str = "train",
    validation: str = "val",
    image_size: int = 224,
    resize_short: int = 256,
    min_area: float = 0.08,
    flip: bool = True,
    color_jitter: float = 0.4,
    lighting: float = 0.1,
    on_corrupt_image: Literal["stop", "skip"] = "stop",
):
    """Image files below `root` -> (train, validation), decoded when they are needed, with the paper's augmentation.

    `train` and `validation` each name, below root, a folder of class folders or a list file.

    Class folders: the classes are the sub-folders of `train` in sorted order; files end in .jpg, .jpeg, .png, .bmp or
    .webp, at any depth; names that begin with a dot are passed over. `validation` must have the same classes.

    List file: `path label` on each line, the path relative to root (it may hold spaces), labels from 0. The class names
    come from root/classes.txt (one a line, the first is class 0), else from PaddleClas's
    root/label_list.txt (`label name` on each line), else they are the numbers up to the highest label of `train`.

    Every class needs a training image, every class folder an image. Training: see TrainingTransform; validation: short
    side to resize_short, centre crop of image_size (pixels). on_corrupt_image: "stop" raises DataError with the path
    of an image that cannot be read; "skip" logs and counts it (`skipped` of the set) and goes on: in training the
    next readable image of the set stands in, so that batches stay full; in validation the image is left out.
    Raises DataError for all that is missing or contradictory.
    """
    _check_settings(image_size, resize_short, min_area, color_jitter, lighting)
    from data.transforms import INTERPOLATION, MEAN, STD, TrainingTransform  # here, for it loads Paddle

    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data.root {root}: no such folder; wanted one that holds {train} and {validation}")
    classes = _class_names(root, train)
    training_files = _files_and_labels(root, train, classes)
    validation_files = _files_and_labels(root, validation, classes)
    counts = np.bincount(training_files[1], minlength=len(classes))
    if not counts.all():
        label = int(counts.argmin())
        raise DataError(f"{root / train}: no image of class {label} ({classes[label]}); wanted one of each or more")
    preparation = Preparation(classes, (3, image_size, image_size), MEAN, STD, resize_short, INTERPOLATION)
    augmentation = TrainingTransform(image_size, min_area, flip, color_jitter, lighting)
    return (
        ImageDataset(root, *training_files, preparation, on_corrupt_image, augmentation),
        ImageDataset(root, *validation_files, preparation, on_corrupt_image),
    )


class ImageDataset:
    """Image files and labels; a file is decoded and transformed each time that it is asked for.

    paths [N], relative to root, labels [N]. A training set has an `augmentation` in the place of the `preparation` that
    validation uses. `skipped` counts the images left out so far.
    """

    in_memory = False

    def __init__(self, root, paths, labels, preparation, on_corrupt_image, augmentation=None):
        # One block of bytes, not a million objects: worker processes share it, for nothing in it counts references.
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.root, self.labels = root, np.asarray(labels, np.int64)
        self.classes, self.image_shape = preparation.classes, preparation.image_shape
        self.preparation, self.augmentation = preparation, augmentation
        self.on_corrupt_image = on_corrupt_image
        self.skipped = 0

    def __len__(self):
        return len(self.paths)

    def batch(self, indices, *, seed, epoch):
        """The samples `indices` [N], in that order: {"image": float32 [N, 3, H, W] normalised, "label": int64 [N]}.

        What augmentation does to sample i depends on (seed, epoch, i) and nothing else. Shorter than N only where
        validation images are skipped. Raises DataError.
        """
        images, labels = np.empty((len(indices), *self.image_shape), np.float32), []
        for index in map(int, indices):
            found, picture = self._readable(index)
            if picture is None:
                continue
            if self.augmentation is None:
                images[len(labels)] = self.preparation(picture)
            else:
                with global_state_seeded(AUGMENTATION, seed, epoch, index):
                    images[len(labels)] = self.augmentation(picture)
            labels.append(self.labels[found])
        return {"image": images[: len(labels)], "label": np.array(labels, np.int64)}

    def _readable(self, index):
        """Index and picture of this sample or, in training, of the next that can be read; (index, None) if skipped."""
        is_training = self.augmentation is not None
        for candidate in range(index, index + (len(self) if is_training else 1)):
            candidate %= len(self)
            try:
                return candidate, read_picture(os.fsdecode(self.paths[candidate]))
            except DataError as error:
                if self.on_corrupt_image == "stop":
                    raise
                self.skipped += 1
                log.warning("skipped %s", error)
        if is_training:
            path = os.fsdecode(self.paths[index])
            raise DataError(f"{path}: cannot be read as an image, and none of the {len(self)} training images can")
        return index, None


def _check_settings(image_size, resize_short, min_area, color_jitter, lighting):
    for name, value, wanted, right in (
        ("image_size", image_size, "1 or more pixels", image_size >= 1),
        ("resize_short", resize_short, f"image_size ({image_size}) or more", resize_short >= image_size),
        ("min_area", min_area, "more than 0 and at most 1", 0 < min_area <= 1),
        ("color_jitter", color_jitter, "0 or more", color_jitter >= 0),
        ("lighting", lighting, "0 or more", lighting >= 0),
    ):
        if not right:
            raise DataError(f"image_folder: {name} is {value}, wanted {wanted}")


def _class_names(root, train):
    if (root / train).is_dir():
        names = _visible_folders(root / train)
        if not names:
            raise DataError(f"{root / train}: holds no class folders; wanted one folder of images for each class")
        return names
    if (root / "classes.txt").is_file():
        return [line.strip() for _, line in _lines(root / "classes.txt")]
    if (root / "label_list.txt").is_file():
        path = root / "label_list.txt"
        names = {}
        for number, line in _lines(path):
            label, _, name = line.strip().partition(" ")
            if not label.isdecimal():
                raise DataError(f"{path}, line {number}: got {line!r}, wanted `label name`")
            names[int(label)] = name.strip() or label
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: labels are not 0 to {len(names) - 1}, each once")
        return [names[label] for label in range(len(names))]
    highest = max(label for _, _, label in _read_list(root / train))
    return [str(label) for label in range(highest + 1)]


def _files_and_labels(root, split, classes):
    """Paths and labels of one split; in sorted order for class folders, else in the list's order."""
    path = root / split
    if not path.is_dir():
        entries = _read_list(path)
        for number, _, label in entries:
            if label >= len(classes):
                raise DataError(f"{path}, line {number}: label {label}, wanted 0 to {len(classes) - 1}")
        return [os.path.join(root, file) for _, file, _ in entries], [label for _, _, label in entries]
    folders = _visible_folders(path)
    if set(folders) != set(classes):
        odd = sorted(set(folders) ^ set(classes))[0]
        raise DataError(
            f"{path}: {'lacks a folder for' if odd in classes else 'has a folder for the unknown'} class {odd!r}; "
            f"wanted the {len(classes)} classes of the training set"
        )
    files, labels = [], []
    for label, name in enumerate(classes):
        found = _image_files(path / name)
        if not found:
            raise DataError(f"{path / name}: empty class folder; wanted images ({' '.join(PICTURE_ENDINGS)})")
        files += found
        labels += [label] * len(found)
    return files, labels


def _visible_folders(path):
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder):
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in names if not name.startswith(".")]
        found += [os.path.join(parent, name) for name in visible if name.lower().endswith(PICTURE_ENDINGS)]
    return sorted(found)


def _read_list(path):
    """(line number, path, label) of each line of a `path label` list, split from the right."""
    entries = []
    for number, line in _lines(path):
        parts = line.rsplit(maxsplit=1)
        if len(parts) != 2 or not parts[1].isdecimal():
            raise DataError(f"{path}, line {number}: got {line!r}, wanted `path label` with a label of 0 or more")
        entries.append((number, parts[0].strip(), int(parts[1])))
    return entries


def _lines(path):
    """(number from 1, text) of the lines of a text file that are not blank."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; wanted a folder of class folders or a list of `path label`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    lines = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: is empty")
    return lines
