"""How a small picture lies on a canvas: turned, scaled, sheared, bent, and read there bilinearly."""

from typing import NamedTuple

import numpy as np


class Geometry(NamedTuple):
    """How a garment lies on its canvas. Points are (y, x) in pixels, a pixel's centre at whole numbers.

    The canvas point p shows the garment's point u + sum over w of pushes[w] * sin(waves[w] . u + phases[w]), counted
    from the garment's centre, where u = matrix^-1 (p - position).

    matrix [2, 2], canvas pixels per garment pixel; position [2], where the garment's centre lies (before it is bent);
    waves [W, 2], radians per garment pixel; phases [W], radians; pushes [W, 2], garment pixels. All float64.
    """

    matrix: np.ndarray
    position: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    pushes: np.ndarray


def linear(scale: float, turn: float, lean: float) -> np.ndarray:
    """The matrix [2, 2] that leans (columns per row), then turns (radians, counter-clockwise), then scales."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return scale * rotation @ np.array([[1, 0], [lean, 1]])


def directions(turns: np.ndarray) -> np.ndarray:
    """Unit vectors [N, 2] at `turns` [N] of a full circle."""
    return np.array([np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)]).T


def bends(
    wavelengths: np.ndarray, headings: np.ndarray, pushes: np.ndarray, strain: float
) -> tuple[np.ndarray, np.ndarray]:
    """The waves and pushes [W, 2] of a Geometry, each wave with slopes up to `strain`.

    wavelengths [W] in garment pixels; headings and pushes [W] are directions as turns of a full circle.
    """
    radians_per_pixel = 2 * np.pi / wavelengths
    return radians_per_pixel[:, None] * directions(headings), (strain / radians_per_pixel)[:, None] * directions(pushes)


def extent(points: np.ndarray, matrix: np.ndarray, pushes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far a garment that covers points [N, 2], garment pixels, reaches from its position: (low, high), [2] each."""
    points = points @ matrix.T
    margin = np.abs(matrix) @ (0.5 + np.abs(pushes).sum(axis=0))  # half a pixel more, and as far as waves reach
    return points.min(axis=0) - margin, points.max(axis=0) + margin


def room(
    points: np.ndarray, matrix: np.ndarray, pushes: np.ndarray, size: float | np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Where a garment (see extent) can lie so that a canvas holds all of it: (fit, first, last).

    size is the canvas's, pixels, a number or [2]. The garment has to be scaled by fit, at most 1; then its position may
    be anything from first to last, both [2].
    """
    low, high = extent(points, matrix, pushes)
    fit = min(1.0, (size / (high - low)).min())
    return fit, -0.5 - fit * low, size - 0.5 - fit * high


def source_points(geometry: Geometry, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What each pixel of rows x columns (whole numbers, [R] and [C]) shows: float32 [2, R * C], see Geometry."""
    (a, b), (c, d) = geometry.matrix.tolist()
    inverse = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    rows, columns = (
        np.float32(inverse[:, [axis]] * (along - geometry.position[axis])) for axis, along in enumerate((rows, columns))
    )
    points = (rows[:, :, None] + columns[:, None, :]).reshape(2, -1)
    if len(geometry.waves):
        angles = np.float32(geometry.waves) @ points + np.float32(geometry.phases[:, None])
        points += np.float32(geometry.pushes.T) @ np.sin(angles)
    return points


def sampled(pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Read pictures [K, H, W] at points [2, P] from their centre, bilinearly, 0 outside: float32 [K, P]."""
    count, height, width = pictures.shape
    padded = np.zeros((count, height + 3, width + 3), np.float32)  # one pixel before, two behind: all else is black too
    padded[:, 1:-2, 1:-2] = pictures
    y = np.clip(points[0] + np.float32((height + 1) / 2), 0, height + 1)
    x = np.clip(points[1] + np.float32((width + 1) / 2), 0, width + 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    y -= top
    x -= left
    at, padded = top * (width + 3) + left, padded.reshape(count, -1)
    upper, right = padded.take(at, axis=1), padded[:, 1:].take(at, axis=1)
    upper += x * (right - upper)
    lower, right = padded[:, width + 3 :].take(at, axis=1), padded[:, width + 4 :].take(at, axis=1)
    lower += x * (right - lower)
    return upper + y * (lower - upper)
