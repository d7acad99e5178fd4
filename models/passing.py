"""One image, or clip, of zeros sent through a network, to see what its layers are given."""

from collections.abc import Callable, Sequence

import paddle
from paddle import nn


@paddle.no_grad()
def see_layers(model: nn.Layer, kinds: tuple[type, ...], look: Callable, image_shape: Sequence[int]) -> None:
    """Call look(name, layer, input, output) for each layer of these kinds as one image passes, in evaluation.

    image_shape [C, H, W], of a clip [C, T, H, W]. The network is afterwards as it was.
    """

    def hook(name):
        return lambda layer, inputs, output: look(name, layer, inputs[0], output)

    layers = [(name, layer) for name, layer in model.named_sublayers() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_post_hook(hook(name)) for name, layer in layers]
    training = model.training
    model.eval()
    try:
        model({getattr(model, "sees", "image"): paddle.zeros([1, *image_shape])})
    finally:
        for handle in hooks:
            handle.remove()
        if training:
            model.train()
