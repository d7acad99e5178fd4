"""The door: a Config comes in; a model, data and an optimizer of plain arguments go out."""

import inspect
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import paddle
from paddle import nn

from data import (
    DATASETS,
    ClipPreparation,
    DataError,
    Dataset,
    Loader,
    Preparation,
    find_archives,
    labelled_pictures,
    labelled_videos,
    unpack,
)
from engine.config import Config, arguments
from engine.config.feasible import check_division, check_feasible, check_network, known_to_fail
from engine.environment import on_gpu
from engine.errors import InputError
from engine.run.checkpoint import read_weights, stem_of
from engine.run.folder import read_preparation
from engine.run.result import check_expected
from engine.tasks import task_of
from engine.train.ema import Ema
from engine.train.running_statistics import make_precise
from engine.train.schedule import learning_rate
from engine.train.step import Learner
from engine.weights import in_words, read_network
from models import MODELS, ResNet, inflated, load_weights
from models.norm import batch_norms
from ops import DeformConv2D, DeformRoIPool, SyncBatchNorm
from ops.native import cache_folder

# How fast the layer learns that moves sampling points, of the rate, by DCN's version: arXiv:1703.06211 and 1811.11168.
OFFSET_RATES = {DeformConv2D: {1: 1.0, 2: 0.1}, DeformRoIPool: {1: 0.01, 2: 1.0}}
log = logging.getLogger("engine")


def build_data(config: Config, **settings: int) -> tuple[Dataset, Dataset]:
    """The training and the validation set; archives in the place of `data.root` are unpacked into the user's cache.

    `settings` go before those of the data section. Raises InputError for one that the set does not have.
    """
    builder = DATASETS[config.data.name]
    values = _values(config, builder, settings)
    try:
        if values.get("root"):
            values["root"] = _unpacked(config, values["root"])
        return builder(**values)
    except DataError:
        raise
    except OSError as error:  # a folder that may not be read, lost+found for one
        raise InputError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"data: {error}") from None


def build_labelled(config: Config, preparation: Preparation, root: str, **settings: int) -> Dataset:
    """The pictures or videos of a labelled folder, list or archive, whole and as a trained model's `preparation` says.

    Nothing of the data that the config names is asked for. Broken pictures: as it says, else they are skipped.
    `settings`: as of build_data. Raises InputError where they are none that the model's task is of.
    """
    builder = labelled_videos if isinstance(preparation, ClipPreparation) else labelled_pictures
    values = {} if builder is labelled_videos else {"on_corrupt_image": "skip"}
    values |= {**_values(config, builder, settings), "root": _unpacked(config, root), "preparation": preparation}
    dataset = builder(**values)
    task_of(config.model.name).check(dataset)
    return dataset


def _values(config, builder, settings):
    known = inspect.signature(builder).parameters
    if odd := [name for name in settings if name not in known]:
        raise InputError(f"{odd[0]}={settings[odd[0]]}: data.name {config.data.name} has no such setting")
    return {**arguments(config.data, builder), **settings}


def _unpacked(config, root):
    """The folder that the archives at `root` are unpacked to, or root itself where there are none."""
    if not find_archives(root):
        return root
    bounds = config.reading.max_unpacked_gb, config.reading.max_unpacked_files
    return str(unpack(root, cache_folder() / "data", *bounds))


def build_loaders(
    config: Config, train_set: Dataset, validation_set: Dataset, rank: int = 0, ranks: int = 1
) -> tuple[Loader, Loader]:
    """The seeded loaders of this device's share of each step, for a training that can learn."""
    check_feasible(config)
    task = task_of(config.model.name)
    for dataset in (train_set, validation_set):
        task.check(dataset)
    check_expected(config.expect, task.measures)
    check_division(config, ranks)
    train_loader = Loader(
        train_set, config.batch.images_per_step, train=True, seed=config.seed, rank=rank, ranks=ranks,
        processes=config.reading.processes,
    )
    return train_loader, build_validation_loader(config, validation_set, rank, ranks)


def build_validation_loader(config: Config, validation_set: Dataset, rank: int = 0, ranks: int = 1) -> Loader:
    """The loader of this device's share of the validation images, in their own order."""
    return Loader(
        validation_set, config.reading.evaluation_images * ranks, train=False, seed=config.seed, rank=rank, ranks=ranks,
        processes=config.reading.processes,
    )


def set_precise(config: Config, model: nn.Layer, rank: int = 0, ranks: int = 1) -> None:
    """Give a trained model's BN what `bn_running_statistics: precise` gives it at the end of training.

    Raises InputError where there is no BN.
    """
    if not batch_norms(model):
        raise InputError(f"--precise: model.norm {config.model.norm} has no running statistics; bn has")
    train_loader, loader = build_loaders(config, *build_data(config), rank, ranks)
    images, per_pass = config.bn_precise_images, loader.images // ranks
    make_precise(model, None, train_loader, config.schedule.epochs - 1, images=images, images_per_pass=per_pass)
    model.eval()


def build_model(config: Config, dataset: Dataset | Preparation) -> nn.Layer:
    """The network of `config.model` for a data set's image channels and classes, initialised from the seed."""
    paddle.seed(config.seed)
    section = config.model
    build_backbone, build_head = MODELS[section.name]
    try:
        # Optimizer states are kept by parameter name: the names must be the same in every process and every test.
        with paddle.utils.unique_name.guard():
            images = config.batch.images_per_worker
            derived = {"in_channels": dataset.image_shape[0], "bn_images_per_worker": images}
            backbone = build_backbone(**arguments(section, build_backbone, **derived))
            head_arguments = arguments(section, build_head, images_per_worker=images)
            return build_head(backbone, len(dataset.classes), **head_arguments)
    except ValueError as error:
        raise InputError(f"model: {error}") from None


def load_pretrained(model: nn.Layer, config: Config) -> str:
    """Start from the weights that `config.pretrained` names, of any kind that `engine.weights` reads.

    A network over clips takes those of an image network too, inflated. Says what they were and what fitted. Raises
    InputError and DataError, one line.
    """
    path = config.pretrained
    network, told = read_network(path)
    stride_in = config.pretrained_stride_in or told
    _check_strides(path, model, network, stride_in)
    try:
        report = load_weights(model, inflated(network.state, model), config.pretrained_norms)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    origin = "" if network.is_ours and not network.place else f" ({in_words(network, stride_in)})"
    advice = "; pretrained_norms=any takes gamma and beta of other norms" if report.other_norms else ""
    return f"from {path}{origin}: {report}{advice}"


def _check_strides(path, model, network, stride_in):
    """InputError unless the bottlenecks of a file's network and of the model stride in the same convolutions."""
    own = next((layer.stride_in for layer in model.sublayers(include_self=True) if isinstance(layer, ResNet)), None)
    if own is None or not network.has_bottlenecks or stride_in == own:
        return
    if stride_in is None:
        raise InputError(
            f"{path}: does not tell which convolutions of its blocks have the stride; "
            "say pretrained_stride_in=3x3, as most do, or pretrained_stride_in=1x1, as Caffe's did"
        )
    raise InputError(
        f"{path}: its {stride_in} convolutions have the stride, in the model the {own}; say model.stride_in={stride_in}"
    )


def build_optimizer(config: Config, model: nn.Layer) -> paddle.optimizer.Optimizer:
    """The optimizer with its parameters in groups that share a rate multiplier and a weight decay."""
    section = config.optimizer
    multiplier = dict.fromkeys(map(id, model.parameters()), 1.0)
    for parameter in model.backbone.parameters():
        multiplier[id(parameter)] = section.backbone_lr_multiplier
    for layer in model.sublayers():
        if isinstance(layer, tuple(OFFSET_RATES)):
            paper = OFFSET_RATES[type(layer)][layer.version]
            chosen = paper if section.offset_lr_multiplier is None else section.offset_lr_multiplier
            for parameter in layer.offset.parameters():
                multiplier[id(parameter)] *= chosen
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
    """The model with all that trains it: optimizer, schedule, mixed precision, several devices, averaging."""
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
    )


def check_device(config: Config) -> None:
    """Raise InputError for what this machine cannot do: before any work."""
    if config.amp.level != "O0" and not on_gpu():
        raise InputError(f"amp.level: {config.amp.level} needs a GPU; use -o amp.level=O0")
    if config.amp.level != "O0" and config.amp.dtype == "bfloat16" and not paddle.amp.is_bfloat16_supported():
        raise InputError("amp.dtype: this GPU has no bfloat16; use -o amp.dtype=float16")


def check_model(config: Config, model: nn.Layer, image_shape: tuple[int, ...], ranks: int = 1) -> None:
    """Raise InputError for what this network cannot do on so many devices, or cannot learn at all."""
    layers = model.sublayers()
    if any(isinstance(layer, SyncBatchNorm) for layer in layers):
        if config.batch.workers_per_pass:
            raise InputError("batch.workers_per_pass: sync_bn wants all images of a step in one pass")
        if ranks > 1 and not on_gpu():
            raise InputError("model.norm: Paddle has no sync_bn for several processes on CPUs; use bn or gn")
    if config.record.offsets and not any(isinstance(layer, DeformConv2D) for layer in layers):
        raise InputError(
            f"record.offsets: {config.record.offsets} images want deformable layers; set model.deformable_stages"
        )
    check_network(config, model, image_shape)
    for line in known_to_fail(config):
        log.warning("%s", line)


def load_trained(config: Config, weights: str | None = None) -> tuple[nn.Layer, Preparation]:
    """(model in evaluation mode, preparation) out of a run's folder.

    `weights` is the path of a checkpoint, or the name of one in the folder; None: best, or latest where there is
    no best. Averaged weights are preferred. Raises InputError unless every array fits.
    """
    folder = config.folder
    preparation = read_preparation(folder)
    candidates = [Path(weights), folder / weights] if weights else [folder / "best", folder / "latest"]
    stems = [stem_of(candidate) for candidate in candidates]
    stem = next((stem for stem in stems if Path(f"{stem}.pdparams").exists()), None)
    if stem is None:
        wanted = f"{stems[-1]}.pdparams: no such file" if weights else f"{folder}: has neither best.pdparams nor latest"
        there = sorted(file.stem for file in folder.glob("*.pdparams"))
        raise InputError(f"{wanted}; " + (f"there are {', '.join(there)}" if there else "no checkpoint is there"))
    model = build_model(config, preparation)
    state = read_weights(stem)
    try:
        report = load_weights(model, state)
    except ValueError as error:
        raise InputError(f"{stem}: {error}") from None
    if report.missing or report.reshaped or report.other_norms:
        raise InputError(f"{stem}: does not fit this config's model: {report}")
    if report.remarks:
        print(f"{stem}: {'; '.join(report.remarks)}", file=sys.stderr)
    model.eval()
    return model, preparation
