"""Colours as things have them: most are dull, some are bright, and all are as likely on a garment as behind it."""

import numpy as np

DARKEST, BRIGHTEST = 0.08, 0.92
CHROMA = 0.5  # how far the channels are from one another at most


def random_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """float32 [3, count], R, G, B from 0 to 1."""
    brightness, *channels = rng.random((4, count), np.float32)
    colours = np.float32(CHROMA) * (channels - np.float32(0.5))
    colours += np.float32(BRIGHTEST - DARKEST) * brightness + np.float32(DARKEST)
    return np.minimum(np.maximum(colours, 0), 1)


def times(colour: np.ndarray, image: np.ndarray) -> np.ndarray:
    """float32 [3, H, W]: an image [H, W] in shades of one colour [3]."""
    return colour[:, None, None] * image
