"""A model's weights for PyTorch: by torchvision's names, which are timm's too, in a .safetensors file."""

from collections.abc import Mapping
from pathlib import Path

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

# What a norm is made by in PyTorch, less its eps; bn is torchvision's own choice.
NORMS = {
    "bn": "torch.nn.BatchNorm2d(channels",
    "sync_bn": "torch.nn.BatchNorm2d(channels",
    "frozen_bn": "torchvision.ops.FrozenBatchNorm2d(channels",
    "gn": "torch.nn.GroupNorm({groups}, channels",
    "ln": "torch.nn.GroupNorm(1, channels",
    "in": "torch.nn.GroupNorm(channels, channels",
}
DEFAULT_EPS = 1e-5


def export_torch(model: nn.Layer, task: Task, preparation: Preparation, folder: Path, section: Mapping) -> str:
    """Write folder/model.safetensors and preparation.json -> which network of torchvision takes it, in words.

    section: the values of the config's `model:`. A network that torchvision cannot make (thin, with another stem,
    deformable) goes out under names of the same scheme, for a network of the user's own: torchvision's refuse its
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
    """{name: array} as PyTorch's state_dict() has it: batch norm there also counts the steps it was trained for."""
    state = to_torch_names({name: value.numpy() for name, value in model.state_dict().items()})
    counted = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return {**state, **{f"{norm}num_batches_tracked": np.array(0) for norm in counted}}


def _check_nothing_else_is_computed(section):
    """InputError for a network whose arrays have the names and shapes of one of torchvision's that it is not."""
    if section["name"] != "resnet":
        raise InputError(
            f"torch: model.name: {section['name']}: torchvision has none that computes it; --format paddle takes it"
        )
    block, _ = ResNet.BLOCKS[section["depth"]]
    odd = ["stride_in: 1x1"] if section["stride_in"] == "1x1" and block.expansion > 1 else []
    odd += [f"dilated_stages: [{', '.join(section['dilated_stages'])}]"] if section["dilated_stages"] else []
    if odd:
        raise InputError(
            f"torch: torchvision's ResNet would take weights of {' and '.join(odd)} and compute something else with "
            "them; --format onnx keeps what this network computes"
        )


def _misfits(section, channels):
    """What torchvision's ResNets cannot be made with."""
    deformable = section["deformable_stages"]
    return [
        *([f"width: {section['width']}"] if section["width"] != 64 else []),
        *([f"stem: {section['stem']}"] if section["stem"] != "imagenet" else []),
        *([f"input channels: {channels}"] if channels != 3 else []),
        *(["norm: none"] if section["norm"] == "none" else []),
        *([f"deformable_stages: [{', '.join(deformable)}]"] if deformable else []),
    ]


def _constructor(section, classes):
    """The Python expression that makes the network."""
    block, counts = ResNet.BLOCKS[section["depth"]]
    kind = "BasicBlock" if block.expansion == 1 else "Bottleneck"
    per_group = section["norm_channels_per_group"]
    groups = section["norm_groups"] if per_group is None else f"channels // {per_group}"
    eps = f", eps={section['norm_eps']}" if section["norm_eps"] != DEFAULT_EPS else ""
    norm = f"{NORMS[section['norm']].format(groups=groups)}{eps})"
    is_default = norm == f"{NORMS['bn']})"
    options = f"num_classes={classes}" + ("" if is_default else f", norm_layer=lambda channels: {norm}")
    if section["depth"] == 26:  # which only timm has a name for
        return f"torchvision.models.ResNet(torchvision.models.resnet.{kind}, {list(counts)}, {options})"
    return f"torchvision.models.resnet{section['depth']}({options})"
