"""Light from a side: brighter where a garment faces it, a shadow on the other side, a slope over the whole image."""

from typing import NamedTuple

import numpy as np

from data.composing.placing import Pose


class Light(NamedTuple):
    """Where light comes from and what it does.

    direction (y, x), a unit vector towards the light; roundness: by how much the side of a garment that faces it is
    brighter than its middle; slope: the same for the image; shadow: how much of the light a shadow takes, 0 to 1;
    reach: how far it falls, in sides of the garment's square; cast float32 [3]: the light's colour.
    """

    direction: tuple[float, float]
    roundness: float
    slope: float
    shadow: float
    reach: float
    cast: np.ndarray


def random_light(rng: np.random.Generator, strength: float = 1.0) -> Light:
    """A light that is even, white and without shadow at strength 0."""
    turn, roundness, slope, shadow, reach = rng.random(5).tolist()
    return Light(
        direction=(np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)),
        roundness=strength * 0.4 * roundness,
        slope=strength * 0.5 * slope,
        shadow=min(1.0, strength * 0.7 * shadow),
        reach=0.03 + 0.09 * reach,
        cast=1 + np.float32(0.08 * strength) * rng.standard_normal(3, np.float32),
    )


def on_garment(light: Light, rows: np.ndarray, columns: np.ndarray, pose: Pose, radius: float) -> np.ndarray:
    """Factors float32 [R, C] for a garment's own pixels: it is as round as a cushion of `radius` pixels."""
    return _slope(light.direction, light.roundness / radius, rows, columns, pose.position.tolist())


def over_image(light: Light, shape: tuple[int, int]) -> np.ndarray:
    """Factors float32 [3, H, W]."""
    height, width = shape
    centre = ((height - 1) / 2, (width - 1) / 2)
    slope = _slope(light.direction, light.slope / max(centre), np.arange(height), np.arange(width), centre)
    return light.cast[:, None, None] * slope


def cast_shadow(canvas: np.ndarray, light: Light, cover: np.ndarray, rows: slice, columns: slice, side: float) -> None:
    """Darken a canvas where a garment keeps the light off it.

    cover float32 [R, C], 0..1, of the garment in the slices rows and columns; side is its square's, pixels.
    """
    here, there = [], []
    for along, part, length in zip(light.direction, (rows, columns), canvas.shape[1:], strict=True):
        move = -round(light.reach * side * along)
        first, last = (min(max(0, end + move), length) for end in (part.start, part.stop))
        here.append(slice(first, last))
        there.append(slice(first - move - part.start, last - move - part.start))
    canvas[(slice(None), *here)] *= 1 - np.float32(light.shadow) * cover[tuple(there)]


def _slope(direction, steepness, rows, columns, centre):
    """float32 [R, C]: 1 at the centre, more towards the light."""
    y = steepness * direction[0] * (rows - centre[0]) + 1
    x = steepness * direction[1] * (columns - centre[1])
    return np.float32(y)[:, None] + np.float32(x)
