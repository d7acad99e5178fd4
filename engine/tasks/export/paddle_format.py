"""A model as a `paddle.jit` one, which needs nothing of this project."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from data import Preparation
from engine.files import writing_into
from engine.run.folder import write_preparation
from engine.tasks.export.contents import check_finite
from engine.tasks.task import Task


def export(model: nn.Layer, task: Task, preparation: Preparation, folder: Path) -> float:
    """Write folder/inference.* (paddle.jit), as `task.exported` says, and preparation.json; load it again and compare.

    Returns the largest difference of a number between the model and the loaded one for two inputs, relative to numbers
    above 1: two shapes, where the graph leaves some of its input's shape open.
    Raises InputError, and writes nothing, where a weight or statistic of the model is not finite.
    """
    check_finite(model)
    model.eval()
    wrapped = task.exported(model)
    wrapped.eval()
    shape = getattr(wrapped, "input_shape", (None, *preparation.image_shape))
    image = paddle.static.InputSpec(list(shape), "float32", "image")
    # Paddle's translator of Python control flow is for code that depends on values of tensors: ours does not.
    own = [module for name, module in sys.modules.items() if name.split(".")[0] in ("ops", "models")]
    paddle.jit.ignore_module(own)
    with writing_into(folder):
        paddle.jit.save(wrapped, str(folder / "inference"), input_spec=[image])
        write_preparation(folder, preparation)
    loaded = paddle.jit.load(str(folder / "inference"))
    loaded.eval()
    differences = []
    with paddle.no_grad():
        for number in (1, 3):
            sizes = [size or (32 * (number + axis) if axis else number) for axis, size in enumerate(shape)]
            image = paddle.randn(sizes)
            ours, theirs = (_tuple(network(image)) for network in (wrapped, loaded))
            differences += [_difference(*pair) for pair in zip(ours, theirs, strict=True)]
    if not max(differences) < 1e-4:  # nan is not below either
        raise RuntimeError(f"what the exported model gives differs by {max(differences)} from the model's")
    return max(differences)


def export_paddle(model: nn.Layer, task: Task, preparation: Preparation, folder: Path, section: Mapping) -> str:
    """`export`, and what came of the comparison in words."""
    return f"loaded again, its output differs by at most {export(model, task, preparation, folder):.1e}"


def _tuple(outputs):
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def _difference(ours, theirs):
    """The largest, relative to numbers above 1; infinite where shapes differ."""
    ours, theirs = ours.numpy().astype(np.float64), theirs.numpy().astype(np.float64)
    if ours.shape != theirs.shape:
        return math.inf
    return float((np.abs(ours - theirs) / np.maximum(1, np.abs(ours))).max(initial=0))
