"""Settings that are each right, and together make it impossible to learn: the loss would stay where it began."""

from paddle import nn

from engine.config.sections import Config
from engine.errors import InputError
from models.norm import norms_of_one_value
from ops import FrozenBatchNorm

FEW = 2  # images per worker, with which a detector of live batch norm loses 6 AP (arXiv:1803.08494)


def check_feasible(config: Config) -> None:
    """Raise InputError, one line, where a training of this config cannot come to anything, whatever its network."""
    schedule, optimizer = config.schedule, config.optimizer
    if config.ema_decay == 1:
        raise InputError("ema_decay: 1 keeps the average, which is evaluated, at the first weights; expected below 1")
    if optimizer.name != "momentum" and 1 in (optimizer.beta1, optimizer.beta2):
        raise InputError("optimizer: a beta1 or beta2 of 1 never takes up a gradient; expected below 1")
    if schedule.name == "cosine" and schedule.final_lr > config.lr:
        raise InputError(
            f"schedule.final_lr: {schedule.final_lr:g}, more than the {config.lr:g} that the cosine falls from; "
            "it does not follow the images of a step, as optimizer.base_lr does"
        )
    ends_at_nothing = schedule.name == "cosine" and schedule.final_lr == 0
    if ends_at_nothing and schedule.warmup_epochs == schedule.epochs:
        raise InputError(
            f"schedule.warmup_epochs: all {schedule.epochs} epochs warm up to the cosine's end, a rate of 0; "
            "expected fewer"
        )


def check_division(config: Config, ranks: int) -> None:
    """Raise InputError, one line, where a step's workers do not divide among devices, or a device's into passes."""
    batch = config.batch
    if batch.workers % ranks:
        raise InputError(f"batch.workers: {batch.workers} workers do not divide among {ranks} devices")
    on_device = batch.workers // ranks
    if on_device % (batch.workers_per_pass or on_device):
        raise InputError(
            f"batch.workers_per_pass: {batch.workers_per_pass} does not divide a device's {on_device} workers"
        )


def check_network(config: Config, model: nn.Layer, image_shape: tuple[int, ...]) -> None:
    """Raise InputError, one line, where this network cannot learn, by what is frozen and what its norms are given."""
    if not config.pretrained and (frozen := getattr(config.model, "frozen", ())):
        raise InputError(
            f"model.frozen: {', '.join(frozen)} would keep random weights for ever; name the trained by pretrained=FILE"
        )
    if not config.pretrained and any(isinstance(layer, FrozenBatchNorm) for layer in model.sublayers()):
        raise InputError(
            "model.norm: frozen_bn has no statistics of its own and never learns any; "
            "name the weights of a BN network by pretrained=FILE, or use bn or gn"
        )
    try:
        alone = norms_of_one_value(model, image_shape, config.batch.images_per_step)
    except ValueError as error:  # clips of too few frames, for one
        raise InputError(f"model: {error}") from None
    # A value less the mean of itself alone is 0, whatever the network computes: every output would be a beta.
    if alone:
        shape = " x ".join(map(str, image_shape[1:]))
        others, advice = "image shares its statistics", "more images per worker or gn"
        if hasattr(dict(model.named_sublayers())[alone[0]], "groups"):
            others, advice = "channel is in its group", "or gn with several channels in each"
        raise InputError(
            f"model.norm: {alone[0]} would normalise single values: images of {shape} are 1 x 1 there, and no other "
            f"{others}; use larger images, a smaller model.stem, {advice}"
        )


def known_to_fail(config: Config) -> list[str]:
    """A line for each setting that trains and is known to end badly: some train it to see just that."""
    model, lines = config.model, []
    for key in ("box_head_norm", "mask_head_norm"):
        if getattr(model, key, None) == "bn":
            lines.append(f"model.{key}: bn sees the boxes of few images, which are much alike; gn does not suffer")
    if getattr(model, "neck", None) == "c4" and model.norm == "bn":
        lines.append("model.neck: c4 has bn see the boxes of few images in c5; frozen_bn and gn do not suffer")
    if hasattr(model, "neck") and model.norm == "bn" and config.batch.images_per_worker <= FEW:
        images = config.batch.images_per_worker
        lines.append(f"model.norm: bn with {images} images per worker; frozen_bn, of trained weights, or gn are usual")
    pooling, optimizer = getattr(model, "roi_pooling", "align"), config.optimizer
    if pooling != "align" and optimizer.name != "momentum" and optimizer.roi_offset_lr_multiplier is None:
        lines.append(
            f"model.roi_pooling: under {optimizer.name} the bins of {pooling} pooling run away at the papers' rates, "
            "which are SGD's; optimizer.roi_offset_lr_multiplier=0.001 is what the studies have"
        )
    return lines
