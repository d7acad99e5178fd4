"""The network of a config: with first weights, and what it cannot do."""

import logging

import paddle
from paddle import nn

from data import Dataset, Preparation
from engine.config import Config, arguments
from engine.config.feasible import check_network, known_to_fail
from engine.environment import on_gpu
from engine.errors import InputError
from engine.train.responses import Responses
from engine.weights import in_words, read_network
from models import MODELS, ResNet, inflated, load_weights
from ops import SyncBatchNorm

log = logging.getLogger("engine")


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


def check_model(config: Config, model: nn.Layer, image_shape: tuple[int, ...], ranks: int = 1) -> None:
    """Raise InputError for what this network cannot do on so many devices, or cannot learn at all."""
    layers = model.sublayers()
    if any(isinstance(layer, SyncBatchNorm) for layer in layers):
        if config.batch.workers_per_pass:
            raise InputError("batch.workers_per_pass: sync_bn wants all images of a step in one pass")
        if ranks > 1 and not on_gpu():
            raise InputError("model.norm: Paddle has no sync_bn for several processes on CPUs; use bn or gn")
    if config.record.responses:
        Responses(model, config.record.responses)
    check_network(config, model, image_shape)
    for line in known_to_fail(config):
        log.warning("%s", line)
