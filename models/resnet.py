"""ResNet (He et al., arXiv:1512.03385) with a choice of norm and of deformable stages."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Literal, NamedTuple

import paddle
from paddle import Tensor, nn

from models.norm import Norm, Normalization, check_standardization, make_norm
from ops import Conv2D, DeformConv2D, ResidualBlock, residual_blocks
from ops.residual_blocks import is_watched

StageName = Literal["c2", "c3", "c4", "c5"]
Part = Literal["stem", StageName]


def resnet(
    *,
    depth: Literal[18, 26, 34, 50, 101, 152] = 50,
    width: int = 64,
    in_channels: int = 3,
    stem: Literal["imagenet", "medium", "small"] = "imagenet",
    stride_in: Literal["3x3", "1x1"] = "3x3",
    zero_init_last_norm: bool = True,
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
    deformable_stages: tuple[StageName, ...] = (),
    deformable_version: Literal[1, 2] = 2,
    deformable_groups: int = 1,
    deformable_modulation: Literal["2sigmoid", "sigmoid"] = "2sigmoid",
    dilated_stages: tuple[StageName, ...] = (),
    weight_standardization: bool = False,
    frozen: tuple[Part, ...] = (),
) -> "ResNet":
    """A ResNet from plain values: this signature is the `model:` section of a config.

    depth 18 and 34 are made of basic blocks, 26 (timm's), 50, 101 and 152 of bottlenecks. `width` is the number of
    channels of the stem and of c2's 3x3 convolutions (64 in the paper). stem "imagenet" is 7x7 of stride 2 and a max
    pool, "medium" 3x3 of stride 2 for pictures of some 64 pixels, "small" 3x3 of stride 1 for pictures of some 32.
    `stride_in` says which convolution of a bottleneck strides (the GN paper's and Paddle's: 3x3; the first ResNet
    paper's: 1x1). `zero_init_last_norm` starts each residual block as the identity. All 3x3 convolutions of
    bottlenecks, and the second of basic blocks, become deformable in `deformable_stages` (the deformable_* values are
    those of `ops.DeformConv2D`), and have dilation 2 in `dilated_stages`, which is what the DCN paper compares with.
    `weight_standardization` (arXiv:1903.10520) is of all convolutions, deformable ones too, but not of offset branches.
    Nothing in `frozen` stages learns, gamma, beta and offset branches included, and BN or BRN there is frozen batch
    norm: for weights that were trained before. For the norm_*, bn_* and brn_* values see `models.norm.make_norm`.
    Raises ValueError for values that do not fit together.
    """
    for name, value in (("width", width), ("deformable_groups", deformable_groups)):
        if value < 1:
            raise ValueError(f"{name}: {value}, expected 1 or more")
    make = make_norm(
        norm, groups=norm_groups, channels_per_group=norm_channels_per_group, images_per_worker=bn_images_per_worker,
        running_statistics=bn_running_statistics, bn_momentum=bn_momentum, eps=norm_eps,
        brn_r_max=brn_r_max, brn_d_max=brn_d_max, brn_relax_steps=brn_relax_steps,
    )
    frozen_norm = make_norm("frozen_bn", eps=norm_eps) if norm in ("bn", "sync_bn", "brn") else make
    check_standardization(norm, weight_standardization)
    # A norm's beta is the bias where there is one.
    conv = partial(conv2d, bias=norm == "none", standardized=weight_standardization)
    deformable = partial(
        DeformConv2D, version=deformable_version, deformable_groups=deformable_groups, modulation=deformable_modulation
    )

    def convolutions(stage, _):
        spatial = partial(conv, layer=deformable) if stage in deformable_stages else conv
        return Convolutions(conv, conv, partial(spatial, dilation=2) if stage in dilated_stages else spatial)

    return ResNet(
        depth,
        width=width,
        stem=Stem(in_channels, width, stem, conv, frozen_norm if "stem" in frozen else make, max_pool2d),
        stride_in=stride_in,
        last_scale=0.0 if zero_init_last_norm else 1.0,
        norm=make,
        convolutions=convolutions,
        frozen=frozen,
        frozen_norm=frozen_norm,
    )


def conv2d(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = False,
    layer: Callable[..., nn.Layer] = Conv2D, dilation: int = 1, standardized: bool = False,
) -> nn.Layer:
    """A square convolution padded to keep its size at stride 1, started by He's rule (normal, fan-out)."""
    deviation = math.sqrt(2 / (out_channels * kernel_size**2))
    return layer(
        in_channels, out_channels, kernel_size, stride=stride, padding=dilation * (kernel_size // 2), dilation=dilation,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, deviation)),
        bias_attr=None if bias else False, standardized=standardized,
    )


def max_pool2d(kernel_size: int, stride: int) -> nn.Layer:
    """A square max pool padded as `conv2d` is."""
    return nn.MaxPool2D(kernel_size, stride, padding=kernel_size // 2)


class Convolutions(NamedTuple):
    """What makes a block's convolutions: conv(in_channels, out_channels, kernel_size, stride=1).

    `first` makes the first one, `spatial` a bottleneck's 3x3 and a basic block's second, `conv` all others.
    """

    conv: Callable[..., nn.Layer]
    first: Callable[..., nn.Layer]
    spatial: Callable[..., nn.Layer]


class Shortcut(nn.Layer):
    """Projection where a block changes the shape: 1x1 convolution, then norm."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, conv: Callable[..., nn.Layer],
        norm: Normalization,
    ):
        super().__init__()
        self.conv = conv(in_channels, out_channels, 1, stride)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def _layers_of(shortcut):
    return [(shortcut.conv, shortcut.norm)] if isinstance(shortcut, Shortcut) else []


class Basic(nn.Layer):
    """Two 3x3 convolutions and a shortcut (ResNet-18, -34)."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, stride_in: Literal["3x3", "1x1"], last_scale: float,
        convolutions: "Convolutions", norm: Normalization,
    ):
        super().__init__()
        conv, conv_first, conv_spatial = convolutions
        self.conv1 = conv_first(in_channels, channels, 3, stride)
        self.norm1 = norm(channels, activated=True)
        self.conv2 = conv_spatial(channels, channels, 3)
        self.norm2 = norm(channels, initial_scale=last_scale)
        changes = stride != 1 or in_channels != channels
        self.shortcut = Shortcut(in_channels, channels, stride, conv, norm) if changes else nn.Identity()
        self.activation = norm.activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x))
        y = self.norm2(self.conv2(y))
        return self.activation(y + self.shortcut(x))

    def residual(self) -> ResidualBlock:
        """The layers that forward calls."""
        path = [(self.conv1, self.norm1), (self.conv2, self.norm2)]
        return ResidualBlock(path, _layers_of(self.shortcut), self.activation)


class Bottleneck(nn.Layer):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, stride_in: Literal["3x3", "1x1"], last_scale: float,
        convolutions: "Convolutions", norm: Normalization,
    ):
        super().__init__()
        conv, conv_first, conv_spatial = convolutions
        out_channels = channels * self.expansion
        self.conv1 = conv_first(in_channels, channels, 1, stride if stride_in == "1x1" else 1)
        self.norm1 = norm(channels, activated=True)
        self.conv2 = conv_spatial(channels, channels, 3, stride if stride_in == "3x3" else 1)
        self.norm2 = norm(channels, activated=True)
        self.conv3 = conv(channels, out_channels, 1)
        self.norm3 = norm(out_channels, initial_scale=last_scale)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = Shortcut(in_channels, out_channels, stride, conv, norm) if changes else nn.Identity()
        self.activation = norm.activation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x))
        y = self.norm2(self.conv2(y))
        y = self.norm3(self.conv3(y))
        return self.activation(y + self.shortcut(x))

    def residual(self) -> ResidualBlock:
        """The layers that forward calls."""
        path = [(self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)]
        return ResidualBlock(path, _layers_of(self.shortcut), self.activation)


class Stage(nn.Sequential):
    """Residual blocks, one after another; as one op where no hook looks inside."""

    def forward(self, x: Tensor) -> Tensor:
        blocks = list(self)
        if any(map(is_watched, blocks)):
            return nn.Sequential.forward(self, x)  # super() is lost in Paddle 2.6 where a graph is made
        return residual_blocks(x, [block.residual() for block in blocks])


class Stem(nn.Layer):
    """What stands before c2: to a quarter of the size ("imagenet"), to half ("medium") or to the same ("small")."""

    STRIDES = {"imagenet": 4, "medium": 2, "small": 1}

    def __init__(
        self, in_channels: int, width: int, kind: Literal["imagenet", "medium", "small"], conv: Callable[..., nn.Layer],
        norm: Normalization, pool: Callable[[int, int], nn.Layer],
    ):
        super().__init__()
        self.stride = self.STRIDES[kind]
        kernel_size, stride = {"imagenet": (7, 2), "medium": (3, 2), "small": (3, 1)}[kind]
        self.conv = conv(in_channels, width, kernel_size, stride)
        self.norm = norm(width, activated=True)
        self.pool = pool(3, 2) if kind == "imagenet" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.norm(self.conv(x)))


class ResNet(nn.Layer):
    """Stem and four stages. x [N, in_channels, H, W] -> {"c2", "c3", "c4", "c5"}, each [N, C, H', W'].

    With the ImageNet stem the stages stand at strides 4, 8, 16 and 32, with the medium one at 2, 4, 8 and 16, with the
    small one at 1, 2, 4 and 8.
    `out_channels` gives C for each stage, `strides` how many pixels of x lie between two of its values; `stride_in` is
    which convolution of a bottleneck strides, None for basic blocks. All layers come from constructors:
    `convolutions(stage, position)` gives those of a block, `norm` its norms and activations; no parameter of stem and
    stages in `frozen` gets a gradient, and such stages have `frozen_norm` for norm. `before` are layers that stand
    before a stage, by its name.
    """

    BLOCKS = {
        18: (Basic, (2, 2, 2, 2)),
        26: (Bottleneck, (2, 2, 2, 2)),
        34: (Basic, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def __init__(
        self, depth: Literal[18, 26, 34, 50, 101, 152], *, width: int, stem: Stem, stride_in: Literal["3x3", "1x1"],
        last_scale: float, norm: Normalization, convolutions: Callable[[str, int], Convolutions],
        before: Mapping[str, nn.Layer] | None = None, frozen: Collection[str] = (),
        frozen_norm: Normalization | None = None,
    ):
        super().__init__()
        block, counts = self.BLOCKS[depth]
        self.stem, self.before = stem, nn.LayerDict(before)
        self.stride_in = stride_in if block is Bottleneck else None
        self.out_channels, self.strides = {}, {}
        channels = width
        for index, (stage, count) in enumerate(zip(("c2", "c3", "c4", "c5"), counts, strict=True)):
            blocks = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(
                    block(
                        channels, width * 2**index, stride, stride_in=stride_in, last_scale=last_scale,
                        convolutions=convolutions(stage, position), norm=frozen_norm if stage in frozen else norm,
                    )
                )
                channels = width * 2**index * block.expansion
            self.add_sublayer(stage, Stage(*blocks))
            self.out_channels[stage], self.strides[stage] = channels, stem.stride * 2**index
        for part in frozen:
            for parameter in getattr(self, part).parameters():
                parameter.stop_gradient = True

    def forward(self, x: Tensor, last: str = "c5") -> dict[str, Tensor]:
        """x -> the stages up to `last`; no later one is computed."""
        stages, names = {}, list(self.out_channels)
        x = self.stem(x)
        for stage in names[: names.index(last) + 1]:
            if stage in self.before:
                x = self.before[stage](x)
            x = getattr(self, stage)(x)
            stages[stage] = x
        return stages
