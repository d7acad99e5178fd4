"""What the contenders compute on: the same numbers for all of them, as NumPy arrays."""

from collections.abc import Sequence

import numpy as np


def norm_arrays(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """x and the output's gradient dy [N, C, H, W], gamma and beta [C]."""
    draw = np.random.default_rng(0)
    x, dy = (draw.standard_normal(shape, dtype=np.float32) for _ in range(2))
    gamma = draw.uniform(0.5, 1.5, shape[1]).astype(np.float32)
    return {"x": x, "gamma": gamma, "beta": draw.standard_normal(shape[1], dtype=np.float32), "dy": dy}


def plain_convolution_arrays(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """A square convolution of an odd kernel padded by half of it; shape [N, C, H, W, C_out, kernel, stride]."""
    draw = np.random.default_rng(0)
    images, channels, height, width, out_channels, kernel, stride = shape
    x = draw.standard_normal((images, channels, height, width), dtype=np.float32)
    weight = draw.standard_normal((out_channels, channels, kernel, kernel), dtype=np.float32)
    dy = draw.standard_normal((images, out_channels, -(-height // stride), -(-width // stride)), dtype=np.float32)
    return {"x": x, "weight": weight / np.float32(kernel * channels**0.5), "dy": dy}


def convolution_arrays(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """A 3x3 convolution from C to C channels that keeps the size, with DCNv2's offsets (about a pixel) and mask."""
    draw = np.random.default_rng(0)
    images, channels, height, width = shape
    x, dy = (draw.standard_normal(shape, dtype=np.float32) for _ in range(2))
    weight = draw.standard_normal((channels, channels, 3, 3), dtype=np.float32) / np.float32(3 * channels**0.5)
    offset = draw.standard_normal((images, 18, height, width), dtype=np.float32)
    mask = draw.random((images, 9, height, width), dtype=np.float32)
    return {"x": x, "weight": weight, "offset": offset, "mask": mask, "dy": dy}


def pooling_arrays(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """x [N, C, H, W] and, in its pixels, as many boxes [R, 4] in each image, for 7 x 7 bins that move by a tenth of the
    box's sides; shape [N, C, H, W, R]."""
    draw = np.random.default_rng(0)
    *of_x, boxes = shape
    x = draw.standard_normal(of_x, dtype=np.float32)
    offset = draw.standard_normal((boxes, 2, 7, 7), dtype=np.float32)
    dy = draw.standard_normal((boxes, shape[1], 7, 7), dtype=np.float32)
    return {"x": x, "offset": offset, "dy": dy, "boxes": _boxes(draw, boxes, shape[3], shape[2])}


def nms_arrays(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """R boxes [R, 4] in a picture of 800 x 800 with scores [R]; shape [R]."""
    draw = np.random.default_rng(0)
    return {"boxes": _boxes(draw, *shape, 800, 800), "scores": draw.random(shape, dtype=np.float32)}


def _boxes(draw, count, width, height):
    """Sides of a tenth to a half of the picture's, inside it, as x1, y1, x2, y2."""
    side, place = draw.uniform(0.1, 0.5, (count, 2)), draw.random((count, 2))
    corner = place * (1 - side)
    return (np.concatenate([corner, corner + side], axis=1) * [width, height, width, height]).astype(np.float32)


def scene_arrays(images: int, size: int, classes: int, objects: int) -> dict[str, np.ndarray]:
    """Images with boxes float32 [N, M, 4], as x1, y1, x2, y2 on whole pixels, classes [N, M] and masks bool
    [N, M, H, W], which fill their boxes."""
    draw = np.random.default_rng(0)
    corner, side = (draw.uniform(*bounds, (images, objects, 2)) for bounds in ((0, 0.6), (0.2, 0.4)))
    boxes = np.round(size * np.concatenate([corner, corner + side], axis=2)).astype(np.float32)
    row, column = np.mgrid[0:size, 0:size] + 0.5
    x1, y1, x2, y2 = (boxes[..., axis, None, None] for axis in range(4))
    return {
        "image": draw.standard_normal((images, 3, size, size), dtype=np.float32), "boxes": boxes,
        "classes": draw.integers(0, classes, (images, objects)),
        "masks": (column > x1) & (column < x2) & (row > y1) & (row < y2),
    }


def image_arrays(images: int, size: int, classes: int) -> dict[str, np.ndarray]:
    """A batch of a training step."""
    draw = np.random.default_rng(0)
    image = draw.standard_normal((images, 3, size, size), dtype=np.float32)
    return {"image": image, "label": draw.integers(0, classes, images)}


def clip_arrays(clips: int, frames: int, size: int, classes: int) -> dict[str, np.ndarray]:
    """A batch of clips."""
    draw = np.random.default_rng(0)
    clip = draw.standard_normal((clips, 3, frames, size, size), dtype=np.float32)
    return {"clip": clip, "label": draw.integers(0, classes, clips)}
