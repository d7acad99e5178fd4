"""A set that needs no file: oriented gratings under noise, learnable in seconds and the same everywhere."""

import numpy as np

from data.arrays import ArrayDataset
from data.dataset import Dataset
from data.errors import DataError
from data.randomness import SYNTHETIC, generator

PERIOD = 8  # pixels of one stripe pair


def synthetic(
    classes: int = 10, train_images: int = 2000, validation_images: int = 500, image_size: int = 32, channels: int = 3,
    noise: float = 0.25,
) -> tuple[Dataset, Dataset]:
    """Gratings, one orientation a class (class k: k * 180 / classes degrees) -> (train, validation), in memory.

    Phase, contrast and tint are random in every picture; `noise` is the standard deviation of what is added to each
    pixel, in units of the full range: 0 is easy, 0.25 takes some training, 1 is hard. Pictures are
    image_size x image_size (at least 8) with 1 or 3 channels. No augmentation: a mirrored grating is another class.
    The pictures depend on the arguments alone. Raises DataError.
    """
    for name, value, wanted, right in (
        ("classes", classes, "2 or more", classes >= 2),
        ("train_images", train_images, "1 or more", train_images >= 1),
        ("validation_images", validation_images, "1 or more", validation_images >= 1),
        ("image_size", image_size, f"{PERIOD} or more", image_size >= PERIOD),
        ("channels", channels, "1 or 3", channels in (1, 3)),
        ("noise", noise, "0 or more", noise >= 0),
    ):
        if not right:
            raise DataError(f"synthetic: {name} is {value}, wanted {wanted}")
    names = tuple(f"{180 * k / classes:g} degrees" for k in range(classes))
    mean_and_std = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    sets = []
    for split, images in enumerate((train_images, validation_images)):
        labels = np.arange(images) % classes
        rng = generator(SYNTHETIC, split)
        pictures = np.stack([_grating(np.pi * k / classes, image_size, channels, noise, rng) for k in labels])
        sets.append(ArrayDataset(pictures, labels, names, source="synthetic", computed=True, **mean_and_std))
    return tuple(sets)


def _grating(angle, size, channels, noise, rng):
    """uint8 [channels, size, size]; the stripes stand across the direction `angle` (radians, from x towards y)."""
    y, x = np.mgrid[:size, :size]
    phase = rng.uniform(0, 2 * np.pi)
    contrast = rng.uniform(0.1, 0.4, size=(channels, 1, 1))  # one for each channel: that is the tint
    wave = np.sin(2 * np.pi / PERIOD * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    picture = 0.5 + contrast * wave + noise * rng.standard_normal((channels, size, size))
    return np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)
