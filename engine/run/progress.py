"""Where a run stands."""

import math
from dataclasses import dataclass, field

import paddle

from engine.errors import Diverged


@dataclass
class Progress:
    epoch: int = 0  # epochs that are finished, their evaluation included
    step: int = 0  # optimizer steps done, over all epochs; all of the next epoch's: its evaluation is what comes next
    steps_per_epoch: int = 0
    window: list = field(default_factory=list)  # what each step since the last log line gave: {name: number}
    sums: dict = field(default_factory=dict)  # over the steps of this epoch
    best: dict | None = None  # the best evaluation: its headline score by name, "epoch" and "step"
    train_seconds: float = 0.0  # spent in training steps
    position: dict | None = None  # where the records end, see RunRecord.position

    @property
    def is_best(self) -> bool:
        """Whether the newest evaluation is the best, and of the weights as they are now."""
        return self.best is not None and self.best["step"] == self.step


def settle(progress: Progress) -> None:
    """Turn the window's tensors into numbers and see that every loss is finite; raises Diverged.

    Not done at each step, because on a GPU each such look waits for the device.
    """
    first = progress.step - len(progress.window)
    for offset, outputs in enumerate(progress.window):
        if not isinstance(outputs["loss"], paddle.Tensor):
            continue  # settled before, by a checkpoint
        numbers = _mean_over_devices({name: float(value) for name, value in outputs.items()})
        if not math.isfinite(numbers["loss"]):
            parts = [name for name, number in numbers.items() if name != "loss" and not math.isfinite(number)]
            raise Diverged(f"the loss is {numbers['loss']} at step {first + offset + 1}{_listed(parts)}")
        progress.window[offset] = numbers
        for name, number in numbers.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + number


def _listed(parts):
    """Which losses are not finite, where a network has several."""
    return f" ({', '.join(parts)})" if parts else ""


def _mean_over_devices(numbers):
    devices = paddle.distributed.get_world_size()
    if devices == 1:
        return numbers
    values = paddle.to_tensor(list(numbers.values()), dtype="float64")
    paddle.distributed.all_reduce(values)
    return dict(zip(numbers, (values / devices).tolist(), strict=True))
