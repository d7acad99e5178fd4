"""What a camera does to a scene: exposure, contrast, saturation, tone curve, blur, noise, bytes."""

import math
from typing import NamedTuple

import numpy as np

NEIGHBOURS = (np.s_[..., :-1, :], np.s_[..., 1:, :]), (np.s_[..., :-1], np.s_[..., 1:])


class Camera(NamedTuple):
    """The settings of one picture; the defaults change nothing.

    gain: all light times this; contrast: the distance from middle grey times this; saturation: 0 is black and white;
    curve: middle tones brighter by a quarter of it, negative ones darker; blur: the share of each pixel's light that
    falls on each of its two neighbours in a column, then in a row, up to 1/3; noise: standard deviation, of the full
    range.
    """

    gain: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    curve: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


def random_camera(rng: np.random.Generator, strength: float = 1.0) -> Camera:
    """Settings that change nothing at strength 0; at 1 over a stop of exposure and a factor of 2.2 in contrast."""
    gain, contrast, saturation, curve, blur, noise = rng.random(6).tolist()
    contrast = math.exp(strength * (0.2 - 0.8 * contrast))
    return Camera(
        gain=math.exp(strength * (0.3 - 0.8 * gain)),
        contrast=contrast,
        saturation=1 + min(1.0, strength) * (0.3 - 1.2 * saturation**2),
        curve=strength * (1.2 * curve - 0.6),
        blur=min(0.25, 0.25 * strength) * blur,
        noise=strength * 0.06 * max(0.0, 1.5 * noise - 0.5) ** 2 * contrast,
    )


def photograph(canvas: np.ndarray, camera: Camera, rng: np.random.Generator | None) -> np.ndarray:
    """float32 [3, H, W], or frames [T, 3, H, W] -> uint8, as the camera has it; rng gives the noise."""
    image = _blurred(canvas, camera.blur)
    image = (_colour_matrix(camera) @ image.reshape(*image.shape[:-2], -1)).reshape(image.shape)
    image += np.float32((1 - camera.contrast) / 2)
    if camera.noise:  # even noise: the eye cannot tell it from a normal one, and it is drawn three times as fast
        noise = rng.random(image.shape, np.float32)
        noise -= np.float32(0.5)
        noise *= np.float32(math.sqrt(12) * camera.noise)
        image += noise
    image *= np.float32(1 + camera.curve) - np.float32(camera.curve) * image
    return to_bytes(image)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """0..1 -> uint8, rounded; what is beyond is clipped."""
    image = image * np.float32(255) + np.float32(0.5)
    return np.minimum(np.maximum(image, 0), 255).astype(np.uint8)


def _colour_matrix(camera):
    """Gain, contrast and saturation are one matrix float32 [3, 3]."""
    colour = camera.saturation * np.eye(3) + (1 - camera.saturation) / 3
    return np.float32(camera.contrast * camera.gain * colour)


def _blurred(image, share):
    """A kernel (share, 1 - 2 share, share) down and across; a border keeps what would fall beyond it."""
    image = image.copy()
    for first, last in NEIGHBOURS:
        flow = np.float32(share) * (image[last] - image[first])
        image[first] += flow
        image[last] -= flow
    return image
