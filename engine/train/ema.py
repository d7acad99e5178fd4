"""An exponential moving average of a model's state (Polyak averaging)."""

import contextlib

import paddle


class Ema:
    """average = decay * average + (1 - decay) * value, for every floating parameter and buffer, after each step."""

    def __init__(self, model, decay):
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @paddle.no_grad()
    def update(self, model):
        for name, value in model.state_dict().items():
            average = self.average[name]
            if average.is_floating_point():
                average.scale_(self.decay)
                average.add_((1 - self.decay) * value.detach().astype(average.dtype))
            else:
                average.set_value(value)

    @contextlib.contextmanager
    def applied(self, model):
        """Within: the model has the averaged state."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        _give(model, self.average)
        try:
            yield
        finally:
            _give(model, own)

    def restore(self, state):
        """Take over a saved average {name: array}."""
        for name, value in self.average.items():
            value.set_value(state[name])


def _give(model, state):
    for name, value in model.state_dict().items():
        value.set_value(state[name].astype(value.dtype))
