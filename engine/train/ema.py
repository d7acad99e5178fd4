"""An exponential moving average of a model's state (Polyak averaging)."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import paddle
from paddle import nn

from models.weights import frozen_entries


class Ema:
    """average = decay * average + (1 - decay) * value, for every floating parameter and buffer, after each step.

    What is frozen stays, bit for bit: rounding would move even the average of what does not move.
    """

    def __init__(self, model: nn.Layer, decay: float):
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.moving = self.average.keys() - frozen_entries(model)

    @paddle.no_grad()
    def update(self, model: nn.Layer) -> None:
        for name, value in model.state_dict().items():
            if name not in self.moving:
                continue
            average = self.average[name]
            if average.is_floating_point():
                average.scale_(self.decay)
                average.add_((1 - self.decay) * value.detach().astype(average.dtype))
            else:
                average.set_value(value)

    @contextlib.contextmanager
    def applied(self, model: nn.Layer) -> Iterator[None]:
        """Within: the model has the averaged state."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        _give(model, self.average)
        try:
            yield
        finally:
            _give(model, own)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a saved average {name: array}."""
        for name, value in self.average.items():
            value.set_value(state[name])


def _give(model, state):
    for name, value in model.state_dict().items():
        value.set_value(state[name].astype(value.dtype))
