"""A model as a `paddle.jit` one, which needs nothing of this project."""

import sys
from collections.abc import Mapping
from pathlib import Path

import paddle
from paddle import nn

from data import Preparation
from engine.files import writing_into
from engine.run.folder import write_preparation
from engine.tasks.export.contents import check_finite
from engine.tasks.task import Task


def export(model: nn.Layer, task: Task, preparation: Preparation, folder: Path) -> float:
    """Write folder/inference.* (paddle.jit), as `task.exported` says, and preparation.json; load it again and compare.

    Returns the largest difference of a number between the model and the loaded one, for batches of one and three.
    Raises InputError, and writes nothing, where a weight or statistic of the model is not finite.
    """
    check_finite(model)
    model.eval()
    wrapped = task.exported(model)
    wrapped.eval()
    image = paddle.static.InputSpec([None, *preparation.image_shape], "float32", "image")
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
        for images in (1, 3):
            image = paddle.randn([images, *preparation.image_shape])
            differences.append(float((wrapped(image) - loaded(image)).abs().max()))
    if not max(differences) < 1e-4:  # nan is not below either
        raise RuntimeError(f"what the exported model gives differs by {max(differences)} from the model's")
    return max(differences)


def export_paddle(model: nn.Layer, task: Task, preparation: Preparation, folder: Path, section: Mapping) -> str:
    """`export`, and what came of the comparison in words."""
    return f"loaded again, its output differs by at most {export(model, task, preparation, folder):.1e}"
