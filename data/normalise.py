"""From bytes to what a network sees."""

from collections.abc import Sequence

import numpy as np


def normalise(pixels: np.ndarray, mean: Sequence[float] | np.ndarray, std: Sequence[float] | np.ndarray) -> np.ndarray:
    """(pixels / 255 - mean) / std for each channel.

    pixels uint8 [..., C, H, W]; mean and std hold C numbers in units of the full range 0..1.
    Returns float32 of the same shape.
    """
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    scale = (1 / (255 * std)).astype(np.float32)[:, None, None]
    shift = (-mean / std).astype(np.float32)[:, None, None]
    result = pixels.astype(np.float32, order="C")
    result *= scale
    result += shift
    return result
