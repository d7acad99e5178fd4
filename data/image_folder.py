"""Image files in class folders, split or not, or in lists of `path label` as PaddleClas writes them."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data.dataset import Batch, Dataset, Indices, labelled_bytes
from data.errors import DataError, printable
from data.layout import Part, Wanted, find_parts
from data.preparation import MAX_PIXELS, Preparation, read_picture
from data.randomness import AUGMENTATION, global_state_seeded
from data.readable import readable
from data.user_path import UserPath
from data.walk import unused_text

log = logging.getLogger("data")


def image_folder(
    root: UserPath, train: UserPath = "train", validation: UserPath = "val", validation_share: float = 0.2,
    split_seed: int = 0, image_size: int = 224, resize_short: int = 256, min_area: float = 0.08, flip: bool = True,
    color_jitter: float = 0.4, lighting: float = 0.1, on_corrupt_image: Literal["stop", "skip"] = "stop",
    split: Literal["auto", "folders", "none"] = "auto", first_label: int = 0, max_pixels: int = MAX_PIXELS,
) -> tuple[Dataset, Dataset]:
    """Image files below `root` -> (train, validation), decoded when they are needed, with the paper's augmentation.

    `train` and `validation` each name, below root, a folder of class folders or a list file. Without a folder val,
    one called valid or validation serves. Pictures are turned upright, as their EXIF orientation says.

    Class folders: the classes are the sub-folders of `train` in sorted order; files end as PICTURE_ENDINGS say, at any
    depth, behind links too; names that begin with a dot, and __MACOSX, are passed over. `validation` must have the same
    classes.

    No split: where root itself holds the class folders, `validation_share` of every class is held out for validation,
    one picture at least and never all: the same ones on every machine, other ones for another `split_seed`. `split`
    overrules the guess: "folders" are `train` and `validation`, with "none" every folder of root is a class.

    List file: `path label` on each line, the path relative to root (it may hold spaces), labels from `first_label` on.
    The class names come from root/classes.txt (one a line, the first is the first class), else from root/labels.txt
    where it has as many, else from PaddleClas's root/label_list.txt (`label name` on each line), else they are the
    numbers up to the highest label of `train`.

    Pictures that are there and not taken are counted in `unused` of the training set, and one line says so. Every
    class needs a training image, every class folder an image. No picture may have more than `max_pixels`. Training: see
    TrainingTransform; validation: short side to resize_short, centre crop of image_size (pixels). on_corrupt_image:
    "stop" raises DataError with the path of an image that cannot be read; "skip" logs and counts it (`skipped` of the
    set) and goes on: in training the next readable image of the set stands in, so that batches stay full; in validation
    the image is left out.
    Raises DataError for all that is missing or contradictory.
    """
    _check_settings(
        validation_share, image_size, resize_short, min_area, color_jitter, lighting, first_label, max_pixels
    )
    from data.transforms import INTERPOLATION, MEAN, STD, TrainingTransform  # here, for it loads Paddle

    folder = Path(root)
    wanted = Wanted(folder, train, validation, split, first_label, validation_share, split_seed)
    try:
        classes, *parts, unused = find_parts(wanted)
    except OSError as error:  # a folder that may not be read, lost+found for one
        raise DataError(f"{error.filename}: {error.strerror}") from error
    if unused:
        log.warning("%s", printable(f"data.root {folder}: {unused_text(unused)}; tools/check_data.py says where"))
    preparation = Preparation(classes, (3, image_size, image_size), MEAN, STD, resize_short, INTERPOLATION)
    augmentation = TrainingTransform(image_size, min_area, flip, color_jitter, lighting)
    train_part, validation_part = parts
    return (
        ImageDataset(train_part, preparation, on_corrupt_image, augmentation, max_pixels=max_pixels, unused=unused),
        ImageDataset(validation_part, preparation, on_corrupt_image, max_pixels=max_pixels),
    )


class ImageDataset:
    """The image files of a part; a file is decoded and transformed each time that it is asked for.

    A training set has an `augmentation` in the place of the `preparation` that validation uses. `paths` [N] are
    encoded; the other attributes are every Dataset's.
    """

    in_memory = False

    def __init__(
        self,
        part: Part,
        preparation: Preparation,
        on_corrupt_image: Literal["stop", "skip"],
        augmentation: Callable[[Image.Image], np.ndarray] | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
        unused: Counter | None = None,
    ):
        # One block of bytes, not a million objects: worker processes share it, for nothing in it counts references.
        self.paths = np.array([os.fsencode(path) for path in part.paths])
        self.labels, self.origin = np.asarray(part.labels, np.int64), part.origin
        self.classes, self.image_shape = preparation.classes, preparation.image_shape
        self.sample_bytes = labelled_bytes(self.image_shape)
        self.preparation, self.augmentation = preparation, augmentation
        self.on_corrupt_image, self.max_pixels = on_corrupt_image, max_pixels
        self.unused = unused or Counter()
        self.skipped = 0

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self) -> str:
        """Another text for files of other names or labels, or another order; wherever the folder lies."""
        names = self.paths.tolist()
        start = os.path.commonprefix([min(names), max(names)]).rfind(os.sep.encode()) + 1
        content = hashlib.sha256(self.labels)
        content.update(b"\0".join(name[start:] for name in names))
        return content.hexdigest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N], in that order: {"image": float32 [N, 3, H, W] normalised, "label": int64 [N]}.

        What augmentation does to sample i depends on (seed, epoch, i) and nothing else. Shorter than N only where
        validation images are skipped. Raises DataError.
        """
        images, labels = np.empty((len(indices), *self.image_shape), np.float32), []
        for index in map(int, indices):
            found, picture = readable(self, index, training=self.augmentation is not None)
            if picture is None:
                continue
            if self.augmentation is None:
                images[len(labels)] = self.preparation(picture)
            else:
                with global_state_seeded(AUGMENTATION, seed, epoch, index):
                    images[len(labels)] = self.augmentation(picture)
            labels.append(self.labels[found])
        return {"image": images[: len(labels)], "label": np.array(labels, np.int64)}

    def stored_picture(self, index: int) -> Image.Image:
        """The PIL picture of a sample as its file has it, upright and RGB. Raises DataError."""
        return read_picture(self.path(index), self.max_pixels, self.preparation.resize_short or 0)

    def path(self, index: int) -> str:
        """The file of a sample."""
        return os.fsdecode(self.paths[index])


def _check_settings(
    validation_share, image_size, resize_short, min_area, color_jitter, lighting, first_label, max_pixels
):
    for name, value, wanted, right in (
        ("validation_share", validation_share, "a share between 0 and 1", 0 < validation_share < 1),
        ("image_size", image_size, "1 or more pixels", image_size >= 1),
        ("resize_short", resize_short, f"image_size ({image_size}) or more", resize_short >= image_size),
        ("min_area", min_area, "more than 0 and at most 1", 0 < min_area <= 1),
        ("color_jitter", color_jitter, "0 or more", color_jitter >= 0),
        ("lighting", lighting, "0 or more", lighting >= 0),
        ("first_label", first_label, "0 or more", first_label >= 0),
        ("max_pixels", max_pixels, "1 or more", max_pixels >= 1),
    ):
        if not right:
            raise DataError(f"image_folder: {name} is {value}, wanted {wanted}")
