"""Composed images to classify: one garment, or an ordered pair, in a scene that no other image shows."""

from collections import Counter
from typing import Literal

import numpy as np
from PIL import Image

from data.composing.backdrops import Backdrops
from data.composing.camera import random_camera
from data.composing.garments import Garments, random_tint
from data.composing.light import random_light
from data.composing.placing import random_pose
from data.composing.scene import Composition, Piece, compose
from data.dataset import Batch, Dataset, Indices, labelled_bytes, picture_of
from data.errors import DataError
from data.idx import fashion_mnist
from data.normalise import normalise
from data.preparation import Preparation
from data.randomness import COMPOSITION, generator
from data.user_path import UserPath

MEAN, STD = (0.465, 0.465, 0.465), (0.205, 0.205, 0.205)  # what the defaults give, in R, G and B alike
SMALLEST = 16  # pixels of an image's side
FRESH, TRAINING, VALIDATION = range(3)  # whose draws: of one epoch of training, or of one of the two fixed sets
LARGEST = {"one": 1.0, "pair": 1.2}  # of a garment's square in the shorter side of where it lies
SHRUNK = 0.65  # of that, the smallest at strength 1
HALF = 0.55  # of an image's width, the part in which each garment of a pair lies


def composed(
    task: Literal["one", "pair"] = "one",
    train_images: int = 16000,
    validation_images: int = 2000,
    image_size: int = 48,
    warp: float = 0.3,
    clutter: float = 2.0,
    camera: float = 1.0,
    fresh: bool = True,
    root: UserPath | None = None,
    classes: tuple[str, ...] | None = None,
) -> tuple[Dataset, Dataset]:
    """Fashion-MNIST garments in scenes drawn by formula: RGB, 10 or 100 classes -> (train, validation).

    Composed images, as varied as photographs, of which there are as many as are asked for. A garment is tinted,
    bent, turned, mirrored and lit from a side, with a shadow, and lies wholly in the image. Behind it are colour
    fields, gratings, 1/f noise or ellipses, and pieces of other garments; colours tell nothing of the class.

    task: "one" garment, 10 classes; "pair": one on the left and one on the right, 100 classes, 10 * left + right. Of
        other `classes` than all it is their number, and its square.
    train_images: of an epoch; classes are as even as can be.
    validation_images: always the same ones, whatever the seed, of other garments than training.
    image_size: pixels of height and width, 16 or more; below 32 garments are hard to tell.
    warp: strength of the geometry, 0 to 2; at 0 a garment stands upright in the middle and is as high or wide as the
        image. At strength w it is turned by up to 30 w degrees either way, leans by up to 0.2 w columns per row, is
        bent by two waves of slope up to 0.2 w, shrunk to 0.65^w at least, and lies up to w of the way to a border.
    clutter: pieces of other garments in an image, on average, 0 to 20.
    camera: how much light and camera vary from image to image, 0 to 2; at 0 light is even, and there is no noise. At 1
        exposure goes over 1.2 stops, contrast over a factor of 2.2, saturation from nearly none to 1.3.
    fresh: in every epoch other images; else the same ones again, whatever the seed, as from a set on disk.
    root: where the garments are, as for fashion_mnist; None is the embedded part, 12,000 and 2,000 of them.
    classes: only garments of these, as for fashion_mnist, the pieces of clutter included.

    A fresh image depends on (seed, epoch, index) and the settings, and nothing else. Its backdrop is cut from one of
    256 that are drawn anew for every epoch. The same NumPy draws the same on every machine, but for single pixels
    where a sine or a product is rounded differently. Raises DataError.
    """
    for name, value, wanted, right in (
        ("train_images", train_images, "1 or more", train_images >= 1),
        ("validation_images", validation_images, "1 or more", validation_images >= 1),
        ("image_size", image_size, f"{SMALLEST} or more pixels", image_size >= SMALLEST),
        ("warp", warp, "0 to 2", 0 <= warp <= 2),
        ("clutter", clutter, "0 to 20", 0 <= clutter <= 20),
        ("camera", camera, "0 to 2", 0 <= camera <= 2),
    ):
        if not right:
            raise DataError(f"composed: {name} is {value}, wanted {wanted}")
    sets = fashion_mnist(root, classes=classes)
    train, validation = (Garments(part.images[:, 0], part.labels, part.classes) for part in sets)
    settings = {"task": task, "image_size": image_size, "warp": warp, "clutter": clutter, "camera": camera}
    return (
        ComposedDataset(train, train_images, FRESH if fresh else TRAINING, **settings),
        ComposedDataset(validation, validation_images, VALIDATION, **settings),
    )


class ComposedDataset:
    """`images` composed images of some Garments; draws is FRESH, TRAINING or VALIDATION. The rest as composed() says.

    Fixed images stay in memory once they are composed.
    """

    skipped = 0
    unused = Counter()
    stored = "another draw"  # what stored_picture is, on a sheet of samples

    def __init__(
        self, garments: Garments, images: int, draws: int, *, task: str, image_size: int, warp: float, clutter: float,
        camera: float,
    ):
        self.garments, self.task, self.draws, self.warp, self.camera = garments, task, draws, warp, camera
        names = garments.classes
        self.classes = names if task == "one" else tuple(f"{left} | {right}" for left in names for right in names)
        self.labels = np.arange(images) % len(self.classes)
        self.image_shape = (3, image_size, image_size)
        self.sample_bytes = labelled_bytes(self.image_shape)
        self.preparation = Preparation(self.classes, self.image_shape, MEAN, STD)
        self.in_memory = draws != FRESH
        self.origin = f"composed with {len(garments):,} garments"
        self._backdrops = Backdrops(garments, self.image_shape[1:], clutter)
        self._kept = {}

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Another text for other garments; what is composed of them follows from settings."""
        return self.garments.digest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N], in that order: {"image": float32 [N, 3, H, W] normalised, "label": int64 [N]}."""
        pixels = np.empty((len(indices), *self.image_shape), np.uint8)
        for row, index in enumerate(map(int, indices)):
            pixels[row] = self._pixels(index, seed, epoch)
        image = normalise(pixels, self.preparation.mean, self.preparation.std)
        return {"image": image, "label": self.labels[indices]}

    def composition(self, index: int, *, seed: int, epoch: int) -> Composition:
        """One sample with all that is known of it, as `batch` shows it."""
        return self._composition(index, (FRESH, seed, epoch) if self.draws == FRESH else (self.draws, 0, 0))

    def stored_picture(self, index: int) -> Image.Image:
        """The sample as a fixed set would have it, which is what stands for a set without an end."""
        return picture_of(self._fixed(index))

    def path(self, index: int) -> None:
        """None: there is no file."""

    def _fixed(self, index):
        return self._composition(index, (self.draws or TRAINING, 0, 0)).pixels

    def _pixels(self, index, seed, epoch):
        if self.draws == FRESH:
            return self.composition(index, seed=seed, epoch=epoch).pixels
        if index not in self._kept:
            self._kept[index] = self._fixed(index)
        return self._kept[index]

    def _composition(self, index, key):
        rng = generator(COMPOSITION, *key, index)
        label, height, width = int(self.labels[index]), *self.image_shape[1:]
        if self.task == "one":
            pieces = [self._piece(rng, label, (height, width))]
        else:
            left, right = divmod(label, len(self.garments.classes))
            half, other_half = (height, HALF * width), (0, (1 - HALF) * width)
            pieces = [self._piece(rng, left, half), self._piece(rng, right, half, other_half)]
            pieces = pieces[:: -1 if rng.random() < 0.5 else 1]  # either may lie on the other
        background = self._backdrops.part(rng, key)
        return compose(background, pieces, random_light(rng, self.camera), random_camera(rng, self.camera), rng)

    def _piece(self, rng, label, shape, origin=(0, 0)):
        garments = self.garments
        number = garments.with_label[label][int(rng.random() * len(garments.with_label[label]))]
        largest = LARGEST[self.task]
        pose = random_pose(
            rng, garments.corners[number], shape, warp=self.warp, share=(SHRUNK**self.warp * largest, largest),
            spread=min(1.0, self.warp), origin=origin,
        )
        return Piece(garments.layers[number], garments.corners[number], random_tint(rng), pose, label)
