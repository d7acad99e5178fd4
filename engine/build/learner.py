"""What trains a network: optimizer, schedule and all that a step changes."""

from collections.abc import Callable
from functools import partial

import paddle
from paddle import nn

from engine.config import Config
from engine.environment import on_gpu
from engine.errors import InputError
from engine.train.ema import Ema
from engine.train.responses import Responses
from engine.train.schedule import learning_rate
from engine.train.step import Learner
from ops import DeformConv2D, DeformRoIPool

# How fast the layer learns that moves sampling points, of the rate, by DCN's version: arXiv:1703.06211 and 1811.11168.
OFFSET_RATES = {DeformConv2D: {1: 1.0, 2: 0.1}, DeformRoIPool: {1: 0.01, 2: 1.0}}


def check_device(config: Config) -> None:
    """Raise InputError for what this machine cannot do: before any work."""
    if config.amp.level != "O0" and not on_gpu():
        raise InputError(f"amp.level: {config.amp.level} needs a GPU; use -o amp.level=O0")
    if config.amp.level != "O0" and config.amp.dtype == "bfloat16" and not paddle.amp.is_bfloat16_supported():
        raise InputError("amp.dtype: this GPU has no bfloat16; use -o amp.dtype=float16")


def build_optimizer(config: Config, model: nn.Layer) -> paddle.optimizer.Optimizer:
    """The optimizer with its parameters in groups that share a rate multiplier and a weight decay."""
    section = config.optimizer
    multiplier = dict.fromkeys(map(id, model.parameters()), 1.0)
    for parameter in model.backbone.parameters():
        multiplier[id(parameter)] = section.backbone_lr_multiplier
    for layer in model.sublayers():
        if isinstance(layer, tuple(OFFSET_RATES)):
            of_rois = section.roi_offset_lr_multiplier if isinstance(layer, DeformRoIPool) else None
            wanted = [of_rois, section.offset_lr_multiplier, OFFSET_RATES[type(layer)][layer.version]]
            for parameter in layer.offset.parameters():
                multiplier[id(parameter)] *= next(times for times in wanted if times is not None)
    groups = {}
    for parameter in model.parameters():
        if parameter.stop_gradient:
            continue
        vector = parameter.ndim == 1  # gamma, beta and biases
        decay = section.weight_decay if section.decay_norm_and_bias or not vector else 0.0
        groups.setdefault((multiplier[id(parameter)], decay), []).append(parameter)
    shared = {
        "learning_rate": config.lr,
        "parameters": [
            {"params": parameters, "learning_rate": times, "weight_decay": decay}
            for (times, decay), parameters in groups.items()
        ],
        "weight_decay": section.weight_decay,
    }
    if section.name == "momentum":
        optimizer = partial(paddle.optimizer.Momentum, momentum=section.momentum, use_nesterov=section.nesterov)
    else:
        kind = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}[section.name]
        optimizer = partial(kind, beta1=section.beta1, beta2=section.beta2)
    return optimizer(**shared)


def build_schedule(config: Config, steps_per_epoch: int) -> Callable[[int], float]:
    """step -> learning rate."""
    if config.schedule.warmup_epochs > config.schedule.epochs:
        raise InputError(
            f"schedule.warmup_epochs: {config.schedule.warmup_epochs}, more than the {config.schedule.epochs} epochs"
        )
    return partial(learning_rate, lr=config.lr, steps_per_epoch=steps_per_epoch, **config.schedule.model_dump())


def make_learner(config: Config, model: nn.Layer, steps_per_epoch: int) -> Learner:
    """The model with all that trains it: optimizer, schedule, mixed precision, several devices, averaging.

    Raises InputError for rates and responses that there cannot be.
    """
    scaler = paddle.amp.GradScaler(enable=config.amp.level == "O1" and config.amp.dtype == "float16")
    per_pass = config.batch.workers_per_pass
    return Learner(
        model,
        paddle.DataParallel(model) if paddle.distributed.get_world_size() > 1 else model,
        build_optimizer(config, model),
        build_schedule(config, steps_per_epoch),
        scaler,
        None if config.ema_decay is None else Ema(model, config.ema_decay),
        seed=config.seed,
        images_per_pass=per_pass and per_pass * config.batch.images_per_worker,
        amp_dtype=config.amp.dtype if config.amp.level == "O1" else None,
        clip_norm=config.optimizer.clip_norm,
        responses=Responses(model, config.record.responses) if config.record.responses else None,
    )
