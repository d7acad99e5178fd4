"""Backgrounds drawn by formula. All lengths are shares of the image, so that scenes of any size look alike."""

from functools import cache

import numpy as np

from data.composing.colours import random_colours, times

SPLIT, BLENDED = 0.35, 0.25  # shares of backgrounds in which two kinds meet at a border, or show through one another


def random_background(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """float32 [3, H, W]: one of KINDS, or two of them together."""
    kinds = list(KINDS.values())
    first, second, together, share = rng.random(4).tolist()
    first, second = kinds[int(first * len(kinds))], kinds[int(second * len(kinds))]
    image = first(rng, shape)
    if together < SPLIT:
        np.copyto(image, second(rng, shape), where=_border(rng, shape))
    elif together < SPLIT + BLENDED:
        image += np.float32(share) * (second(rng, shape) - image)
    return image


def dulled(image: np.ndarray, share: float) -> np.ndarray:
    """The image with `share` of its contrast, as what is not in focus has less of it."""
    middle = image.mean(axis=(1, 2), keepdims=True)
    return middle + np.float32(share) * (image - middle)


def field(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Colours that change smoothly: random ones on a grid of 2 x 2 to 5 x 5 nodes, and smooth steps between them."""
    nodes = int(rng.integers(2, 6))
    grid = random_colours(rng, nodes * nodes).reshape(3, nodes, nodes)
    return smooth_steps(nodes, shape[0]) @ grid @ smooth_steps(nodes, shape[1]).T


def grating(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Stripes in two colours, soft or hard, or checks where two of them cross."""
    crossed, hardness = rng.random(2).tolist()
    wave = _plane_wave(rng, shape)
    if crossed < 0.4:
        wave *= _plane_wave(rng, shape)
    wave *= np.float32(0.25 / (1.02 - hardness))
    wave = np.minimum(np.maximum(wave + np.float32(0.5), 0), 1)
    one, other = random_colours(rng, 2).T
    return times(other - one, wave) + one[:, None, None]


def noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Clouds or sand in shades between two colours: amplitudes fall as 1 / f^a, a from 0.5 to 1.8."""
    amplitude = np.exp(np.float32(-0.5 - 1.3 * rng.random()) * _log_frequencies(*shape))
    amplitude /= np.sqrt(np.vdot(amplitude, amplitude))
    amplitude *= np.float32(2 * shape[0] * shape[1])  # a field with a deviation near 1
    spectrum = rng.random((*amplitude.shape, 2), np.float32)
    spectrum -= np.float32(0.5)
    tone = np.float32(np.fft.irfft2(amplitude * spectrum.view(np.complex64)[..., 0], s=shape))
    one, other = random_colours(rng, 2).T
    image = times(np.float32(0.05) + np.float32(0.5) * (other - one), tone) + one[:, None, None]
    return np.minimum(np.maximum(image, 0), 1)


def leaves(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Ellipses over one another, small ones and large ones as in the dead-leaves model of natural images."""
    count = int(rng.integers(8, 40))
    size, squeeze, turn, y, x = rng.random((5, count))
    inside = _ellipses(y, x, 0.06 * 8**size, 0.4 + 0.6 * squeeze, np.pi * turn) @ _monomials(*shape) < 0
    topmost = (inside * np.arange(count, dtype=np.uint8)[:, None]).max(axis=0)  # 0 is what lies behind all
    return random_colours(rng, count).take(topmost, axis=1).reshape(3, *shape)


KINDS = {"field": field, "grating": grating, "noise": noise, "leaves": leaves}


def _plane_wave(rng, shape):
    """sin(k . p + phase) float32 [H, W], 1.5 to 20 periods on the shorter side."""
    periods, turn, phase = rng.random(3).tolist()
    k = 2 * np.pi * 1.5 * (20 / 1.5) ** periods / min(shape)
    y = k * np.sin(np.pi * turn) * np.arange(shape[0]) + 2 * np.pi * phase
    x = k * np.cos(np.pi * turn) * np.arange(shape[1])
    # The addition theorem: H + W sines and not H * W.
    return np.float32([np.sin(y), np.cos(y)]).T @ np.float32([np.cos(x), np.sin(x)])


def _border(rng, shape):
    """bool [H, W]: one side of a line through the image, straight or wavy."""
    turn, offset, waviness, cycles, phase = rng.random(5).tolist()
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    y, x, along = y[:, None], x, max(0, waviness - 0.3)
    sine, cosine = np.float32(np.sin(2 * np.pi * turn)), np.float32(np.cos(2 * np.pi * turn))
    wave = np.float32(0.25 * along) * np.sin(np.float32(12 * cycles) * (cosine * y - sine * x) + np.float32(7 * phase))
    return sine * y + cosine * x + wave > np.float32(offset - 0.5)


def _ellipses(y, x, radius, squeeze, turn):
    """Quadratic forms float32 [N, 6] over the _monomials, negative inside the ellipse."""
    c, s = np.cos(turn), np.sin(turn)
    a, b = (radius * squeeze) ** -2, radius**-2
    yy, yx, xx = a * c * c + b * s * s, 2 * (a - b) * c * s, a * s * s + b * c * c
    constant = yy * y * y + yx * y * x + xx * x * x - 1
    return np.float32([yy, yx, xx, -2 * yy * y - yx * x, -2 * xx * x - yx * y, constant]).T


@cache  # a few thousand small ones at most
def smooth_steps(nodes: int, side: int) -> np.ndarray:
    """Weights float32 [side, nodes] that lead smoothly from node to node."""
    away = np.abs(np.linspace(0, nodes - 1, side)[:, None] - np.arange(nodes))
    near = np.maximum(0, 1 - away)
    return np.float32(near * near * (3 - 2 * near))


@cache
def _log_frequencies(height, width):
    """log of the frequency, float32, ordered as irfft2 wants it; the mean's is so large that none of it is left."""
    y, x = np.fft.fftfreq(height, 1 / height)[:, None], np.fft.rfftfreq(width, 1 / width)
    squared = y * y + x * x
    squared[0, 0] = 1e30
    return np.float32(np.log(squared) / 2)


@cache
def _monomials(height, width):
    """y y, y x, x x, y, x, 1 float32 [6, H * W] of points that go from 0 to 1."""
    y, x = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"))
    return np.float32([y * y, y * x, x * x, y, x, np.ones_like(y)])
