"""Training samples with their objects, for the sheet of check_data."""

import numpy as np
from PIL import Image

from data.detection.dataset import DetectionDataset
from data.detection.objects import Objects
from engine.check_data.samples import EPOCHS, Sheet, in_epochs
from engine.tasks.detection.drawing import draw_objects

CELL = 240  # pixels of a picture's longer side on the sheet


def of_objects(dataset: DetectionDataset) -> Sheet:
    """Each sample as it is stored, then as the network sees it in the first epochs, with its objects."""

    def row_of(index, seed):
        yield _cell(dataset.stored_picture(index), dataset.objects(index), dataset.classes)
        for epoch in range(EPOCHS):
            yield _cell(*_seen(dataset, dataset.batch(np.array([index]), seed=seed, epoch=epoch)), dataset.classes)

    return in_epochs(dataset, row_of)


def _seen(dataset, batch):
    """The picture and the objects of a training batch of one."""
    height, width = batch["size"][0]
    picture = Image.fromarray(dataset.preparation.shown(batch["image"][0, :, :height, :width]))
    masks = None
    if "masks" in batch:
        masks = np.unpackbits(batch["masks"][0], axis=-1)[:, :height, :width].astype(bool)
    return picture, Objects(batch["boxes"][0], batch["classes"][0], masks, np.zeros(len(batch["boxes"][0]), bool))


def _cell(picture, objects, classes):
    """uint8 [CELL, CELL, 3], scaled first, so that names can be read; white beside it."""
    scale = CELL / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    masks = objects.masks
    if masks is not None:
        rows, columns = ((np.arange(there) * here // there) for there, here in
                         ((height, picture.height), (width, picture.width)))
        masks = masks[:, rows][:, :, columns]
    names = [f"{classes[label]}{' (crowd)' if crowd else ''}"
             for label, crowd in zip(objects.classes, objects.crowd, strict=True)]
    drawn = draw_objects(picture.resize((width, height)), scale * objects.boxes, names, masks)
    cell = np.full((CELL, CELL, 3), 255, np.uint8)
    cell[:height, :width] = np.asarray(drawn)
    return cell
