"""A model as one ONNX file."""

from collections.abc import Mapping
from pathlib import Path

from paddle import nn

from data import Preparation
from engine.errors import InputError
from engine.files import writing_into, written_whole
from engine.run.folder import write_preparation
from engine.tasks.export.contents import check_finite, notes
from engine.tasks.export.onnx_check import compared
from engine.tasks.export.onnx_graph import INPUT, Graph
from engine.tasks.export.onnx_layers import EMITTERS
from engine.tasks.task import Task


def export_onnx(model: nn.Layer, task: Task, preparation: Preparation, folder: Path, section: Mapping) -> str:
    """Write folder/model.onnx, as `task.exported` says, and preparation.json -> what came of the comparison, in words.

    section: the values of the config's `model:`, for the file's metadata. Raises InputError, and writes nothing, where
    the network or a layer of it cannot be written, the package onnx is missing or a weight is not finite; RuntimeError,
    and writes nothing, where onnxruntime computes something else.
    """
    if type(model) not in EMITTERS:  # said first: installing a package would not help
        raise InputError(f"onnx: model.name: {section['name']}: has no ONNX form; --format paddle takes it")
    check_finite(model)
    wrapped = task.exported(model)
    wrapped.eval()
    # Layers and weights are called as in a checkpoint, which knows nothing of what is wrapped around.
    paths = {layer: path for network in (wrapped, model) for path, layer in network.named_sublayers(include_self=True)}
    graph = Graph(paths, EMITTERS, preparation.image_shape)
    graph.run(wrapped, INPUT)
    written = graph.model(notes(preparation, section))
    verdict = compared(written, graph, wrapped)
    with writing_into(folder):
        with written_whole(folder / "model.onnx") as part:
            part.write_bytes(written.SerializeToString())
        write_preparation(folder, preparation)
    return f"opset {graph.opset}; {verdict}"
