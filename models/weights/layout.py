"""Arrays as they are used here: axes, channels, the scale of inputs, and what batch norm lacks."""

import numpy as np

from models.weights.names import is_entry
from models.weights.sources import Source

# What is taken off inputs here and what they are divided by: of R, G and B from 0 to 1, over ImageNet.
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
# The variance of batch norm that has a scale and a shift alone: with the usual eps it divides by 1.
FOLDED = np.float32(1 - 1e-5)
STEM = "backbone.stem"


def widened(array: np.ndarray) -> np.ndarray:
    """bfloat16, which NumPy holds as uint16, as float32; others as they are."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


def is_folded(variance: np.ndarray) -> bool:
    """Whether these variances of batch norm are of a file that has its scale and shift alone."""
    return variance.size > 0 and bool((variance == FOLDED).all())


def as_here(source: Source, state: dict[str, np.ndarray]) -> list[str]:
    """Lay out the arrays of a source, which have their names here, as they are here; what else was done, in words."""
    for name, value in state.items():
        if value.ndim == 4:
            state[name] = value.transpose(source.axes)
        if value.ndim == 2 and source.fc_turned and is_entry(name):
            state[name] = np.ascontiguousarray(value.T)
    if source.folded:
        _give_statistics(state)
    if not source.bgr or (stem := state[f"{STEM}.conv.weight"]).ndim != 4 or stem.shape[1] != 3:
        return []
    state[f"{STEM}.conv.weight"] = np.ascontiguousarray(stem[:, ::-1])
    return ["the stem turned from BGR to RGB" + (_scale(state, source.pixel_means) if source.pixel_means else "")]


def _give_statistics(state):
    """A mean of 0 and the variance that leaves scale and shift as they are."""
    for name in [name for name in state if ".norm" in name and name.endswith(".weight")]:
        norm = name.removesuffix(".weight")
        state[f"{norm}._mean"] = np.zeros(state[name].shape, np.float32)
        state[f"{norm}._variance"] = np.full(state[name].shape, FOLDED)


def _scale(state, pixel_means):
    """Let the stem, which takes pixels of 0 to 255 less their means, take inputs as here.

    A pixel less its mean there is 255 STD x + (255 MEAN - pixel_means) for an input x here. The factor goes into the
    weights. What is added gives a number for each channel, but where zeros are padded, and goes into batch norm's mean.
    """
    weight = widened(state[f"{STEM}.conv.weight"]).astype(np.float64)
    added = np.einsum("oihw,i->o", weight, 255 * MEAN - pixel_means)
    state[f"{STEM}.conv.weight"] = (weight * (255 * STD)[:, None, None]).astype(np.float32)
    if (mean := state.get(f"{STEM}.norm._mean")) is None:
        furthest = np.abs(255 * MEAN - pixel_means).max()
        return f" and scaled for normalised inputs, the means of pixels {furthest:.1f} of 255 apart at most"
    state[f"{STEM}.norm._mean"] = (mean - added).astype(np.float32)
    return " and scaled for normalised inputs, the means of pixels taken into its norm"
