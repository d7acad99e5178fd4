"""VGG (Simonyan & Zisserman, arXiv:1409.1556) with a norm of choice after every convolution, or none."""

import math
from collections.abc import Sequence
from typing import Literal

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from models.norm import Norm, Normalization, check_standardization, make_norm
from ops import Conv2D

MOST_HIDDEN = 2  # hidden layers of the head, as in the paper


def vgg(
    *,
    depth: Literal[11, 13, 16, 19] = 16,
    width: int = 64,
    in_channels: int = 3,
    poolings: Literal[1, 2, 3, 4, 5] = 5,
    pooled_size: int = 7,
    head_widths: tuple[int, ...] = (4096, 4096),
    dropout: float = 0.5,
    norm: Norm = "gn",
    norm_groups: int = 32,
    norm_channels_per_group: int | None = None,
    norm_eps: float = 1e-5,
    weight_standardization: bool = False,
    bn_momentum: float = 0.9,
    bn_running_statistics: Literal["first", "mean", "precise"] = "first",
    bn_images_per_worker: int | None = None,
    brn_r_max: float = 1.5,
    brn_d_max: float = 0.5,
    brn_relax_steps: tuple[int, int, int] | None = None,
) -> "VGG":
    """A VGG from plain values: this signature is the `model:` section of a config.

    `width` is the number of channels of the first block (64 in the paper); the others have 2, 4, 8 and 8 times as many.
    A 2x2 max pool halves the maps behind each of the first `poolings` blocks, and images have 2**poolings pixels a side
    or more. The head: with `head_widths` (as the paper, two at most) maps are averaged to pooled_size x pooled_size,
    7 for images of 224 pixels, and go through hidden layers of so many units with `dropout` behind each; with none they
    are averaged alone, and pooled_size and dropout mean nothing. Convolutions have a bias whatever the norm, as
    torchvision's. All layers before the last start by He's rule, fan-in: where no norm does it, that keeps what flows
    forward from fading as the channels double, and is the GN authors' choice for VGG's convolutions (their hidden
    layers start smaller, at a deviation of 0.001). `weight_standardization` (arXiv:1903.10520) is of all convolutions.
    For the norm_*, bn_* and brn_* values see `models.norm.make_norm`. Raises ValueError for values that do not fit
    together.
    """
    for name, value in (("width", width), ("pooled_size", pooled_size), ("head_widths", min(head_widths, default=1))):
        if value < 1:
            raise ValueError(f"{name}: {value}, expected 1 or more")
    if len(head_widths) > MOST_HIDDEN:
        raise ValueError(f"head_widths: {len(head_widths)} hidden layers, expected {MOST_HIDDEN} at most")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: {dropout}, expected a value from 0 to below 1")
    check_standardization(norm, weight_standardization, affine_alone=False)
    make = make_norm(
        norm, groups=norm_groups, channels_per_group=norm_channels_per_group, images_per_worker=bn_images_per_worker,
        running_statistics=bn_running_statistics, bn_momentum=bn_momentum, eps=norm_eps, brn_r_max=brn_r_max,
        brn_d_max=brn_d_max, brn_relax_steps=brn_relax_steps,
    )
    return VGG(
        depth, width=width, in_channels=in_channels, poolings=poolings, pooled_size=pooled_size,
        head_widths=head_widths, dropout=dropout, norm=make, standardized=weight_standardization,
    )


class VGG(nn.Layer):
    """Blocks of 3x3 convolutions and the hidden layers. x [N, in_channels, H, W] -> {"c5": [N, C, H', W']}.

    With hidden layers C is the width of the last and H' = W' = 1, else they are those of the last block's maps; c5 is
    what a ResNet calls its last features, and `out_channels` gives C. The layers are called as in the papers: conv1_1
    to conv5_3, norm1_1 to norm5_3 (with their activation), fc6 and fc7. forward raises ValueError for
    images that the pools leave nothing of.
    """

    BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
    TIMES = (1, 2, 4, 8, 8)  # the width

    def __init__(
        self, depth: Literal[11, 13, 16, 19], *, width: int, in_channels: int, poolings: int, pooled_size: int,
        head_widths: Sequence[int], dropout: float, norm: Normalization, standardized: bool = False,
    ):
        super().__init__()
        self.depth, self.poolings = depth, poolings
        channels = in_channels
        for block, (count, times) in enumerate(zip(self.BLOCKS[depth], self.TIMES, strict=True), 1):
            for number in range(1, count + 1):
                conv = Conv2D(
                    channels, times * width, 3, padding=1, weight_attr=_he(9 * channels), standardized=standardized
                )
                self.add_sublayer(f"conv{block}_{number}", conv)
                self.add_sublayer(f"norm{block}_{number}", norm(times * width, activated=True))
                channels = times * width
        self.pool = nn.MaxPool2D(2, 2)
        self.average = nn.AdaptiveAvgPool2D(pooled_size)
        self.dropout = nn.Dropout(dropout)
        units = channels * pooled_size**2
        self.hidden = [f"fc{6 + number}" for number in range(len(head_widths))]
        for name, size in zip(self.hidden, head_widths, strict=True):
            self.add_sublayer(name, nn.Linear(units, size, weight_attr=_he(units)))
            channels = units = size
        self.out_channels = {"c5": channels}

    def blocks(self) -> list[list[tuple[nn.Layer, nn.Layer]]]:
        """The (convolution, norm) pairs of each block, in the order of computing."""
        return [
            [(getattr(self, f"conv{block}_{number}"), getattr(self, f"norm{block}_{number}"))
             for number in range(1, count + 1)]
            for block, count in enumerate(self.BLOCKS[self.depth], 1)
        ]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        shortest = min(x.shape[2:])
        if 0 < shortest < 2**self.poolings:  # where a graph is made, free sides are -1
            raise ValueError(
                f"images of {' x '.join(map(str, x.shape[2:]))}, expected {2**self.poolings} pixels a side or more for "
                f"{self.poolings} poolings"
            )
        for number, block in enumerate(self.blocks(), 1):
            for conv, norm in block:
                x = norm(conv(x))
            if number <= self.poolings:
                x = self.pool(x)
        if not self.hidden:
            return {"c5": x}
        x = self.average(x).flatten(start_axis=1)
        for name in self.hidden:
            x = self.dropout(F.relu(getattr(self, name)(x)))
        return {"c5": x.unsqueeze([2, 3])}


def _he(fan_in):
    return paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, math.sqrt(2 / fan_in)))
