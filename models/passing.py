"""One image, or clip, of zeros sent through a network, to see what its layers are given."""

from collections.abc import Callable, Sequence

import paddle
from paddle import nn


@paddle.no_grad()
def see_layers(model: nn.Layer, kinds: tuple[type, ...], look: Callable, image_shape: Sequence[int]) -> None:
    """Call look(name, layer, input, output, times) for each layer of these kinds as one image passes, in evaluation.

    image_shape [C, H, W], of a clip [C, T, H, W]. times: how often the layer would be called, at most. A network of
    parts that an image passes a different number of times, as a detector's heads are for many boxes, gives
    `parts(image)`: (times, a function that runs it once) of each.
    """
    times = 1

    def hook(name):
        return lambda layer, inputs, output: look(name, layer, inputs[0], output, times)

    layers = [(name, layer) for name, layer in model.named_sublayers() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_post_hook(hook(name)) for name, layer in layers]
    training = model.training
    model.eval()
    try:
        image, sees = paddle.zeros([1, *image_shape]), getattr(model, "sees", "image")
        parts = model.parts(image) if hasattr(model, "parts") else [(1, lambda: model({sees: image}))]
        for times, run in parts:  # noqa: B007  `hook` reads it
            run()
    finally:
        for handle in hooks:
            handle.remove()
        if training:
            model.train()
