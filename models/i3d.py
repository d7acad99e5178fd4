"""I3D (Carreira & Zisserman, arXiv:1705.07750) as Wang et al. inflate it, arXiv:1711.07971: our ResNet over clips."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import paddle
from paddle import Tensor, nn

from models.norm import Norm, check_standardization, make_norm
from models.resnet import Convolutions, ResNet, Stem
from models.weights.layout import widened
from ops import Conv3D

# Whether the first convolution of a block looks at neighbouring frames: over and over for the blocks of a stage.
IN_TIME = {"c2": (True,), "c3": (True, False), "c4": (True, False), "c5": (False, True)}


def i3d(
    *,
    depth: Literal[18, 26, 34, 50, 101, 152] = 50,
    width: int = 64,
    in_channels: int = 3,
    stem: Literal["imagenet", "medium", "small"] = "imagenet",
    stem_frames: Literal[1, 3, 5] = 5,
    stem_time_stride: Literal[1, 2] = 2,
    stem_pool_padding: Literal[0, 1] = 0,
    stride_in: Literal["3x3", "1x1"] = "3x3",
    zero_init_last_norm: bool = True,
    weight_standardization: bool = False,
    norm: Norm = "gn",
    norm_groups: int = 32,
    norm_channels_per_group: int | None = None,
    norm_eps: float = 1e-5,
    bn_momentum: float = 0.9,
    bn_running_statistics: Literal["first", "mean", "precise"] = "first",
    bn_images_per_worker: int | None = None,
    brn_r_max: float = 1.5,
    brn_d_max: float = 0.5,
    brn_relax_steps: tuple[int, int, int] | None = None,
) -> "I3D":
    """A ResNet over clips from plain values: this signature is the `model:` section of a config.

    The values of `models.resnet` that are not listed here mean the same there; "images" are clips. The stem's
    convolution sees `stem_frames` frames. With stem_time_stride 2 it and the pool behind it (stem "imagenet" alone has
    one) halve the frames each: the 32x2 network of the non-local paper, and 64x1. With 1 both keep them: its 8x8
    network. Behind c2 stands a pool that halves them in both. stem_pool_padding 0 is that paper's (maps of 55 pixels
    for clips of 224), 1 that of image networks, SlowFast and MMAction (56). In c2 the first convolution of every block
    looks at the frames before and behind, in c3 and c4 that of every other block from the first on, in c5 from the
    second on. Raises ValueError for values that do not fit together.
    """
    if width < 1:
        raise ValueError(f"width: {width}, expected 1 or more")
    make = make_norm(
        norm, groups=norm_groups, channels_per_group=norm_channels_per_group, images_per_worker=bn_images_per_worker,
        running_statistics=bn_running_statistics, bn_momentum=bn_momentum, eps=norm_eps,
        brn_r_max=brn_r_max, brn_d_max=brn_d_max, brn_relax_steps=brn_relax_steps,
    )
    check_standardization(norm, weight_standardization)
    conv = partial(conv3d, bias=norm == "none", standardized=weight_standardization)

    def convolutions(stage, position):
        looks = IN_TIME[stage][position % len(IN_TIME[stage])]
        return Convolutions(conv, partial(conv, frames=3) if looks else conv, conv)

    return I3D(
        depth,
        width=width,
        stem=Stem(
            in_channels, width, stem, partial(conv, frames=stem_frames, time_stride=stem_time_stride), make,
            partial(_pool, frames=stem_time_stride, padding=stem_pool_padding),
        ),
        stride_in=stride_in,
        last_scale=0.0 if zero_init_last_norm else 1.0,
        norm=make,
        convolutions=convolutions,
        before={"c3": _pool(1, 1, frames=2, padding=0)},
        fewest_frames=2 * stem_time_stride ** (2 if stem == "imagenet" else 1) - stem_time_stride + 1,
    )


def conv3d(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = False, frames: int = 1,
    time_stride: int = 1, standardized: bool = False,
) -> nn.Layer:
    """A convolution of a square over so many frames, padded to keep its size at stride 1, started as `conv2d` is."""
    deviation = math.sqrt(2 / (out_channels * frames * kernel_size**2))
    around = kernel_size // 2
    return Conv3D(
        in_channels, out_channels, (frames, kernel_size, kernel_size), stride=(time_stride, stride, stride),
        padding=(frames // 2, around, around),
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, deviation)),
        bias_attr=None if bias else False, standardized=standardized,
    )


def _pool(kernel_size, stride, *, frames, padding):
    """The maximum of a square over so many frames, which it does not see twice."""
    return nn.MaxPool3D(
        (frames, kernel_size, kernel_size), (frames, stride, stride), padding=(0, padding, padding)
    )


class I3D(ResNet):
    """A ResNet over clips: x [N, in_channels, T, H, W] -> {"c2", "c3", "c4", "c5"}, each [N, C, T', H', W'].

    H' and W' are the ResNet's, or a pixel less where the stem's pool has no padding; T' is less too: see `i3d`.
    """

    def __init__(self, *arguments: object, fewest_frames: int, **options: object):
        super().__init__(*arguments, **options)
        self.fewest_frames = fewest_frames

    def forward(self, x: Tensor, last: str = "c5") -> dict[str, Tensor]:
        """x -> the stages up to `last`. Raises ValueError for clips of too few frames."""
        if x.shape[2] < self.fewest_frames:
            raise ValueError(f"clips of {x.shape[2]} frames, expected {self.fewest_frames} or more for this network")
        return ResNet.forward(self, x, last)  # super() is lost in Paddle 2.6 where a graph is made


def inflated(state: Mapping[str, np.ndarray], model: nn.Layer) -> dict[str, np.ndarray]:
    """The weights of an image network as those of a network over clips; all others as they are.

    A kernel [C_out, C_in, k, k] that stands at one [C_out, C_in, T, k, k] of `model` becomes T copies of it, each
    divided by T: of a clip that stands still it gives what the image network gives of the image. The linear layer is
    then of other classes, and left out.
    """
    own = model.state_dict()
    flat = [name for name, array in state.items() if name in own and own[name].ndim == 5 and array.ndim == 4]
    if not flat:
        return dict(state)
    kept = {name: array for name, array in state.items() if not name.startswith("fc.")}
    for name in flat:
        frames = own[name].shape[2]
        kept[name] = np.repeat(widened(state[name])[:, :, None] / np.float32(frames), frames, axis=2)
    return kept
