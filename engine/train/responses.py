"""What a convolution gives while its network learns, before norm and ReLU: figure 6 of the GN paper (arXiv:1803.08494).

The paper does not say on which images. Here they are those of the training step that is recorded, of several devices
the first one's: what the network learns from, and no pass more than without.
"""

import contextlib
import difflib
from collections.abc import Iterator

import numpy as np
from paddle import nn

from engine.errors import InputError
from ops import DeformConv2D

PERCENTILES = (1, 20, 80, 99)  # the paper's
SHOWN = 20  # names in an error


class Responses:
    """The percentiles of what one convolution of a model gives; `name` as the model calls it, `backbone.` apart.

    Raises InputError where the model has none of that name. In a residual network the stage around a watched layer is
    computed layer by layer in that step, which rounds otherwise than the fused kernels of CPUs.
    """

    def __init__(self, model: nn.Layer, name: str):
        self.name = name.removeprefix("backbone.")
        there = {
            path.removeprefix("backbone."): layer for path, layer in model.named_sublayers()
            if isinstance(layer, (nn.Conv2D, nn.Conv3D, DeformConv2D))
        }
        if self.name not in there:
            advice = _advice(self.name, list(there))
            raise InputError(f"record.responses: {name}: the network has no such convolution; {advice}")
        self.layer = there[self.name]

    @contextlib.contextmanager
    def of_one_step(self) -> Iterator[dict[str, float]]:
        """Around the passes of one step on this device; afterwards the dict has the percentiles, such as conv5_3_p99.

        They are over all values that the layer gave: images, channels and positions.
        """
        given, percentiles = [], {}
        hook = self.layer.register_forward_post_hook(
            lambda layer, inputs, output: given.append(output.detach().astype("float32").numpy().ravel())
        )
        try:
            yield percentiles
        finally:
            hook.remove()
        if given:  # of a detector's heads some can have nothing to do
            found = np.percentile(np.concatenate(given), PERCENTILES)
            percentiles.update(zip(keys(self.name), map(float, found), strict=True))


def keys(layer: str) -> list[str]:
    """What the percentiles of a layer are called in metrics.jsonl, from the lowest to the highest."""
    return [f"{layer}_p{percent}" for percent in PERCENTILES]


def _advice(name, there):
    close = difflib.get_close_matches(name, there, n=1)
    shown = there if len(there) <= SHOWN else [*there[:SHOWN // 2], "…", *there[-SHOWN // 2:]]
    return "".join(f"did you mean {one}? " for one in close) + f"it has {', '.join(shown)}"
