"""Backgrounds for many small images: drawn a few at a time, larger than an image, and shown in part."""

import numpy as np

from data.composing.backgrounds import dulled, random_background
from data.composing.camera import to_bytes
from data.composing.clutter import strew
from data.composing.garments import Garments
from data.randomness import BACKDROP, generator

COUNT = 256
DULLEST, BRIGHTEST = 0.3, 0.9  # of their contrast
LARGER = 1.5  # than an image, in height and width
ORDERS = np.array([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])  # of R, G, B


class Backdrops:
    """256 backgrounds with clutter; each image shows a part of one, mirrored and with its colours exchanged.

    Drawing a background takes longer than cutting one out. They depend on `key`, a tuple of integers; those of the last
    key are kept, each since it was first asked for. clutter: how many pieces to find in an image, on average; contrast:
    0 to 1, what is left of it in all that lies there.
    """

    def __init__(self, garments: Garments, shape: tuple[int, int], clutter: float, contrast: float = 1.0):
        self.garments, self.shape, self.clutter, self.contrast = garments, shape, clutter, contrast
        self._key, self._drawn = None, {}

    def part(self, rng: np.random.Generator, key: tuple[int, ...]) -> np.ndarray:
        """float32 [3, H, W], new."""
        number, order, y, x, flip_y, flip_x = rng.random(6).tolist()
        whole = self._whole(key, int(number * COUNT))
        height, width = self.shape
        top, left = int(y * (whole.shape[1] - height + 1)), int(x * (whole.shape[2] - width + 1))
        part = whole[:, top : top + height, left : left + width]
        part = part[ORDERS[int(order * 6)], :: -1 if flip_y < 0.5 else 1, :: -1 if flip_x < 0.5 else 1]
        image = np.float32(part) / np.float32(255)
        return image if self.contrast == 1 else dulled(image, self.contrast)

    def _whole(self, key, number):
        if key != self._key:
            self._key, self._drawn = key, {}
        if number not in self._drawn:
            rng = generator(BACKDROP, *key, number)
            image = random_background(rng, tuple(int(LARGER * side) for side in self.shape))
            strew(rng, image, self.garments, rng.poisson(LARGER**2 * self.clutter), min(self.shape))
            self._drawn[number] = to_bytes(dulled(image, DULLEST + (BRIGHTEST - DULLEST) * rng.random()))
        return self._drawn[number]
