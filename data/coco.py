"""Pictures with objects as COCO annotates them, or labelme, or a JSON file for each picture."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from data.dataset import Batch, Dataset, Indices
from data.detection.annotations import LOST_MASK, NO_MASK, Annotations, checked, with_lost_masks
from data.detection.augmentation import augmented
from data.detection.batch import Sample, detection_batch, padded, sample_bytes
from data.detection.dataset import sampling_seed
from data.detection.documents import read_document
from data.detection.masks import mask_of, pycocotools_mask
from data.detection.objects import Objects
from data.detection.pictures import find_pictures
from data.detection.preparation import DetectionPreparation
from data.errors import DataError, printable
from data.held_out import held_out
from data.layout import count_unlisted
from data.normalise import normalise
from data.preparation import MAX_PIXELS, read_picture
from data.randomness import AUGMENTATION, generator
from data.readable import readable
from data.user_path import UserPath
from data.walk import unused_text

UNANNOTATED = "without an object to learn from"
log = logging.getLogger("data")


def coco(
    root: UserPath, train: UserPath = "annotations/instances_train2017.json",
    validation: UserPath | None = "annotations/instances_val2017.json", train_pictures: UserPath | None = None,
    validation_pictures: UserPath | None = None, validation_share: float = 0.2, split_seed: int = 0,
    resize_short: int = 800, resize_long: int = 1333, train_resize_short: tuple[int, ...] | None = None,
    flip: bool = True, masks: bool = True, without_objects: Literal["drop", "keep"] = "drop",
    on_corrupt_image: Literal["stop", "skip"] = "stop", max_pixels: int = MAX_PIXELS,
) -> tuple[Dataset, Dataset]:
    """Pictures below `root` with boxes and masks -> (train, validation), decoded when they are needed.

    `train` and `validation` are annotation files of COCO's form, or folders with a JSON file for each picture,
    labelme's or plain ones (data/detection/documents.py). Classes are the training set's categories in the order of
    their ids, which are kept for files of results. validation None: `validation_share` of the pictures are held out,
    the same ones on every machine, other ones for another `split_seed`.

    train_pictures, validation_pictures: the folders that file_name starts from. None: the first that has the first
    picture, of those that data/detection/pictures.py lists, such as train2017 for instances_train2017.json.

    The short side is scaled to resize_short, or less where the long side would exceed resize_long (pixels); in training
    to one of `train_resize_short`, drawn for each picture. flip: half of the training pictures are mirrored. Pixels are
    normalised as ImageNet's. masks: False reads boxes only, and needs no pycocotools.

    without_objects: whether training pictures without an object, or with crowds only, are dropped. Validation keeps
    all. Crowds are not learned; evaluation ignores what lies in them. Annotations of no use (no area, outside of their
    picture, no mask) are left out and counted, and one line says so. on_corrupt_image, max_pixels: as of image_folder.

    Raises DataError, one line with file and place, for all that is missing, wrong or contradictory.
    """
    short_sides = train_resize_short or (resize_short,)
    _check_settings(validation_share, (resize_short, *short_sides), resize_long, max_pixels)
    from data.transforms import MEAN, STD  # here, for it loads Paddle

    folder = Path(root)
    part = _part(folder, train, train_pictures, masks)
    if validation is None:
        part, other = _split(part, folder, validation_share, split_seed)
    else:
        other = _part(folder, validation, validation_pictures, masks, part.noted)
    unused = Counter()
    count_unlisted(folder, [os.fsdecode(path) for each in (part, other) for path in each.paths], unused)
    if without_objects == "drop":
        useful = part.pictures[_with_objects(part.noted)[part.pictures]]
        if not len(useful):
            raise DataError(f"{folder / train}: none of its pictures has an object to learn from{_why(part.noted)}")
        if dropped := len(part.pictures) - len(useful):
            unused[UNANNOTATED, str(folder / train)] = dropped
        part = part._replace(pictures=useful)
    if masks:
        part = part._replace(noted=with_lost_masks(part.noted, part.pictures, max(short_sides), resize_long))
        _tell_left_out(part.noted, part.noted.left_out.keys() & {LOST_MASK})
    if unused:
        log.warning("%s", printable(f"data.root {folder}: {unused_text(unused)}; tools/check_data.py says where"))
    preparation = DetectionPreparation(
        part.noted.class_names, (3, *padded((resize_short, resize_long))), MEAN, STD, resize_short,
        resize_long=resize_long, category_ids=part.noted.category_ids,
    )
    shared = {"masks": masks, "on_corrupt_image": on_corrupt_image, "max_pixels": max_pixels}
    return (
        CocoDataset(part, preparation, short_sides=short_sides, flip=flip, unused=unused, **shared),
        CocoDataset(other, preparation, **shared),
    )


class Part(NamedTuple):
    """The annotations for training or for validation, the paths of all their pictures, bytes [N], the indices of those
    pictures that are taken, and in words where they were found."""

    noted: Annotations
    paths: np.ndarray
    pictures: np.ndarray
    origin: str


class CocoDataset:
    """The pictures of a Part. A DetectionDataset.

    A training set has `short_sides`, as `augmented` takes them. The other settings are those of coco().
    """

    labels = None
    in_memory = False

    def __init__(
        self, part: Part, preparation: DetectionPreparation, *, masks: bool, on_corrupt_image: Literal["stop", "skip"],
        max_pixels: int, short_sides: Sequence[int] | None = None, flip: bool = False, unused: Counter | None = None,
    ):
        self.noted, self.pictures, self.paths = part.noted, part.pictures, part.paths[part.pictures]
        self.preparation, self.origin, self.has_masks = preparation, part.origin, masks
        self.classes, self.image_shape = preparation.classes, preparation.image_shape
        self.image_ids, self.category_ids = part.noted.image_ids[part.pictures], part.noted.category_ids
        self.short_sides, self.flip = short_sides, flip
        self.on_corrupt_image, self.max_pixels = on_corrupt_image, max_pixels
        self.unused, self.skipped = unused or Counter(), 0
        most = int(np.diff(part.noted.starts)[part.pictures].max(initial=0))
        self.sample_bytes = sample_bytes([preparation.resize_long] * 2, most, masks=masks)

    def __len__(self) -> int:
        return len(self.pictures)

    def digest(self) -> str:
        """Another text for other pictures or annotations, or another order; wherever they lie."""
        return hashlib.sha256(self.noted.digest().encode() + self.pictures.tobytes()).hexdigest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N], in that order, as `detection_batch` says.

        What augmentation does to sample i depends on (seed, epoch, i) and nothing else. Shorter than N only where
        validation pictures are skipped. Raises DataError.
        """
        training = self.short_sides is not None
        samples = [self._sample(int(index), seed, epoch, training) for index in indices]
        samples = [sample for sample in samples if sample]
        return detection_batch(samples, training=training, masks=self.has_masks)

    def stored_picture(self, index: int) -> Image.Image:
        """The PIL picture of a sample as its file has it, upright and RGB. Raises DataError."""
        picture = read_picture(self.path(index), self.max_pixels, 0)
        height, width = self._size(index)
        if picture.size != (width, height):
            came = f"{picture.width} x {picture.height} pixels, turned upright"
            raise DataError(f"{self.path(index)}: has {came}; its annotations are of {width} x {height}")
        return picture

    def objects(self, index: int) -> Objects:
        """All that is annotated in the stored picture."""
        numbers = np.array(self.noted.of_picture(self.pictures[index]), np.int64)
        return self._objects(index, numbers, self._size(index))

    def annotations(self, index: int) -> list[dict]:
        """The same as COCO writes it."""
        noted, entries = self.noted, []
        for number in noted.of_picture(self.pictures[index]):
            entry = {
                "image_id": int(self.image_ids[index]), "category_id": int(self.category_ids[noted.classes[number]]),
                "iscrowd": int(noted.crowd[number]), "bbox": noted.boxes[number].tolist(),
                "area": float(noted.areas[number]),
            }
            entries.append({**entry, "segmentation": noted.segmentation(number)} if self.has_masks else entry)
        return entries

    @property
    def left_out(self) -> dict[str, list[str]]:
        """Where what is of no use stands in the file that this part was read from, by the reason."""
        place = partial(self.noted.place, "annotations")
        return {reason: list(map(place, numbers)) for reason, numbers in self.noted.left_out.items()}

    def path(self, index: int) -> str:
        """The file of a sample."""
        return os.fsdecode(self.paths[index])

    def _sample(self, index, seed, epoch, training):
        found, picture = readable(self, index, training=training)
        if picture is None:
            return None
        size = picture.height, picture.width
        if not training:
            return Sample(self.preparation(picture), size, found)
        own = np.array(self.noted.of_picture(self.pictures[found]), np.int64)
        picture, objects = augmented(
            generator(AUGMENTATION, seed, epoch, index), picture,
            partial(self._objects, found, own[~self.noted.crowd[own]]),
            short_sides=self.short_sides, long_side=self.preparation.resize_long, flip=self.flip,
        )
        image = normalise(np.asarray(picture).transpose(2, 0, 1), self.preparation.mean, self.preparation.std)
        return Sample(image, size, found, objects, sampling_seed(seed, epoch, index))

    def _objects(self, index, numbers, after):
        """Those of some numbers, as they lie in the picture resized to (height, width)."""
        noted, before = self.noted, self._size(index)
        vertical, horizontal = (there / here for here, there in zip(before, after, strict=True))
        x, y, width, height = noted.boxes[numbers].T
        boxes = np.stack([x * horizontal, y * vertical, (x + width) * horizontal, (y + height) * vertical], axis=1)
        masks = None
        if self.has_masks:
            masks = np.zeros((len(numbers), *after), bool)
            for mask, number in zip(masks, numbers, strict=True):
                mask[:] = mask_of(noted.segmentation(number), before, after)
        return Objects(np.float32(boxes), noted.classes[numbers], masks, noted.crowd[numbers])

    def _size(self, index):
        return tuple(self.noted.sizes[self.pictures[index]].tolist())


def _part(folder, name, pictures, masks, known=None):
    """All that a file or folder of annotations has; known: the Annotations of the training set."""
    by_name = known and dict(zip(known.class_names, known.category_ids, strict=True))
    noted = checked(read_document(folder / name, by_name), masks=masks, known=known)
    _tell_left_out(noted, noted.left_out)
    if noted.crowd.sum() > len(noted.crowd) / 2:
        said = f"{noted.crowd.sum():,} of {len(noted.crowd):,} annotations have iscrowd 1: nothing is learned of crowds"
        log.warning("%s", printable(f"{folder / name}: {said}"))
    if noted.has_polygons:
        pycocotools_mask()
    paths = find_pictures(noted, folder, folder / name, pictures)
    return Part(noted, paths, np.arange(len(paths)), str(folder / name))


def _tell_left_out(noted, reasons):
    for reason in reasons:
        numbers = noted.left_out[reason]
        first = noted.place("annotations", numbers[0])
        log.warning("%s", printable(f"{len(numbers):,} annotations {reason}; the first is {first}"))


def _why(noted):
    """Why a set has nothing to learn from, where it can be told."""
    if len(noted.crowd):
        return "; all annotations have iscrowd 1" if noted.crowd.all() else ""
    advice = "model.name=faster_rcnn model.mask_head_norm=none data.masks=false learns boxes alone"
    return f"; no annotation has a mask: {advice}" if NO_MASK in noted.left_out else ""


def _split(part, folder, share, seed):
    """The part for training and the one that is held out."""
    files = [os.fsdecode(path) for path in part.paths]
    chosen = held_out(files, folder, share, seed)
    is_held_out = np.array([file in chosen for file in files])
    words = f" less {100 * share:g} % of its pictures", f": {100 * share:g} % of its pictures (data.validation_share)"
    return [
        part._replace(pictures=np.flatnonzero(own), origin=part.origin + word)
        for own, word in zip((~is_held_out, is_held_out), words, strict=True)
    ]


def _with_objects(annotations):
    """bool [N]: which pictures show more than crowds."""
    learned = np.concatenate([[0], np.cumsum(~annotations.crowd)])
    return learned[annotations.starts[1:]] > learned[annotations.starts[:-1]]


def _check_settings(validation_share, short_sides, resize_long, max_pixels):
    for name, value, wanted, right in (
        ("validation_share", validation_share, "a share between 0 and 1", 0 < validation_share < 1),
        ("resize_short", short_sides[0], f"1 to resize_long ({resize_long})", 1 <= short_sides[0] <= resize_long),
        ("train_resize_short", list(short_sides[1:]), f"each 1 to resize_long ({resize_long})",
         all(1 <= side <= resize_long for side in short_sides)),
        ("max_pixels", max_pixels, "1 or more", max_pixels >= 1),
    ):
        if not right:
            raise DataError(f"coco: {name} is {value}, wanted {wanted}")
