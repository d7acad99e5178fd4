"""A trained model for elsewhere, in one of several formats."""

from collections.abc import Callable

from engine.tasks.export.onnx_format import export_onnx
from engine.tasks.export.paddle_format import export, export_paddle
from engine.tasks.export.torch_format import export_torch

# By the word that a user says: what the files are called, and what writes them into a folder. The writers all take
# (model, task, preparation, folder, section), the last being the values of the config's `model:`, and give a sentence.
FORMATS: dict[str, tuple[str, Callable[..., str]]] = {
    "paddle": ("inference.*", export_paddle),
    "onnx": ("model.onnx", export_onnx),
    "torch": ("model.safetensors", export_torch),
}

__all__ = ["FORMATS", "export", "export_onnx", "export_paddle", "export_torch"]
