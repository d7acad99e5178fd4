"""Where a garment lies and in what pose: what a clip changes from frame to frame."""

import math
from typing import NamedTuple

import numpy as np

from data.composing.garments import SIDE
from data.geometry import Geometry, bends, extent, linear, room

# How far each goes at strength 1.
TURN = np.pi / 6  # radians, either way
LEAN = 0.2  # columns per row, either way
STRAIN = 0.2  # the steepest slope of one wave
WAVES = 2
SHORTEST, LONGEST = 14.0, 42.0  # of the waves, garment pixels


class Pose(NamedTuple):
    """A garment's pose. Applied in this order: mirrored left to right, bent, leaning, turned, scaled, put in place.

    position [2], where its centre lies, canvas pixels; scale, canvas pixels per garment pixel; turn, radians
    counter-clockwise; lean, columns per row; waves, phases and pushes as in data.geometry.Geometry.
    """

    position: np.ndarray
    scale: float
    turn: float = 0.0
    lean: float = 0.0
    mirrored: bool = False
    waves: np.ndarray = np.zeros((0, 2))
    phases: np.ndarray = np.zeros(0)
    pushes: np.ndarray = np.zeros((0, 2))

    @property
    def matrix(self) -> np.ndarray:
        """float64 [2, 2], canvas pixels per garment pixel."""
        matrix = linear(self.scale, self.turn, self.lean)
        if self.mirrored:
            matrix[:, 1] *= -1
        return matrix

    def geometry(self) -> Geometry:
        return Geometry(self.matrix, self.position, self.waves, self.phases, self.pushes)


def random_pose(
    rng: np.random.Generator, corners: np.ndarray, shape: tuple[float, float], *, warp: float = 1.0,
    share: tuple[float, float] = (0.6, 1.0), spread: float = 1.0, origin: tuple[float, float] = (0, 0),
) -> Pose:
    """A pose in which a garment with these corners (see Garments) lies wholly in a part of the canvas.

    The part begins at origin and has shape (height, width), pixels. The garment's square takes `share` of the shorter
    side, less where it would not fit; it lies in the middle at spread 0, anywhere at 1. `warp` is the strength of turn,
    lean and bends.
    """
    growth, turn, lean, y, x, mirrored = rng.random(6).tolist()
    wavelengths, headings, phases, directions = rng.random((4, WAVES))
    waves, pushes = bends(SHORTEST + (LONGEST - SHORTEST) * wavelengths, headings, directions, warp * STRAIN)
    smallest, largest = share
    scale = smallest * (largest / smallest) ** growth * min(shape) / SIDE
    pose = Pose(
        np.zeros(2), scale, warp * TURN * (2 * turn - 1), warp * LEAN * (2 * lean - 1), mirrored < 0.5,
        waves, 2 * np.pi * phases, pushes,
    )
    fit, first, last = room(corners, pose.matrix, pushes, np.array(shape))
    middle = (np.array(shape) - 1) / 2
    position = np.clip(middle + spread * (first + (y, x) * (last - first) - middle), first, last)
    return pose._replace(position=origin + position, scale=fit * scale)


def window(geometry: Geometry, corners: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """(rows, columns), slices: the part of a canvas [H, W] that a garment can cover, empty where there is none."""
    low, high = extent(corners, geometry.matrix, geometry.pushes)
    return tuple(
        slice(max(0, min(side, math.floor(first))), max(0, min(side, math.ceil(last) + 1)))
        for first, last, side in zip(geometry.position + low, geometry.position + high, shape, strict=True)
    )
