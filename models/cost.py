"""What a network costs, counted and not timed."""

import math
from collections.abc import Sequence

from paddle import nn

from models.passing import see_layers
from ops import DeformConv2D

SAMPLE = 4  # multiply-adds of a bilinear sample: one for each of the pixels around it


def multiply_adds(model: nn.Layer, image_shape: Sequence[int]) -> int:
    """Multiply-adds of the convolutions and linear layers of one forward pass of one image; of a detector with as many
    proposals and answers as there can be.

    image_shape [C, H, W], of a clip [C, T, H, W]. A deformable convolution counts as the plain one, its offset branch
    (a convolution of its own) and the samples: four for each tap, input channel and position. Norms, activations and
    additions are left out, as is usual.
    """
    counted = []

    def count(_, layer, x, output, times):
        if isinstance(layer, nn.Linear):
            counted.append(times * layer.weight.size)
            return
        positions = math.prod((x if isinstance(layer, nn.Conv2DTranspose) else output).shape[2:])
        counted.append(times * layer.weight.size * positions)
        if isinstance(layer, DeformConv2D):
            counted.append(times * SAMPLE * x.shape[1] * math.prod(layer.weight.shape[2:]) * positions)

    see_layers(model, (nn.Conv2D, nn.Conv2DTranspose, nn.Conv3D, DeformConv2D, nn.Linear), count, image_shape)
    return sum(counted)
