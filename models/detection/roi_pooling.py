"""From boxes to features of one size, out of the pyramid level that fits each box."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import paddle
from paddle import nn

from models.detection.layers import idle
from models.detection.matching import joined
from ops import DeformRoIPool, box_area, roi_align

Pooling = Literal["align", "deformable", "modulated"]
AT_ONCE = 64  # boxes that evaluation pools together with offsets, which takes up to 800 MB


class RoIs(NamedTuple):
    """boxes [R, 4] in pixels of the input image, those of the first image first, and how many each image has."""

    boxes: paddle.Tensor
    counts: list[int]


def concatenate(boxes_of_images: Sequence[paddle.Tensor]) -> RoIs:
    return RoIs(joined(boxes_of_images), [boxes.shape[0] for boxes in boxes_of_images])


def some_box() -> RoIs:
    """A box of 16 x 16 pixels in the corner of the one image."""
    return RoIs(paddle.to_tensor([[0.0, 0.0, 16.0, 16.0]]), [1])


def image_of(counts: Sequence[int]) -> np.ndarray:
    """The image of each RoI: NumPy [sum(counts)]."""
    return np.repeat(np.arange(len(counts)), counts)


def level_of(boxes: paddle.Tensor, levels: int, canonical_size: float, canonical_level: int) -> np.ndarray:
    """The level from 0 to levels - 1 that each box is pooled from: boxes [R, 4] -> int64 NumPy [R].

    A square of `canonical_size` pixels belongs to `canonical_level`, one of twice that side to the level above
    (arXiv:1612.03144, equation 1; the 1e-8 is Detectron's). In float64: Paddle's logarithm of a half is below -1 in 32.
    """
    sides = np.sqrt(box_area(boxes).clip(min=0).numpy().astype("float64"))
    level = np.floor(canonical_level + np.log2(sides / canonical_size + 1e-8))
    return level.clip(0, levels - 1).astype("int64")


class RoIPooling(nn.Layer):
    """forward(maps, rois): maps [N, channels, H, W], R RoIs, above 0 -> [R, channels, output_size, output_size].

    `pooling`: RoIAlign of `sampling_ratio`, or deformable RoI pooling of DCN v1 ("deformable") or v2 ("modulated"),
    which has its own offset branch for each level, with the samples a bin of the published ones: 4 x 4 and 2 x 2.
    """

    def __init__(
        self, channels: int, output_size: int, strides: Sequence[int], *, pooling: Pooling = "align",
        sampling_ratio: int = 0, canonical_size: float = 224.0, canonical_level: int = 2,
        modulation: Literal["2sigmoid", "sigmoid"] = "2sigmoid",
    ):
        super().__init__()
        self.output_size, self.strides, self.sampling_ratio = output_size, strides, sampling_ratio
        self.canonical = canonical_size, canonical_level
        versions = {"align": None, "deformable": 1, "modulated": 2}
        if pooling not in versions:
            raise ValueError(f"roi_pooling {pooling!r}: expected one of {', '.join(versions)}")
        version = versions[pooling]
        self.levels = nn.LayerList(
            DeformRoIPool(
                channels, output_size, 1 / stride, sampling_ratio=4 if version == 1 else 2, version=version,
                modulation=modulation,
            )
            for stride in (strides if version else ())
        )

    def _pool(self, level, features, boxes, counts):
        if not self.levels:
            return roi_align(features, boxes, counts, self.output_size, 1 / self.strides[level], self.sampling_ratio)
        total, image = boxes.shape[0], image_of(counts)
        at_once = total if self.training else AT_ONCE
        pooled = []
        for start in range(0, total, at_once):
            some = slice(start, start + at_once)
            own = paddle.to_tensor(np.bincount(image[some], minlength=len(counts)), dtype="int32")
            pooled.append(self.levels[level](features, boxes[some], own))
        return paddle.concat(pooled)

    def forward(self, maps: Sequence[paddle.Tensor], rois: RoIs) -> paddle.Tensor:
        levels = len(self.strides)
        if levels == 1:
            return self._pool(0, maps[0], *rois)
        level, image = level_of(rois.boxes, levels, *self.canonical), image_of(rois.counts)
        pooled, order, unused = [], [], []
        for number, features in enumerate(maps[:levels]):
            own = np.flatnonzero(level == number)
            if len(own):
                counts = np.bincount(image[own], minlength=len(rois.counts)).tolist()
                pooled.append(self._pool(number, features, paddle.gather(rois.boxes, paddle.to_tensor(own)), counts))
                order.append(own)
            elif self.levels:
                unused.append(self.levels[number])
        back = np.argsort(np.concatenate(order))
        pooled = paddle.gather(paddle.concat(pooled), paddle.to_tensor(back))
        return pooled + idle(*unused) if unused and self.training else pooled
