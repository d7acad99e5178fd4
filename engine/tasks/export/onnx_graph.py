"""A network as an ONNX graph: its layers are walked in the order of computing, and each writes its operators."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from paddle import nn

from engine.errors import InputError
from engine.tasks.export.extras import extra

LOWEST_OPSET = 18
INPUT = "image"
FREE_SIDES = ("frames", "height", "width")  # as many of the last as there are


class Graph:
    """What emitters write into.

    An emitter is a function (graph, layer, *inputs) -> output that writes what the layer computes in evaluation. Inputs
    and output are names of tensors in the graph, or dicts of them where the layer's own are dicts. It reads like the
    layer's forward, with graph.run(layer.conv, x) for self.conv(x). `emitters` has them by the exact type of the layer,
    for a subclass may compute something else. The emitter of the outermost layer puts its outputs into `outputs`.

    paths: what each layer is called. image_shape [C, ...]: of one input without the batch.
    """

    def __init__(
        self, paths: Mapping[nn.Layer, str], emitters: Mapping[type, Callable], image_shape: Sequence[int]
    ):
        self.onnx = extra("onnx")
        self.paths, self.emitters, self.image_shape = paths, emitters, tuple(image_shape)
        self.path = ""  # of the layer whose emitter is writing
        self.nodes, self.constants = [], {}
        self.outputs: dict[str, list[int | str]] = {}  # of the network: name -> sizes, a word for what is free
        self.computed: list[tuple[nn.Layer, Any]] = []  # layers and their outputs, in order
        self.opset = LOWEST_OPSET

    def run(self, layer: nn.Layer, *inputs: Any) -> Any:
        """Let the layer's emitter write it -> its output. Raises InputError for one that there is none for."""
        if type(layer) not in self.emitters:
            known = ", ".join(sorted(kind.__name__ for kind in self.emitters))
            raise self.refusal(layer, f"cannot be written: there are emitters for {known}")
        outer, self.path = self.path, self.paths[layer]
        output = self.emitters[type(layer)](self, layer, *inputs)
        self.computed.append((layer, output))
        self.path = outer
        return output

    def node(
        self, operator: str, *inputs: str, since: int = LOWEST_OPSET, output: str | None = None, **attributes: Any
    ) -> str:
        """Write an operator with one output -> the output's name. since: the opset that it needs."""
        self.opset = max(self.opset, since)
        name = f"{self.path}/{operator}_{len(self.nodes)}".lstrip("/")
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output or name], name, **attributes))
        return output or name

    def weights(self, layer: nn.Layer, *names: str, shape: Sequence[int] | None = None) -> list[str]:
        """Arrays of the layer, maybe in another shape, as constants that are called as in a checkpoint."""
        arrays = {name: getattr(layer, name).numpy() for name in names}
        return [self.constant(name, array if shape is None else array.reshape(shape)) for name, array in arrays.items()]

    def constant(self, name: str, array: np.ndarray) -> str:
        """An array as a constant of the layer that is being written -> its whole name."""
        name = f"{self.path}.{name}".lstrip(".")
        self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def refusal(self, layer: nn.Layer, why: str) -> InputError:
        """To be raised for a layer that ONNX, or an emitter, has no words for."""
        return InputError(f"onnx: {self.paths[layer] or 'the network'} ({type(layer).__name__}) {why}")

    def tensor(self, name: str, sizes: Sequence[int | str] | None) -> Any:
        """The onnx.ValueInfoProto of a tensor of floats; sizes None: not known."""
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, sizes)

    def model(self, notes: Mapping[str, str]) -> Any:
        """What was written as an onnx.ModelProto that keeps ONNX's rules; notes become its metadata."""
        helper = self.onnx.helper
        channels, *sides = self.image_shape
        image = self.tensor(INPUT, ["batch", channels, *FREE_SIDES[-len(sides):]])
        outputs = [self.tensor(name, sizes) for name, sizes in self.outputs.items()]
        graph = helper.make_graph(self.nodes, "network", [image], outputs, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = helper.find_min_ir_version_for(model.opset_import)  # the newest shuts out older runtimes
        helper.set_model_props(model, notes)
        self.onnx.checker.check_model(model, full_check=True)
        return model
