"""Feature pyramid network (Lin et al., arXiv:1612.03144), and what a detector without it has in its place."""

from collections.abc import Mapping

from paddle import Tensor, nn
from paddle.nn import functional as F

from models.detection.layers import xavier_convolution
from models.norm import Normalization
from ops.implementation import sizes


class FPN(nn.Layer):
    """{"c2" … "c5"} of a backbone -> [p2, p3, p4, p5, p6], each [N, channels, H, W] of its stage's size.

    A lateral 1x1 convolution of each stage, plus the level above it, enlarged by nearest neighbours, then a 3x3
    convolution; p6 is every second value of p5. `norm` stands after each convolution, not activated; `bias` is for
    where there is none. Pictures of any size will do: a level is enlarged to the size of the one below.
    """

    stages = ("c2", "c3", "c4", "c5")

    def __init__(self, in_channels: Mapping[str, int], channels: int, norm: Normalization, bias: bool):
        super().__init__()
        for stage in self.stages:
            lateral, output = (
                nn.Sequential(
                    ("conv", xavier_convolution(entering, channels, kernel_size, bias)), ("norm", norm(channels))
                )
                for entering, kernel_size in ((in_channels[stage], 1), (channels, 3))
            )
            self.add_sublayer(f"lateral_{stage}", lateral)
            self.add_sublayer(f"output_{stage}", output)

    def forward(self, stages: Mapping[str, Tensor]) -> list[Tensor]:
        levels, above = [], None
        for stage in reversed(self.stages):
            inner = getattr(self, f"lateral_{stage}")(stages[stage])
            if above is not None:
                inner = inner + F.interpolate(above, size=sizes(inner)[2:], mode="nearest")
            levels.insert(0, getattr(self, f"output_{stage}")(inner))
            above = inner
        return [*levels, F.max_pool2d(levels[-1], 1, stride=2)]


class OneStage(nn.Layer):
    """In the place of a pyramid: one of the backbone's stages as it is, in a list."""

    def __init__(self, stage: str):
        super().__init__()
        self.stage = stage

    def forward(self, stages: Mapping[str, Tensor]) -> list[Tensor]:
        return [stages[self.stage]]
