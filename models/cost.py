"""What a network costs, counted and not timed."""

import math
from collections.abc import Sequence

import paddle
from paddle import nn

from ops import DeformConv2D

SAMPLE = 4  # multiply-adds of a bilinear sample: one for each of the pixels around it


@paddle.no_grad()
def multiply_adds(model: nn.Layer, image_shape: Sequence[int]) -> int:
    """Multiply-adds of the convolutions and linear layers of one forward pass of one image [C, H, W].

    A deformable convolution counts as the plain one, its offset branch (a convolution of its own) and the samples: four
    for each tap, input channel and position. Norms, activations and additions are left out, as is usual.
    """
    counted = []

    def count(layer, inputs, output):
        if isinstance(layer, nn.Linear):
            counted.append(layer.weight.size)
            return
        positions = math.prod(output.shape[2:])
        counted.append(layer.weight.size * positions)
        if isinstance(layer, DeformConv2D):
            counted.append(SAMPLE * inputs[0].shape[1] * math.prod(layer.weight.shape[2:]) * positions)

    kinds = (nn.Conv2D, DeformConv2D, nn.Linear)
    hooks = [layer.register_forward_post_hook(count) for layer in model.sublayers() if isinstance(layer, kinds)]
    training = model.training
    model.eval()
    try:
        model({"image": paddle.zeros([1, *image_shape])})
    finally:
        for hook in hooks:
            hook.remove()
        if training:
            model.train()
    return sum(counted)
