"""The norms by the one word that a config calls them, and what one may ask a network about its norms."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from paddle import nn

from models.passing import see_layers
from ops import BatchNorm, FrozenBatchNorm, GroupNorm, SyncBatchNorm

Norm = Literal["bn", "gn", "ln", "in", "frozen_bn", "sync_bn", "none"]


def make_norm(
    norm: Norm, *, groups: int = 32, channels_per_group: int | None = None, images_per_worker: int | None = None,
    running_statistics: Literal["first", "mean", "precise"] = "first", bn_momentum: float = 0.9, eps: float = 1e-5,
) -> Callable[..., nn.Layer]:
    """The constructor norm(channels, initial_scale=1.0, relu=False) -> layer that networks hand to their blocks.

    `groups`, or `channels_per_group` where it is given, are gn's; `images_per_worker`, `running_statistics` and
    `bn_momentum` are bn's (see ops.BatchNorm); running statistics "precise" are tracked as "first", for whoever
    evaluates to compute them anew. With relu the layer returns max(0, y): our own kernels compute it in the same pass.
    Raises ValueError for values that nothing can be learned with; the constructor where groups do not divide channels.
    """
    if groups < 1:
        raise ValueError(f"norm_groups: {groups}, expected 1 or more")
    if eps <= 0 or not 0 <= bn_momentum <= 1:
        raise ValueError(f"norm_eps {eps} must be above 0, bn_momentum {bn_momentum} from 0 to 1")
    if bn_momentum == 1 and norm in ("bn", "sync_bn") and running_statistics != "precise":
        raise ValueError("bn_momentum: 1 keeps the running statistics at 0 and 1; expected below 1")

    def group_norm(channels, **options):
        if channels_per_group is None:
            return GroupNorm(channels, groups, eps, **options)
        if channels_per_group < 1 or channels % channels_per_group:
            raise ValueError(f"group norm: groups of {channels_per_group} channels do not divide {channels} channels")
        return GroupNorm(channels, channels // channels_per_group, eps, **options)

    norms = {
        "bn": partial(
            BatchNorm, images_per_worker=images_per_worker, momentum=bn_momentum, eps=eps,
            running_statistics="first" if running_statistics == "precise" else running_statistics,
            precise=running_statistics == "precise",
        ),
        "gn": group_norm,
        "ln": lambda channels, **options: GroupNorm(channels, 1, eps, **options),
        "in": lambda channels, **options: GroupNorm(channels, channels, eps, **options),
        # Nothing would ever move its gamma from an initial scale of 0, and the branch behind it would be dead.
        "frozen_bn": lambda channels, initial_scale=1.0, relu=False: FrozenBatchNorm(channels, eps, relu=relu),
        "sync_bn": partial(SyncBatchNorm, momentum=bn_momentum, eps=eps),
        "none": lambda channels, initial_scale=1.0, relu=False: nn.ReLU() if relu else nn.Identity(),
    }
    if norm not in norms:
        raise ValueError(f"norm {norm!r}: expected one of {', '.join(norms)}")
    return norms[norm]


def batch_norms(model: nn.Layer) -> list[BatchNorm]:
    """The layers whose statistics are of a worker's images."""
    return [layer for layer in model.sublayers() if isinstance(layer, BatchNorm)]


def share_statistics(model: nn.Layer, images: int) -> None:
    """Let a worker have so many images, where a pass is cut into workers: a norm in a detector's head is called for one
    at a time, and sees RoIs."""
    for layer in model.sublayers():
        if getattr(layer, "images_per_worker", None) is not None:
            layer.images_per_worker = images


def norms_of_one_value(model: nn.Layer, image_shape: tuple[int, ...], images_per_step: int) -> list[str]:
    """The norms that would take each statistic over a single value, and so give their beta whatever comes, by name.

    image_shape [C, H, W], of a clip [C, T, H, W].
    """
    found = []

    def look(name, layer, x, *_):
        positions = math.prod(x.shape[2:])
        if isinstance(layer, BatchNorm):
            values = positions * (layer.images_per_worker or images_per_step)
        elif isinstance(layer, SyncBatchNorm):
            values = positions * images_per_step
        else:
            values = positions * (x.shape[1] // layer.groups)
        if values == 1:
            found.append(name)

    see_layers(model, (BatchNorm, SyncBatchNorm, GroupNorm), look, image_shape)
    return found


def described(section: object) -> dict[str, str | int | None]:
    """What a `model:` section says of its norm, as far as it has a meaning there; None for what it does not say.

    A section of a model without norms has none of these keys. evaluation_statistics: those that BN is evaluated with.
    """
    norm = getattr(section, "norm", None)
    channels_per_group = getattr(section, "norm_channels_per_group", None)
    grouped = norm == "gn"
    return {
        "norm": norm,
        "norm_groups": getattr(section, "norm_groups", None) if grouped and channels_per_group is None else None,
        "norm_channels_per_group": channels_per_group if grouped else None,
        "evaluation_statistics": getattr(section, "bn_running_statistics", None) if norm == "bn" else None,
    }
