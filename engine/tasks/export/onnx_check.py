"""Whether onnxruntime computes what the model does, layer by layer: probabilities alone say little of what went wrong,
and are all alike where a network is sure, or knows nothing."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import paddle
from paddle import nn

from engine.errors import InputError
from engine.tasks.export.extras import extra
from engine.tasks.export.onnx_graph import INPUT, Graph

TOLERANCE = 1e-4  # of a layer's largest value
TINY = 1e-6  # of layers that give next to nothing, a runtime may make it nothing


def compared(written: Any, graph: Graph, network: nn.Layer) -> str:
    """How far onnxruntime agrees with the network, or why nothing was compared, in words.

    written: the onnx.ModelProto of `graph`. Raises RuntimeError, for it is a bug, where a layer differs by more than
    1e-4 of its largest value.
    """
    try:
        runtime = extra("onnxruntime")
    except InputError as missing:
        return f"not compared with the model: {missing}"
    try:
        largest = max(_differences(runtime, written, graph, network))
    except extra("onnxruntime.capi.onnxruntime_pybind11_state").NotImplemented as lacking:  # DeformConv before 1.25
        reason = " ".join(str(lacking).split())
        return f"not compared with the model: onnxruntime {runtime.__version__} cannot run it ({reason})"
    return f"onnxruntime {runtime.__version__} gives what every layer gives, to {largest:.0e} of its largest value"


def _differences(runtime: ModuleType, written: Any, graph: Graph, network: nn.Layer) -> Iterator[float]:
    """Of each layer's output, as a part of its largest value."""
    computed = [(layer, tensor) for layer, tensor in graph.computed if isinstance(tensor, str)]
    inside = sorted({tensor for _, tensor in computed} - graph.outputs.keys())
    watched = type(written)()
    watched.CopyFrom(written)
    watched.graph.output.extend(graph.tensor(name, None) for name in inside)
    random = np.random.default_rng(0)
    channels, *sides = graph.image_shape
    for images, more in ((1, 0), (2, 8)):  # not only the sizes of the training: all but the channels are free
        image = random.standard_normal([images, channels, *(side + more for side in sides)], np.float32)
        ours = _outputs_of_layers(network, image)
        # What goes out is what is compared: with its layers watched onnxruntime may compute it in another way.
        theirs = {**_run(runtime, watched, inside, image), **_run(runtime, written, graph.outputs, image)}
        for layer, tensor in computed:
            if layer in ours:
                yield _difference(ours[layer].pop(0), theirs[tensor], f"{graph.paths[layer]} ({type(layer).__name__})")


@paddle.no_grad()
def _outputs_of_layers(network, image):
    """{layer: arrays, one each time that it is called} of all layers that give a tensor."""
    given = defaultdict(list)

    def keep(layer, inputs, output):
        if isinstance(output, paddle.Tensor):
            given[layer].append(output.numpy())

    hooks = [layer.register_forward_post_hook(keep) for layer in network.sublayers(include_self=True)]
    network(paddle.to_tensor(image))
    for hook in hooks:
        hook.remove()
    return given


def _run(runtime: ModuleType, model: Any, names: Collection[str], image: np.ndarray) -> dict[str, np.ndarray]:
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), {INPUT: image}), strict=True))


def _difference(ours, theirs, name):
    if ours.shape != theirs.shape:
        raise RuntimeError(f"{name}: is {theirs.shape} in ONNX, {ours.shape} here")
    difference, largest = float(np.abs(ours - theirs).max()), max(TINY, float(np.abs(ours).max()))
    if not difference <= TOLERANCE * largest:  # nan is not below either
        raise RuntimeError(f"{name}: differs in ONNX by {difference}, the largest value is {largest}")
    return difference / largest
