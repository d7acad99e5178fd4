"""Residual blocks in a row (He et al., arXiv:1512.03385) as one op on CPUs, which keeps oneDNN's layout inside it."""

from collections.abc import Sequence
from typing import NamedTuple

from paddle import Tensor, nn

from ops import native
from ops.batch_norm import BatchNorm
from ops.batch_renorm import BatchRenorm
from ops.conv2d import Conv2D, is_float32_on_cpu, onednn, wanted_gradients
from ops.conv3d import Conv3D
from ops.deform_conv import DeformConv2D, pair
from ops.frozen_batch_norm import FrozenBatchNorm
from ops.group_norm import GroupNorm
from ops.implementation import choose
from ops.weight_standardization import EPS


class ResidualBlock(NamedTuple):
    """activation(path(x) + shortcut(x)): (convolution, norm) layers in order; no shortcut is x itself.

    All norms of the path but the last have their activation in them.
    """

    path: list[tuple[nn.Layer, nn.Layer]]
    shortcut: list[tuple[nn.Layer, nn.Layer]]
    activation: nn.Layer


def residual_blocks(x: Tensor, blocks: Sequence[ResidualBlock], implementation: str = "auto") -> Tensor:
    """x [N, C, H, W], or of clips [N, C, T, H, W], through one ResidualBlock after another -> the same of y.

    implementation: "layers" calls the layers and is the definition. "native" (ops/csrc, the "auto" choice where it
    serves) computes all blocks at once: the convolutions by oneDNN, whose tensors stay in blocks of 16 channels
    from one to the next and to the norms. It serves on CPUs whose oneDNN wants that layout (those with AVX-512), in
    float32, for Conv2D, Conv3D and DeformConv2D without bias, GroupNorm, BatchNorm and FrozenBatchNorm, ReLU, and
    channels that are multiples of 16. Values, gradients and running statistics are those of the layers but for
    rounding; hooks of the layers are not called: see is_watched.

    Raises ValueError where "native" is asked for what it does not serve.
    """
    plan = None if implementation == "layers" else _plan(x, blocks)
    if implementation == "auto":
        implementation = "layers" if plan is None else "native"
    run = choose(IMPLEMENTATIONS, implementation)
    if run is _layers:
        return run(x, blocks)
    if plan is None:
        raise ValueError("residual blocks: implementation 'native' does not serve these")
    return run(x, plan)


class _Plan(NamedTuple):
    """What the kernels of ops/csrc/residual.h are told, see bindings.cc."""

    parameters: list
    numbers: list[int]
    standardized: list[int]  # 1 or 0 for each parameter: whether it is a weight whose filters are
    eps: float
    momentum: float
    mean_of_workers: bool


class _Norms(NamedTuple):
    """What all norms of the blocks must have in common."""

    kind: int
    eps: float
    momentum: float = 0.0
    mean_of_workers: bool = False


OF_GROUPS, OF_WORKERS, GIVEN = range(3)
MODULATION_AT_MOST = {"2sigmoid": 2, "sigmoid": 1}


def _plan(x, blocks):
    """How "native" computes the blocks; None where it does not serve."""
    if not is_float32_on_cpu(x) or x.shape[0] == 0 or not onednn():
        return None
    parameters, numbers, standardized, norms = [], [], [], set()
    for path, shortcut, activation in blocks:
        if type(activation) is not nn.ReLU:
            return None
        numbers += [len(path), len(shortcut)]
        for index, (conv, norm) in enumerate([*path, *shortcut]):
            common = _common(norm)
            if not _is_served(conv, x.ndim - 2) or common is None or norm.relu != (index < len(path) - 1):
                return None
            norms.add(common)
            own = [*_of_convolution(conv), norm.weight, norm.bias]
            if common.kind != OF_GROUPS:
                own += [norm._mean, norm._variance]
            parameters += own
            standardized += [int(conv.standardized)] + [0] * (len(own) - 1)
            numbers += [*_geometry(conv), _sets(common.kind, norm, x.shape[0]), *_deformed(conv)]
    if len(norms) != 1 or not is_float32_on_cpu(x, *parameters):
        return None
    (common,) = norms
    if common.kind == OF_WORKERS and not all(value.is_contiguous() for value in parameters):
        return None  # running statistics change in place
    numbers = [common.kind, *numbers]
    return _Plan(parameters, numbers, standardized, *common[1:]) if _is_wanted(x, blocks, parameters, numbers) else None


def _sets(kind, norm, images):
    """Groups, or images per worker, or 0 where statistics are given."""
    if kind == OF_GROUPS:
        return norm.groups
    return (norm.images_per_worker or images) if kind == OF_WORKERS else 0


def _of_convolution(conv):
    """The weight of a convolution, and the parameters of its offset branch where it has one."""
    branch = [conv.offset.weight, conv.offset.bias] if type(conv) is DeformConv2D else []
    return [conv.weight, *branch]


def _deformed(conv):
    """Deformable groups, 0 for a plain convolution, and what v2's modulation is at most, 0 for v1."""
    if type(conv) is not DeformConv2D:
        return [0, 0]
    return [conv.deformable_groups, MODULATION_AT_MOST[conv.modulation] if conv.version == 2 else 0]


def _is_served(conv, axes):
    """Whether this is a convolution over so many axes that "native" computes."""
    if type(conv) not in KINDS[axes] or conv.implementation not in ("auto", "native"):
        return False
    if type(conv) is DeformConv2D and (type(conv.offset) is not Conv2D or conv.offset.bias is None):
        return False
    return conv.bias is None and conv.groups == 1 and _geometry(conv) is not None


KINDS = {2: (Conv2D, DeformConv2D), 3: (Conv3D,)}


def _geometry(conv):
    """Stride, padding and dilation, each along all axes."""
    if type(conv) is DeformConv2D:
        return [size for name in ("stride", "padding", "dilation") for size in pair(conv.geometry[name])]
    return conv.geometry


def _common(norm):
    """The layer's _Norms; None for one that "native" does not compute."""
    kind = type(norm)
    if kind is FrozenBatchNorm:
        return _Norms(GIVEN, norm.eps)
    if kind not in (GroupNorm, BatchNorm, BatchRenorm) or norm.implementation not in ("auto", "native"):
        return None
    if kind is GroupNorm:
        return _Norms(OF_GROUPS, norm.eps)
    if not norm.training:
        return _Norms(GIVEN, norm.eps)
    if kind is BatchRenorm:  # in evaluation it is batch norm
        return None
    return _Norms(OF_WORKERS, norm.eps, norm.momentum, norm.running_statistics == "mean")


_ANSWERS = {}  # of _is_wanted, by all that they depend on
MOST_ANSWERS = 1000


def _is_wanted(x, blocks, parameters, numbers):
    """Whether the shapes fit together, and oneDNN itself would lay all tensors out in blocks of 16 channels."""
    key = (*numbers, *(size for value in (x, *parameters) for size in value.shape))
    if key not in _ANSWERS:
        if len(_ANSWERS) >= MOST_ANSWERS:
            _ANSWERS.clear()
        _ANSWERS[key] = _fit(x, blocks) and bool(native.run("residual_blocks_serve", x, parameters, numbers).item())
    return _ANSWERS[key]


def _fit(x, blocks):
    """Whether the layers fit x and one another; where they do not, they have the words for it."""
    shape = x.shape

    def after(shape, layers):
        for conv, norm in layers:
            images, channels, *size = shape
            out_channels, in_channels, *kernel = conv.weight.shape
            geometry, axes = _geometry(conv), len(size)
            stride, padding, dilation = (geometry[start : start + axes] for start in range(0, 3 * axes, axes))
            size = [
                (size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
                for axis in range(axes)
            ]
            vectors = [norm.weight, norm.bias, *norm.buffers()]
            if type(conv) is DeformConv2D:
                branch = [(conv.version + 1) * conv.taps, in_channels, *kernel]
                if conv.offset.weight.shape != branch or conv.offset.bias.shape != branch[:1]:
                    return None
            if channels != in_channels or min(size) < 1 or any(v.shape != [out_channels] for v in vectors):
                return None
            per_worker = getattr(norm, "images_per_worker", None)
            if per_worker is not None and (per_worker < 1 or images % per_worker):
                return None
            shape = [images, out_channels, *size]
        return shape

    for path, shortcut, _ in blocks:
        by_path, by_shortcut = after(shape, path), after(shape, shortcut)
        if by_path is None or by_path != by_shortcut:
            return False
        shape = by_path
    return True


def _native(x, plan):
    parameters, numbers, standardized, *settings = plan
    wanted = wanted_gradients(x, *parameters)
    return native.run("residual_blocks", x, parameters, numbers, wanted, standardized, EPS, *settings)


def _layers(x, blocks):
    for path, shortcut, activation in blocks:
        y = x
        for conv, norm in path:
            y = norm(conv(y))
        for conv, norm in shortcut:
            x = norm(conv(x))
        x = activation(y + x)
    return x


IMPLEMENTATIONS = {"native": _native, "layers": _layers}


def is_watched(layer: nn.Layer) -> bool:
    """Whether somebody has put a hook on the layer, or on one inside it."""
    hooks = layer._forward_pre_hooks or layer._forward_post_hooks
    return bool(hooks) or any(map(is_watched, layer._sub_layers.values()))
