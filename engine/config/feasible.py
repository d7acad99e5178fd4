"""Settings that are each right, and together make it impossible to learn: the loss would stay where it began."""

import math

from engine.config import Config
from engine.errors import InputError

STRIDES = {"imagenet": 32, "medium": 16, "small": 8}  # of a ResNet's last stage, by its stem


def check_feasible(config: Config, dataset) -> None:
    """Raise InputError, one line, where a training of this config on this data set cannot come to anything."""
    if len(dataset.classes) < 2:
        raise InputError(f"data: has {len(dataset.classes)} class, and so nothing to tell apart; expected 2 or more")
    if config.model.norm == "frozen_bn" and not config.pretrained:
        raise InputError(
            "model.norm: frozen_bn has no statistics of its own and never learns any; "
            "name the weights of a BN network by pretrained=FILE.pdparams, or use bn or gn"
        )
    _check_values_a_statistic(config, dataset.image_shape)
    _check_what_never_moves(config)


def _check_values_a_statistic(config, image_shape):
    """A value less the mean of itself alone is 0, whatever the network computes: every output would be a beta."""
    model, batch = config.model, config.batch
    sizes = [math.ceil(size / STRIDES[model.stem]) for size in image_shape[1:]]
    a_channel_alone = model.norm == "in" or (model.norm == "gn" and model.norm_channels_per_group == 1)
    images = 1 if a_channel_alone else {"bn": batch.images_per_worker, "sync_bn": batch.images_per_step}.get(model.norm)
    if images == 1 and math.prod(sizes) == 1:
        shape = " x ".join(map(str, image_shape[1:]))
        raise InputError(
            f"model.norm: {model.norm} would normalise single values: images of {shape} are 1 x 1 in c5, and no "
            "other image shares its statistics; use larger images, a smaller model.stem, more images per worker or gn"
        )


def _check_what_never_moves(config):
    model, schedule, optimizer = config.model, config.schedule, config.optimizer
    if config.ema_decay == 1:
        raise InputError("ema_decay: 1 keeps the average, which is evaluated, at the first weights; expected below 1")
    if model.norm in ("bn", "sync_bn") and model.bn_momentum == 1 and model.bn_running_statistics != "precise":
        raise InputError("model.bn_momentum: 1 keeps the running statistics at 0 and 1; expected below 1")
    if optimizer.name != "momentum" and 1 in (optimizer.beta1, optimizer.beta2):
        raise InputError("optimizer: a beta1 or beta2 of 1 never takes up a gradient; expected below 1")
    ends_at_nothing = schedule.name == "cosine" and schedule.final_lr == 0
    if ends_at_nothing and schedule.warmup_epochs == schedule.epochs:
        raise InputError(
            f"schedule.warmup_epochs: all {schedule.epochs} epochs warm up to the cosine's end, a rate of 0; "
            "expected fewer"
        )
