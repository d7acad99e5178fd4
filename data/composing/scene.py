"""A scene, back to front, and what is known of it: which pixel shows which garment."""

from typing import NamedTuple

import numpy as np

from data.composing.camera import Camera, photograph, to_bytes
from data.composing.garments import SIDE, Tint, coloured
from data.composing.light import Light, cast_shadow, on_garment, over_image
from data.composing.placing import Pose, window
from data.geometry import sampled, source_points

BACKGROUND = -1


class Piece(NamedTuple):
    """A garment in a scene: layers uint8 [2, 28, 28], tone and silhouette, and corners [4, 2] as in Garments."""

    layers: np.ndarray
    corners: np.ndarray
    tint: Tint
    pose: Pose
    label: int


class Composition(NamedTuple):
    """An image and what is in it.

    pixels uint8 [3, H, W]; owner int64 [H, W], the number of the piece that a pixel shows, or BACKGROUND;
    classes int64 [N], of the pieces.
    """

    pixels: np.ndarray
    owner: np.ndarray
    classes: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """bool [N, H, W], what can be seen of each piece: no pixel shows two of them, and of a hidden one none does."""
        return self.owner == np.arange(len(self.classes))[:, None, None]

    @property
    def boxes(self) -> np.ndarray:
        """float32 [N, 4], x1 y1 x2 y2 in pixels, close around each mask: x2 - x1 is its width. Zeros if hidden."""
        boxes = np.zeros((len(self.classes), 4), np.float32)
        for box, mask in zip(boxes, self.masks, strict=True):
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes


def compose(
    background: np.ndarray, pieces: list[Piece], light: Light | None = None, camera: Camera | None = None,
    rng: np.random.Generator | None = None,
) -> Composition:
    """Put pieces on a background float32 [3, H, W], the first one hindmost; rng gives the camera's noise.

    Without light and camera, a scene and the same scene without one piece differ only inside that piece's mask.
    """
    canvas = background.copy()
    owner = np.full(canvas.shape[1:], BACKGROUND)
    for number, piece in enumerate(pieces):
        put(canvas, owner, number, piece, light)
    if light:
        canvas *= over_image(light, owner.shape)
    pixels = photograph(canvas, camera, rng) if camera else to_bytes(canvas)
    return Composition(pixels, owner, np.array([piece.label for piece in pieces], np.int64))


def put(canvas: np.ndarray, owner: np.ndarray, number: int, piece: Piece, light: Light | None) -> None:
    """Draw a piece with its shadow on a canvas float32 [3, H, W], and its number where owner int [H, W] shows it."""
    geometry = piece.pose.geometry()
    part = window(geometry, piece.corners, owner.shape)
    rows, columns = (np.arange(side.start, side.stop) for side in part)
    points = source_points(geometry, rows, columns)
    tones, cover = sampled(piece.layers, points)
    tones /= np.maximum(cover, 1)  # what the silhouette leaves out is no dark part of the garment
    colours = coloured(tones, points, piece.tint).reshape(3, len(rows), len(columns))
    cover = cover.reshape(len(rows), len(columns)) / np.float32(255)
    if light:
        side = SIDE * piece.pose.scale
        cast_shadow(canvas, light, cover, *part, side)
        colours *= on_garment(light, rows, columns, piece.pose, side / 2)
    shown = cover > 0.5  # edges are hard, so that a pixel belongs to one thing; the camera softens them
    np.copyto(canvas[(slice(None), *part)], colours, where=shown)
    np.copyto(owner[part], number, where=shown)
