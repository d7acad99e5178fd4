"""A model's weights for PyTorch: by torchvision's names, which are timm's too, in a .safetensors file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from paddle import nn

from data import Preparation
from engine.errors import InputError
from engine.files import writing_into, written_whole
from engine.run.folder import write_preparation
from engine.tasks.export.contents import check_finite, notes
from engine.tasks.export.extras import extra
from engine.tasks.task import Task
from models import ResNet, to_torch_names

# What a norm is made by in PyTorch, less its eps.
NORMS = {
    "bn": "torch.nn.BatchNorm2d(channels",
    "sync_bn": "torch.nn.BatchNorm2d(channels",
    "brn": "torch.nn.BatchNorm2d(channels",  # which evaluates alike
    "frozen_bn": "torchvision.ops.FrozenBatchNorm2d(channels",
    "gn": "torch.nn.GroupNorm({groups}, channels",
    "ln": "torch.nn.GroupNorm(1, channels",
    "in": "torch.nn.GroupNorm(channels, channels",
}
DEFAULT_EPS = 1e-5
BATCH_NORMS = [norm for norm, made in NORMS.items() if made == NORMS["bn"]]  # torchvision's own choice


def export_torch(model: nn.Layer, task: Task, preparation: Preparation, folder: Path, section: Mapping) -> str:
    """Write folder/model.safetensors and preparation.json -> which network of torchvision takes it, in words.

    section: the values of the config's `model:`. A network that torchvision cannot make (thin, with another stem or
    head, deformable) goes out under names of the same scheme, for a network of the user's own: torchvision's refuse its
    shapes or names. Raises InputError, and writes nothing, for one that theirs would take and compute otherwise; where
    the package safetensors is missing; and where a weight is not finite.
    """
    _check_nothing_else_is_computed(section)  # first: installing a package would not help
    check_finite(model)
    safetensors = extra("safetensors.numpy")
    channels, classes = preparation.image_shape[0], len(preparation.classes)
    misfits = _misfits(section, channels)
    network = "" if misfits else _constructor(section, classes)
    metadata = {**notes(preparation, section), "format": "pt", "network": network}
    with writing_into(folder):
        with written_whole(folder / "model.safetensors") as part:
            part.write_bytes(safetensors.save(_state(model), metadata))
        write_preparation(folder, preparation)
    if misfits:
        return f"torchvision has no such network ({'; '.join(misfits)}): its names, for a network of your own"
    return f"{network} takes it with strict=True"


def _state(model):
    """{name: array} as PyTorch's state_dict() has it: batch norm there also counts the steps it was trained for.

    Filters that are standardised here go out as they are used: a plain convolution then computes the same.
    """
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, layer in model.named_sublayers():
        if getattr(layer, "standardized", False):
            state[f"{name}.weight"] = layer.filters().numpy()
    state = to_torch_names(state)
    counted = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return {**state, **{f"{norm}num_batches_tracked": np.array(0) for norm in counted}}


def _check_nothing_else_is_computed(section):
    """InputError for a network whose arrays have the names and shapes of one of torchvision's that it is not."""
    if section["name"] not in KINDS:
        raise InputError(
            f"torch: model.name: {section['name']}: torchvision has none that computes it; --format paddle takes it"
        )
    if section["norm"] not in (*NORMS, "none"):
        raise InputError(
            f"torch: norm: {section['norm']}; PyTorch has no such layer; --format onnx keeps what this network computes"
        )
    kind = KINDS[section["name"]]
    if odd := kind.odd(section):
        raise InputError(
            f"torch: torchvision's {kind.title} would take weights of {' and '.join(odd)} and compute something else "
            "with them; --format onnx keeps what this network computes"
        )


def _misfits(section, channels):
    """What torchvision's networks of this kind cannot be made with."""
    return [
        *([f"width: {section['width']}"] if section["width"] != 64 else []),
        *([f"input channels: {channels}"] if channels != 3 else []),
        *KINDS[section["name"]].misfits(section),
    ]


def _constructor(section, classes):
    """The Python expression that makes the network."""
    return KINDS[section["name"]].constructor(section, f"num_classes={classes}")


def _odd_resnet(section):
    block, _ = ResNet.BLOCKS[section["depth"]]
    odd = ["stride_in: 1x1"] if section["stride_in"] == "1x1" and block.expansion > 1 else []
    return odd + _listed(section, "dilated_stages") * bool(section["dilated_stages"])


def _misfits_of_resnet(section):
    return [
        *([f"stem: {section['stem']}"] if section["stem"] != "imagenet" else []),
        *(["norm: none"] if section["norm"] == "none" else []),
        *_listed(section, "deformable_stages") * bool(section["deformable_stages"]),
    ]


def _listed(section, key):
    return [f"{key}: [{', '.join(map(str, section[key]))}]"]


def _resnet(section, options):
    block, counts = ResNet.BLOCKS[section["depth"]]
    kind = "BasicBlock" if block.expansion == 1 else "Bottleneck"
    norm = _norm(section)
    options += "" if norm == f"{NORMS['bn']})" else f", norm_layer=lambda channels: {norm}"
    if section["depth"] == 26:  # which only timm has a name for
        return f"torchvision.models.ResNet(torchvision.models.resnet.{kind}, {list(counts)}, {options})"
    return f"torchvision.models.resnet{section['depth']}({options})"


def _norm(section):
    """What makes a norm."""
    per_group = section["norm_channels_per_group"]
    groups = section["norm_groups"] if per_group is None else f"channels // {per_group}"
    eps = f", eps={section['norm_eps']}" if section["norm_eps"] != DEFAULT_EPS else ""
    return f"{NORMS[section['norm']].format(groups=groups)}{eps})"


def _odd_vgg(section):
    odd = [f"poolings: {section['poolings']}"] if section["poolings"] != 5 else []
    other_eps = section["norm"] in BATCH_NORMS and section["norm_eps"] != DEFAULT_EPS
    return odd + [f"norm_eps: {section['norm_eps']}"] * other_eps


def _misfits_of_vgg(section):
    other_size = section["head_widths"] and section["pooled_size"] != 7
    return [
        *([f"pooled_size: {section['pooled_size']}"] if other_size else []),
        *_listed(section, "head_widths") * (list(section["head_widths"]) != [4096, 4096]),
        *([f"norm: {section['norm']}"] if section["norm"] not in (*BATCH_NORMS, "none") else []),
    ]


def _vgg(section, options):
    options += f", dropout={section['dropout']}" if section["dropout"] != 0.5 else ""
    return f"torchvision.models.vgg{section['depth']}{'' if section['norm'] == 'none' else '_bn'}({options})"


class _Kind(NamedTuple):
    """What torchvision says to a kind of network: (section) -> what it would compute otherwise, what it cannot make,
    and (section, options) -> the expression."""

    title: str
    odd: Callable[[Mapping], list[str]]
    misfits: Callable[[Mapping], list[str]]
    constructor: Callable[[Mapping, str], str]


KINDS = {
    "resnet": _Kind("ResNet", _odd_resnet, _misfits_of_resnet, _resnet),
    "vgg": _Kind("VGG", _odd_vgg, _misfits_of_vgg, _vgg),
}
