"""One image of zeros sent through a network, to see what its layers are given."""

from collections.abc import Callable, Sequence

import paddle
from paddle import nn


@paddle.no_grad()
def see_layers(model: nn.Layer, kinds: tuple[type, ...], look: Callable, image_shape: Sequence[int]) -> None:
    """Call look(name, layer, input, output, times) for each layer of these kinds as one image [C, H, W] passes, in
    evaluation.

    times: how often it would be called, at most. A network of parts that an image passes a different number of times,
    as a detector's heads are for many boxes, gives `parts(image)`: (times, a function that runs it once) of each.
    The network is afterwards as it was.
    """
    times = 1

    def hook(name):
        return lambda layer, inputs, output: look(name, layer, inputs[0], output, times)

    layers = [(name, layer) for name, layer in model.named_sublayers() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_post_hook(hook(name)) for name, layer in layers]
    training = model.training
    model.eval()
    try:
        image = paddle.zeros([1, *image_shape])
        parts = model.parts(image) if hasattr(model, "parts") else [(1, lambda: model({"image": image}))]
        for times, run in parts:  # noqa: B007  `hook` reads it
            run()
    finally:
        for handle in hooks:
            handle.remove()
        if training:
            model.train()
