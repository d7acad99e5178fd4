"""Fashion-MNIST where geometry matters: every garment turned, scaled, sheared and bent in its own way on a canvas."""

from collections import Counter

import numpy as np
from PIL import Image

from data.arrays import ArrayDataset
from data.dataset import Batch, Dataset, Indices, labelled_bytes
from data.errors import DataError
from data.geometry import Geometry, bends, linear, room, sampled, source_points
from data.idx import fashion_mnist
from data.normalise import normalise
from data.preparation import Preparation
from data.randomness import AUGMENTATION, FIXED_GEOMETRY, generator
from data.user_path import UserPath

GARMENT = 28  # pixels of a side
STRONGEST = 2.0

# How far each goes at strength 1.
ROTATION = np.pi / 3  # radians, either way
SCALE = (0.6, 1.6)
SHEAR = 0.4  # columns per row, either way
WAVES = 3
WAVELENGTH = (14.0, 42.0)  # garment pixels
STRAIN = 0.25  # the steepest slope of one wave; where all together reached 1, the garment would fold over itself


def warped_fashion_mnist(
    root: UserPath | None = None, train_images: int | None = None, validation_images: int | None = None,
    image_size: int = 64, warp: float = 1.0,
) -> tuple[Dataset, Dataset]:
    """Fashion-MNIST garments in random geometry on a black canvas: grey, 10 classes -> (train, validation).

    The canvas has image_size x image_size pixels, 28 or more. `warp` is the strength, from 0 to 2: at 0 the garment
    stands upright in the centre, pixel for pixel; at 1 all varies strongly, and a person still names the garments;
    beyond that, fewer and fewer of them. At strength w

        rotation   up to 60 w degrees either way
        scale      from 0.6^w to 1.6^w, equally likely in its logarithm; 1 is the garment's own 28 pixels
        shear      up to 0.4 w columns per row either way: the garment leans
        elastic    three plane waves, 14 to 42 garment pixels long, each push the garment's points in one direction,
                   with slopes up to 0.25 w: together by some 2.6 w pixels at most in a typical garment, never by
                   more than 5 w; up to w = 1 nothing folds over itself
        position   w of the way (at most all of it) from the centre to a place anywhere on the canvas that is sure to
                   hold the whole garment

    Nothing is lost over the border: a garment too large for the canvas is shrunk to fit (at strength 1 one in 40).
    A sample has the same random numbers at every strength, so strengths compare the same garments, bent more or less.
    Training and validation are warped alike; in training every epoch shows other geometry, in validation none does.
    root, train_images, validation_images: as for fashion_mnist, and so mean and std. The garments of the two sets are
    disjoint. Raises DataError.
    """
    for name, value, wanted, right in (
        ("image_size", image_size, f"{GARMENT} or more pixels, a garment's own size", image_size >= GARMENT),
        ("warp", warp, f"0 to {STRONGEST:g}", 0 <= warp <= STRONGEST),
    ):
        if not right:
            raise DataError(f"warped_fashion_mnist: {name} is {value}, wanted {wanted}")
    train, validation = fashion_mnist(root, train_images, validation_images, crop_padding=0, flip=False)
    return WarpedDataset(train, image_size, warp), WarpedDataset(validation, image_size, warp, fixed=True)


class WarpedDataset:
    """An ArrayDataset of grey pictures, each drawn on a canvas of image_size x image_size in a random geometry.

    With `fixed` (validation) the geometry is the same in every epoch. The rest as warped_fashion_mnist says.
    """

    in_memory = False  # its pictures are, but drawing them is work that the loader's processes can share
    skipped = 0
    unused = Counter()

    def __init__(self, garments: ArrayDataset, image_size: int, warp: float, *, fixed: bool = False):
        self.garments, self.warp, self.fixed = garments, warp, fixed
        self.labels, self.classes, self.origin = garments.labels, garments.classes, garments.origin
        self.image_shape = (1, image_size, image_size)
        self.sample_bytes = labelled_bytes(self.image_shape)
        as_is = garments.preparation
        self.preparation = Preparation(as_is.classes, self.image_shape, as_is.mean, as_is.std)

    def __len__(self) -> int:
        return len(self.garments)

    def digest(self) -> str:
        """Another text for other garments; their geometry follows from settings."""
        return self.garments.digest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N], in that order: {"image": float32 [N, 1, H, W] normalised, "label": int64 [N]}.

        The geometry of sample i depends on (seed, epoch, i) and nothing else, where it is fixed on (seed, i).
        """
        pixels = np.empty((len(indices), *self.image_shape), np.uint8)
        for row, index in enumerate(map(int, indices)):
            geometry = self.geometry(index, seed=seed, epoch=epoch)
            pixels[row, 0] = draw(self.garments.images[index, 0], geometry, self.image_shape[1])
        image = normalise(pixels, self.preparation.mean, self.preparation.std)
        return {"image": image, "label": self.labels[indices]}

    def stored_picture(self, index: int) -> Image.Image:
        """The PIL picture of a sample's garment."""
        return self.garments.stored_picture(index)

    def path(self, index: int) -> None:
        """None: a file holds many."""

    def geometry(self, index: int, *, seed: int, epoch: int) -> Geometry:
        """The geometry of one sample, as `batch` draws it."""
        rng = generator(FIXED_GEOMETRY, seed, index) if self.fixed else generator(AUGMENTATION, seed, epoch, index)
        return random_geometry(self.garments.images[index, 0], self.image_shape[1], self.warp, rng)


def random_geometry(garment: np.ndarray, image_size: int, warp: float, rng: np.random.Generator) -> Geometry:
    """A geometry of strength `warp` in which a garment uint8 [H, W] lies wholly on a canvas of image_size pixels."""
    turn, growth, lean, *place = rng.uniform(-1, 1, size=5)
    length, heading, phases, push = rng.uniform(size=(4, WAVES))

    matrix = linear(
        np.exp(warp * np.interp(growth, (-1, 1), np.log(SCALE))), warp * ROTATION * turn, warp * SHEAR * lean
    )
    waves, pushes = bends(np.interp(length, (0, 1), WAVELENGTH), heading, push, warp * STRAIN)

    shape = np.array(garment.shape)
    points = np.argwhere(garment) - (shape - 1) / 2
    fit, first, last = room(points if len(points) else np.zeros((1, 2)), matrix, pushes, image_size)
    centre = (image_size - shape) // 2 + (shape - 1) / 2  # whole pixels on whole pixels
    anywhere = (first + last + place * (last - first)) / 2
    position = np.clip(centre + min(1.0, warp) * (anywhere - centre), first, last)
    return Geometry(fit * matrix, position, waves, 2 * np.pi * phases, pushes)


def draw(garment: np.ndarray, geometry: Geometry, image_size: int) -> np.ndarray:
    """The canvas, uint8 [image_size, image_size]: the garment uint8 [H, W] in a geometry, sampled once, bilinearly."""
    pixels = sampled(garment[None], source_points(geometry, *2 * [np.arange(image_size)]))[0] + np.float32(0.5)
    return pixels.astype(np.uint8).reshape(image_size, image_size)
