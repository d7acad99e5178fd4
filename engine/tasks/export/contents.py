"""What the files of every format carry beside the weights, and what none of them may."""

import dataclasses
import json
from collections.abc import Mapping

from paddle import nn

from data import Preparation
from engine.errors import InputError
from engine.run.finite import not_finite


def check_finite(model: nn.Layer) -> None:
    """Raise InputError where a weight or statistic of the model is not finite."""
    if name := not_finite(model.state_dict()):
        raise InputError(f"{name} holds numbers that are not finite: there is nothing to export")


def notes(preparation: Preparation, section: Mapping) -> dict[str, str]:
    """For the metadata of a file, texts only: how a picture becomes an input, field by field in JSON; which norm the
    network has; `model`, all that the config says of it."""
    fields = {name: json.dumps(value, ensure_ascii=False) for name, value in dataclasses.asdict(preparation).items()}
    said = {
        "preparation": "scale the picture to image_shape [C, H, W] (with resize_short: its short side to that, then "
        "crop the centre), then (pixels / 255 - mean) / std for each channel: preparation.json says the same",
        "norm": str(section.get("norm")),
        "model": json.dumps(section, ensure_ascii=False),
    }
    return {**said, **fields}
