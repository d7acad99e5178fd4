"""What a network's predictions of a data set are worth: one loop for all tasks."""

import contextlib
import math
from collections.abc import Callable, Mapping

import paddle
from paddle import nn

from data import DataError, Loader, length
from engine.errors import Diverged
from engine.tasks import Scores, Task


def numbers_text(numbers: Mapping[str, float | None]) -> str:
    """Such as `loss: 0.12345, top1_error: 0.06789`; n/a where there was nothing to judge."""
    return ", ".join(f"{name}: {'n/a' if value is None else f'{value:.5f}'}" for name, value in numbers.items())


@paddle.no_grad()
def evaluate(
    model: nn.Layer, loader: Loader, task: Task, *, samples: int = 0, look: Callable[[], None] = lambda: None
) -> tuple[Scores, list]:
    """The scores of a model over a loader's images, and what `task.pictures` wants of this rank's first `samples`.

    Over several devices every rank evaluates its share and gets the whole result. `look` is called before each batch,
    as often on every device, and may end it all by an exception of its own.
    Raises DataError where no image could be read, Diverged where a number is not finite: it would be one of no answers.
    """
    was_training = model.training
    model.eval()
    scores, kept = task.scores(loader.dataset), []
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            look()
            if not length(batch):  # a rank's share of the last, short step can be empty
                continue
            predictions = model({name: paddle.to_tensor(value) for name, value in batch.items()})
            scores.add(batch, predictions)
            if len(kept) < samples:
                kept += task.samples(batch, predictions)
    if was_training:
        model.train()
    scores.gather()
    if not scores.images:
        raise DataError("evaluation: not one of the validation images can be read")
    for name, number in scores.numbers().items():
        if number is not None and not math.isfinite(number):
            raise Diverged(f"the {name} of {scores.images} images in evaluation is {number}")
    return scores, kept[:samples]
