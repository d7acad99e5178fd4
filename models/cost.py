"""What a network costs, counted and not timed."""

import math
from collections.abc import Sequence

from paddle import nn

from models.passing import see_layers
from ops import DeformConv2D

SAMPLE = 4  # multiply-adds of a bilinear sample: one for each of the pixels around it


def multiply_adds(model: nn.Layer, image_shape: Sequence[int]) -> int:
    """Multiply-adds of the convolutions and linear layers of one forward pass of one image.

    image_shape [C, H, W], of a clip [C, T, H, W]. A deformable convolution counts as the plain one, its offset branch
    (a convolution of its own) and the samples: four for each tap, input channel and position. Norms, activations and
    additions are left out, as is usual.
    """
    counted = []

    def count(_, layer, x, output):
        if isinstance(layer, nn.Linear):
            counted.append(layer.weight.size)
            return
        positions = math.prod(output.shape[2:])
        counted.append(layer.weight.size * positions)
        if isinstance(layer, DeformConv2D):
            counted.append(SAMPLE * x.shape[1] * math.prod(layer.weight.shape[2:]) * positions)

    see_layers(model, (nn.Conv2D, nn.Conv3D, DeformConv2D, nn.Linear), count, image_shape)
    return sum(counted)
