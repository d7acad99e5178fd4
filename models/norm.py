"""The norms by the one word that a config calls them, and what one may ask a network about its norms."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from paddle import nn

from models.passing import see_layers
from ops import (
    BatchNorm,
    BatchRenorm,
    EvoNormS0,
    FilterResponseNorm,
    FrozenBatchNorm,
    GroupNorm,
    SyncBatchNorm,
    ThresholdedLinearUnit,
)

Norm = Literal["bn", "gn", "ln", "in", "frozen_bn", "sync_bn", "none", "brn", "frn", "evonorm_s0"]

GROUPED = ("gn", "evonorm_s0")  # to which norm_groups and norm_channels_per_group mean something
# With subclasses, all norms.
LAYERS = (BatchNorm, SyncBatchNorm, FrozenBatchNorm, GroupNorm, FilterResponseNorm, EvoNormS0)


@dataclass(frozen=True)
class Normalization:
    """What networks hand to their blocks: norm(channels, initial_scale=1.0, activated=False) -> layer.

    An `activated` layer has in it the activation that follows it: ReLU, or what a norm has in its place.
    norm.activation(channels) -> layer is that activation alone, for where it follows no norm but an addition.
    """

    layer: Callable[..., nn.Layer]
    activation: Callable[[int], nn.Layer] = lambda channels: nn.ReLU()

    def __call__(self, channels: int, initial_scale: float = 1.0, activated: bool = False) -> nn.Layer:
        return self.layer(channels, initial_scale=initial_scale, activated=activated)


def _then_relu(layer):
    """A norm whose activation is ReLU: our own kernels compute it in the same pass."""
    return Normalization(
        lambda channels, initial_scale, activated: layer(channels, initial_scale=initial_scale, relu=activated)
    )


def make_norm(
    norm: Norm, *, groups: int = 32, channels_per_group: int | None = None, images_per_worker: int | None = None,
    running_statistics: Literal["first", "mean", "precise"] = "first", bn_momentum: float = 0.9, eps: float = 1e-5,
    brn_r_max: float = 1.5, brn_d_max: float = 0.5, brn_relax_steps: tuple[int, int, int] | None = None,
) -> Normalization:
    """The norm of that name.

    `groups`, or `channels_per_group` where it is given, are gn's and evonorm_s0's; `images_per_worker`,
    `running_statistics` and `bn_momentum` are bn's and brn's (see ops.BatchNorm), the brn_* values brn's (see
    ops.batch_renorm). Running statistics "precise" are tracked as "first", for whoever evaluates to compute them anew;
    brn has none.
    Raises ValueError for values that nothing can be learned with; the constructor where groups do not divide channels.
    """
    if groups < 1:
        raise ValueError(f"norm_groups: {groups}, expected 1 or more")
    if eps <= 0 or not 0 <= bn_momentum <= 1:
        raise ValueError(f"norm_eps {eps} must be above 0, bn_momentum {bn_momentum} from 0 to 1")
    if bn_momentum == 1 and norm in ("bn", "sync_bn", "brn") and running_statistics != "precise":
        raise ValueError("bn_momentum: 1 keeps the running statistics at 0 and 1; expected below 1")
    if norm == "brn" and running_statistics == "precise":
        raise ValueError("bn_running_statistics: precise is bn's; brn is trained with the statistics that evaluate it")

    def grouped(layer):
        def make(channels, **options):
            if channels_per_group is None:
                return layer(channels, groups, eps, **options)
            if channels_per_group < 1 or channels % channels_per_group:
                raise ValueError(f"{norm}: groups of {channels_per_group} channels do not divide {channels} channels")
            return layer(channels, channels // channels_per_group, eps, **options)

        return make

    of_workers = {
        "images_per_worker": images_per_worker, "momentum": bn_momentum, "eps": eps,
        "running_statistics": "first" if running_statistics == "precise" else running_statistics,
    }
    norms = {
        "bn": _then_relu(partial(BatchNorm, precise=running_statistics == "precise", **of_workers)),
        "gn": _then_relu(grouped(GroupNorm)),
        "ln": _then_relu(lambda channels, **options: GroupNorm(channels, 1, eps, **options)),
        "in": _then_relu(lambda channels, **options: GroupNorm(channels, channels, eps, **options)),
        # Nothing would ever move its gamma from an initial scale of 0, and the branch behind it would be dead.
        "frozen_bn": _then_relu(lambda channels, initial_scale, relu: FrozenBatchNorm(channels, eps, relu=relu)),
        "sync_bn": _then_relu(partial(SyncBatchNorm, momentum=bn_momentum, eps=eps)),
        "brn": _then_relu(partial(
            BatchRenorm, r_max=brn_r_max, d_max=brn_d_max, relax_steps=brn_relax_steps, **of_workers
        )),
        "frn": Normalization(partial(FilterResponseNorm, eps=eps), ThresholdedLinearUnit),
        "evonorm_s0": Normalization(grouped(EvoNormS0)),
        "none": _then_relu(lambda channels, initial_scale, relu: nn.ReLU() if relu else nn.Identity()),
    }
    if norm not in norms:
        raise ValueError(f"norm {norm!r}: expected one of {', '.join(norms)}")
    return norms[norm]


def check_standardization(norm: Norm, weight_standardization: bool, affine_alone: bool = True) -> None:
    """ValueError for standardised filters without a norm behind each; evonorm_s0 is none before no activation, and
    `affine_alone` says whether the network has a norm there."""
    if weight_standardization and (norm == "none" or norm == "evonorm_s0" and affine_alone):
        raise ValueError(
            f"weight_standardization: gives all filters one size, and norm {norm} leaves it at that; use gn or bn"
        )


def batch_norms(model: nn.Layer) -> list[BatchNorm]:
    """The layers whose statistics are of a worker's images."""
    return [layer for layer in model.sublayers() if isinstance(layer, BatchNorm)]


def share_statistics(model: nn.Layer, images: int) -> None:
    """Let a worker have so many images, where a pass is cut into workers: a norm in a detector's head is called for one
    at a time, and sees RoIs."""
    for layer in model.sublayers():
        if getattr(layer, "images_per_worker", None) is not None:
            layer.images_per_worker = images


def come_to_step(model: nn.Layer, step: int) -> None:
    """Tell the norms that change in the course of a training which of its steps is next."""
    for layer in batch_norms(model):
        if isinstance(layer, BatchRenorm):
            layer.step = step


def norms_of_one_value(model: nn.Layer, image_shape: tuple[int, ...], images_per_step: int) -> list[str]:
    """The norms that would take each statistic over a single value, and so give their beta whatever comes, by name.

    image_shape [C, H, W], of a clip [C, T, H, W].
    """
    found = []

    def look(name, layer, x, *_):
        if isinstance(layer, FrozenBatchNorm):
            return
        positions = math.prod(x.shape[2:])
        if isinstance(layer, BatchNorm):
            values = positions * (layer.images_per_worker or images_per_step)
        elif isinstance(layer, SyncBatchNorm):
            values = positions * images_per_step
        else:
            values = positions * (x.shape[1] // layer.groups)
        if values == 1:
            found.append(name)

    see_layers(model, LAYERS, look, image_shape)
    return found


def described(section: object) -> dict[str, str | int | None]:
    """What a `model:` section says of its norm, as far as it has a meaning there; None for what it does not say.

    A section of a model without norms has none of these keys. evaluation_statistics: those of BN and BRN.
    """
    norm = getattr(section, "norm", None)
    channels_per_group = getattr(section, "norm_channels_per_group", None)
    grouped = norm in GROUPED
    return {
        "norm": norm,
        "norm_groups": getattr(section, "norm_groups", None) if grouped and channels_per_group is None else None,
        "norm_channels_per_group": channels_per_group if grouped else None,
        "evaluation_statistics": getattr(section, "bn_running_statistics", None) if norm in ("bn", "brn") else None,
    }
