"""Layers of pyramids and heads with the starting values of Detectron; biases start at 0."""

import math
from functools import partial
from typing import Protocol

import paddle
from paddle import Tensor, nn

from models.norm import Normalization
from models.resnet import conv2d

Normal, Uniform = nn.initializer.Normal, nn.initializer.Uniform


class HasParameters(Protocol):
    """A layer, or what runs one that it does not own."""

    def parameters(self) -> list[Tensor]: ...


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, start: Normal | Uniform, bias: bool = True
) -> nn.Conv2D:
    """A convolution of stride 1 that keeps the size."""
    return nn.Conv2D(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2,
        weight_attr=paddle.ParamAttr(initializer=start), bias_attr=None if bias else False,
    )


def xavier_convolution(in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> nn.Conv2D:
    """Started as Caffe2's Xavier: uniform with the variance of 1 / fan-in."""
    return convolution(in_channels, out_channels, kernel_size, xavier(in_channels * kernel_size**2), bias)


def linear(in_features: int, out_features: int, start: Normal | Uniform) -> nn.Linear:
    return nn.Linear(in_features, out_features, weight_attr=paddle.ParamAttr(initializer=start))


def xavier(fan_in: int) -> Uniform:
    bound = math.sqrt(3 / fan_in)
    return Uniform(-bound, bound)


def upsampling(in_channels: int, out_channels: int) -> nn.Conv2DTranspose:
    """2x2 transposed convolution of stride 2, started by He's rule (normal, fan-out)."""
    start = Normal(0.0, math.sqrt(2 / (4 * out_channels)))
    return nn.Conv2DTranspose(
        in_channels, out_channels, 2, stride=2, weight_attr=paddle.ParamAttr(initializer=start)
    )


class Convolutions(nn.Sequential):
    """`count` times 3x3 convolution and activated norm, started by He's rule. `bias` is for where there is no norm."""

    def __init__(self, count: int, in_channels: int, channels: int, norm: Normalization, bias: bool):
        layers = []
        conv = partial(conv2d, kernel_size=3, bias=bias)
        for position in range(count):
            layers.append((f"conv{position + 1}", conv(channels if position else in_channels, channels)))
            layers.append((f"norm{position + 1}", norm(channels, activated=True)))
        super().__init__(*layers)


def idle(*layers: HasParameters) -> Tensor | int:
    """0, through which the parameters of `layers` get a gradient of 0: for a step in which there is nothing to run them
    on. Paddle 2.6 cannot run them on nothing, and several devices wait for everyone's gradients."""
    parameters = [parameter for layer in layers for parameter in layer.parameters() if not parameter.stop_gradient]
    return sum(0 * parameter.sum() for parameter in parameters)
