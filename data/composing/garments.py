"""Garments to compose with: their tones, their silhouettes, and the colours and patterns they are given."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.composing.colours import random_colours

SIDE = 28  # pixels of a garment's square
FAINTEST = 16  # of 255: what is darker and reached from outside is no garment but the trace of sharpening
PATTERNED = 0.25  # the share of garments that bear stripes


class Garments:
    """Grey pictures uint8 [N, 28, 28] on black with their labels [N], ready to be cut out.

    layers uint8 [N, 2, 28, 28]: tone, and silhouette as 0 or 255; where the silhouette is 0 so is the tone.
    corners [N, 4, 2]: of the silhouette's upright box, (y, x) in pixels from the picture's centre.
    with_label[k]: the indices of the garments of class k.
    """

    def __init__(self, pictures: np.ndarray, labels: np.ndarray, classes: Sequence[str]):
        self.labels, self.classes = labels, tuple(classes)
        silhouette = np.where(silhouettes(pictures), np.uint8(255), np.uint8(0))
        self.layers = np.stack([pictures & silhouette, silhouette], axis=1)
        self.corners = _corners(silhouette > 0)
        self.with_label = [np.flatnonzero(labels == label) for label in range(len(classes))]

    def __len__(self) -> int:
        return len(self.layers)

    def digest(self) -> str:
        """Another text for other garments or labels, or another order."""
        content = hashlib.sha256(np.ascontiguousarray(self.labels))
        content.update(self.layers)
        return content.hexdigest()


def silhouettes(pictures: np.ndarray) -> np.ndarray:
    """bool [N, H, W]: all but the dark that is joined to the border. Dark parts within a garment belong to it."""
    dark = np.pad(pictures < FAINTEST, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    dark = np.ascontiguousarray(dark.transpose(1, 2, 0))  # garments last: each step is about all of them
    outside = np.zeros_like(dark)
    outside[[0, -1]] = outside[:, [0, -1]] = True
    reached = 0
    while reached != (reached := outside.sum()):  # sweeping four ways leads around one more corner
        for seen, free in ((outside, dark), (outside.swapaxes(0, 1), dark.swapaxes(0, 1))):
            for lines in (range(1, len(seen)), range(len(seen) - 2, -1, -1)):
                for line in lines:
                    seen[line] |= seen[line - lines.step] & free[line]
    return ~outside[1:-1, 1:-1].transpose(2, 0, 1)


def _corners(shapes):
    ends = []
    for axis in (2, 1):
        covered = shapes.any(axis=axis)
        first, last = covered.argmax(axis=1), covered.shape[1] - 1 - covered[:, ::-1].argmax(axis=1)
        ends.append(np.stack([first, last]) - (covered.shape[1] - 1) / 2)
    (top, bottom), (left, right) = ends
    return np.stack([[top, left], [top, right], [bottom, left], [bottom, right]]).transpose(2, 0, 1)


class Tint(NamedTuple):
    """A garment's colours: `first` at tone 0, `first + span` at tone 1, float32 [3] each; either may be the brighter.

    Where sin(wave . u + phase) > 0 at the garment's point u (pixels from its centre) `pattern` [3] is added.
    """

    first: np.ndarray
    span: np.ndarray
    pattern: np.ndarray | None = None
    wave: np.ndarray | None = None  # float32 [2], radians per garment pixel
    phase: float = 0.0


def random_tint(rng: np.random.Generator) -> Tint:
    """Contrast from 0.25 to 0.8 between tones, and stripes 3 to 12 pixels apart on some."""
    patterned, contrast, inverted, period, turn, phase = rng.random(6).tolist()
    middle, stripe, hue = random_colours(rng, 3).T
    span = np.float32((0.25 + 0.55 * contrast) * (-1 if inverted < 0.2 else 1)) * (hue + np.float32(0.5))
    first = np.float32(0.25) + middle / 2 - span / 2
    if patterned >= PATTERNED:
        return Tint(first, span)
    wave = np.array([np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)]) * (2 * np.pi / (3 + 9 * period))
    return Tint(first, span, np.float32(0.4) * (stripe - middle), wave.astype(np.float32), 2 * np.pi * phase)


def coloured(tones: np.ndarray, points: np.ndarray, tint: Tint) -> np.ndarray:
    """float32 [3, P]: the colours of tones [P], 0..1, at the garment's points [2, P]."""
    colours = tint.span[:, None] * tones
    colours += tint.first[:, None]
    if tint.pattern is not None:
        colours += tint.pattern[:, None] * (np.sin(tint.wave @ points + np.float32(tint.phase)) > 0)
    return colours
