"""Composed images to classify: one garment, or an ordered pair, in a scene that no other image has."""

from typing import Literal

import numpy as np

from data.composing.backgrounds import random_background
from data.composing.camera import random_camera
from data.composing.clutter import strew
from data.composing.garments import Garments, random_tint
from data.composing.light import random_light
from data.composing.placing import random_pose
from data.composing.scene import Piece, compose
from data.errors import DataError
from data.idx import fashion_mnist
from data.normalise import normalise
from data.preparation import Preparation
from data.randomness import COMPOSITION, FIXED_COMPOSITION, generator

MEAN, STD = (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)
SMALLEST = 16  # pixels of a side


def composed(
    task: Literal["one", "pair"] = "one",
    train_images: int = 20000,
    validation_images: int = 2000,
    image_size: int = 48,
    warp: float = 1.0,
    clutter: float = 1.0,
    camera: float = 1.0,
    fresh: bool = True,
    root: str | None = None,
):
    """doc"""
    for name, value, wanted, right in (
        ("train_images", train_images, "1 or more", train_images >= 1),
        ("validation_images", validation_images, "1 or more", validation_images >= 1),
        ("image_size", image_size, f"{SMALLEST} or more pixels", image_size >= SMALLEST),
        ("warp", warp, "0 to 2", 0 <= warp <= 2),
        ("clutter", clutter, "0 to 4", 0 <= clutter <= 4),
        ("camera", camera, "0 to 2", 0 <= camera <= 2),
    ):
        if not right:
            raise DataError(f"composed: {name} is {value}, wanted {wanted}")
    sets = []
    for images, source, part in zip(
        (train_images, validation_images), fashion_mnist(root), (1, 2), strict=True
    ):
        garments = Garments(source.images[:, 0], source.labels, source.classes)
        sets.append(
            ComposedDataset(garments, task, images, image_size, warp, clutter, camera, part, fixed=part == 2 or not fresh)
        )
    return tuple(sets)


class ComposedDataset:
    skipped = 0

    def __init__(self, garments, task, images, image_size, warp, clutter, camera, part, *, fixed):
        self.garments, self.task, self.part, self.fixed = garments, task, part, fixed
        self.warp, self.clutter, self.camera = warp, clutter, camera
        names = garments.classes
        self.classes = names if task == "one" else tuple(f"{left} | {right}" for left in names for right in names)
        self.labels = np.arange(images) % len(self.classes)
        self.image_shape = (3, image_size, image_size)
        self.preparation = Preparation(self.classes, self.image_shape, MEAN, STD)
        self.in_memory = False

    def __len__(self):
        return len(self.labels)

    def batch(self, indices, *, seed, epoch):
        pixels = np.empty((len(indices), *self.image_shape), np.uint8)
        for row, index in enumerate(map(int, indices)):
            pixels[row] = self.composition(index, seed=seed, epoch=epoch).pixels
        return {
            "image": normalise(pixels, self.preparation.mean, self.preparation.std), "label": self.labels[indices],
        }

    def composition(self, index, *, seed, epoch):
        rng = generator(FIXED_COMPOSITION, self.part, index) if self.fixed else generator(COMPOSITION, seed, epoch, index)
        shape = self.image_shape[1:]
        background = random_background(rng, shape)
        strew(rng, background, self.garments, rng.poisson(2 * self.clutter))
        pieces = []
        if self.task == "one":
            pieces.append(self._garment(rng, self.labels[index], shape))
        else:
            half = (shape[0], shape[1] // 2)
            left, right = divmod(self.labels[index], len(self.garments.classes))
            pieces.append(self._garment(rng, left, half))
            pieces.append(self._garment(rng, right, half, (0, half[1])))
        return compose(background, pieces, random_light(rng, self.camera), random_camera(rng, self.camera), rng)

    def _garment(self, rng, label, shape, origin=(0, 0)):
        garment = self.garments.with_label[label][int(rng.random() * len(self.garments.with_label[label]))]
        pose = random_pose(rng, self.garments.corners[garment], shape, warp=self.warp, origin=origin)
        return Piece(self.garments.layers[garment], random_tint(rng), pose, int(label))
