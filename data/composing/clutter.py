"""Clutter: pieces cut from garments, too small to say of which class, on a background."""

import numpy as np

from data.composing.backgrounds import smooth_steps
from data.composing.colours import random_colours, times
from data.composing.garments import SIDE, Garments

SMALLEST, LARGEST = 8, 19  # garment pixels of a side of a piece
LEAST, MOST = 0.5, 1.5  # sides of a garment's square


def strew(rng: np.random.Generator, canvas: np.ndarray, garments: Garments, count: int, side: float) -> None:
    """Put `count` rectangles cut from `garments` onto a canvas float32 [3, H, W], anywhere, on their sides too.

    A garment's square would have a side of half to one and a half times `side` pixels.
    """
    _, height, width = canvas.shape
    for garment, tall, wide, top, left, y, x, scale, turn in rng.random((count, 9)).tolist():
        tall, wide = (SMALLEST + int(share * (LARGEST + 1 - SMALLEST)) for share in (tall, wide))
        top, left = int(top * (SIDE + 1 - tall)), int(left * (SIDE + 1 - wide))
        layers = garments.layers[int(garment * len(garments)), :, top : top + tall, left : left + wide]
        layers = layers[:, :: -1 if turn < 0.5 else 1]
        if 0.25 < turn < 0.75:
            layers = layers.swapaxes(1, 2)
        scale = (LEAST + (MOST - LEAST) * scale) * side / SIDE
        sides = [round(scale * length) for length in layers.shape[1:]]
        top, left = round(y * (height + sides[0])) - sides[0], round(x * (width + sides[1])) - sides[1]
        _paste(canvas, _enlarged(layers, sides), random_colours(rng, 2).T, top, left)


def _enlarged(layers, sides):
    rows, columns = (smooth_steps(few, many) for few, many in zip(layers.shape[1:], sides, strict=True))
    return rows @ np.float32(layers) @ columns.T


def _paste(canvas, layers, colours, top, left):
    """layers float32 [2, h, w]: tone and silhouette, 0..255."""
    below = canvas[:, max(0, top) : max(0, top + layers.shape[1]), max(0, left) : max(0, left + layers.shape[2])]
    layers = layers[:, max(0, -top) :, max(0, -left) :][:, : below.shape[1], : below.shape[2]]
    one, other = colours
    np.copyto(below, times((other - one) / 255, layers[0]) + one[:, None, None], where=layers[1] > 127)
