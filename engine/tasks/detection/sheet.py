"""Samples with their objects: for the sheet of check_data, and validation samples above what a network finds there."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from data.detection.dataset import DetectionDataset
from data.detection.objects import Objects
from engine.check_data.samples import EPOCHS, Sheet, in_epochs
from engine.tasks.detection.drawing import draw_objects, drawable
from engine.tasks.detection.results import Answer, told

CELL = 240  # pixels of a picture's longer side on the sheet


def of_objects(dataset: DetectionDataset) -> Sheet:
    """Each sample as it is stored, then as the network sees it in the first epochs, with its objects."""

    def row_of(index, seed):
        yield _annotated(dataset.stored_picture(index), dataset.objects(index), dataset.classes)
        for epoch in range(EPOCHS):
            yield _annotated(*_seen(dataset, dataset.batch(np.array([index]), seed=seed, epoch=epoch)), dataset.classes)

    return in_epochs(dataset, row_of)


def _seen(dataset, batch):
    """The picture and the objects of a training batch of one."""
    height, width = batch["size"][0]
    picture = Image.fromarray(dataset.preparation.shown(batch["image"][0, :, :height, :width]))
    masks = None
    if "masks" in batch:
        masks = np.unpackbits(batch["masks"][0], axis=-1)[:, :height, :width].astype(bool)
    return picture, Objects(batch["boxes"][0], batch["classes"][0], masks, np.zeros(len(batch["boxes"][0]), bool))


def found_below(dataset: DetectionDataset, answers: Iterable[tuple[int, Answer]], least: float) -> np.ndarray:
    """Stored pictures side by side with what is annotated, and below each what was found -> uint8 [2 CELL, N CELL, 3].

    answers: for each picture its index and the answer in its pixels, of which what has at least that score is drawn.
    """
    columns = []
    for index, answer in answers:
        picture = dataset.stored_picture(index)
        size, small = (picture.height, picture.width), _size(picture)  # large masks would take much memory
        found = told(answer.resized(size, small), dataset.preparation, small, least)
        columns.append(np.concatenate([
            _annotated(picture, dataset.objects(index), dataset.classes),
            _cell(picture.resize(small[::-1]), *drawable(found)),
        ]))
    return np.concatenate(columns, axis=1)


def _size(picture):
    """(height, width) on the sheet."""
    return tuple(max(1, round(CELL / max(picture.size) * side)) for side in (picture.height, picture.width))


def _annotated(picture, objects, classes):
    names = [f"{classes[label]}{' (crowd)' if crowd else ''}"
             for label, crowd in zip(objects.classes, objects.crowd, strict=True)]
    return _cell(picture, objects.boxes, names, objects.masks)


def _cell(picture, boxes, names, masks):
    """uint8 [CELL, CELL, 3], scaled first, so that names can be read; white beside it."""
    scale, (height, width) = CELL / max(picture.size), _size(picture)
    if masks is not None:
        rows, columns = ((np.arange(there) * here // there) for there, here in
                         ((height, picture.height), (width, picture.width)))
        masks = masks[:, rows][:, :, columns]
    drawn = draw_objects(picture.resize((width, height)), scale * boxes, names, masks)
    cell = np.full((CELL, CELL, 3), 255, np.uint8)
    cell[:height, :width] = np.asarray(drawn)
    return cell
