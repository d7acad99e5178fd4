"""Errors of a model over a data set."""

import contextlib
import math
from collections.abc import Callable

import numpy as np
import paddle
from paddle.nn import functional as F

from data import DataError
from engine.errors import Diverged


@paddle.no_grad()
def evaluate(
    model, loader, *, samples: int = 0, look: Callable[[], None] = lambda: None, told: Callable | None = None
) -> tuple[dict, list]:
    """Mean cross entropy, top-1 and (with more than five classes) top-5 error over a loader's images.

    Errors are fractions. Over several devices every rank evaluates its share and gets the whole result. `look` is
    called before each batch, as often on every device, and may end it all by an exception of its own.
    Returns (errors, samples): the first `samples` images of this rank with their labels and probabilities.
    `told` is called with the labels and the most probable ones, int64 [N], of each batch of this rank.
    Raises Diverged where the mean cross entropy is not finite: then the errors would be those of no answers.
    """
    was_training = model.training
    model.eval()
    sums = np.zeros(4)  # images, summed loss, wrong at top 1, wrong at top 5: exact, and the same in any split
    kept = []
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            look()
            if not len(batch["label"]):  # a rank's share of the last, short step can be empty
                continue
            label = paddle.to_tensor(batch["label"])
            logits = model({"image": paddle.to_tensor(batch["image"])})
            loss = F.cross_entropy(logits, label, reduction="none").numpy().astype(np.float64)
            ranked = logits.argsort(axis=1, descending=True)[:, :5].numpy()
            hit = ranked == batch["label"][:, None]
            if told:
                told(batch["label"], ranked[:, 0])
            sums += (len(hit), loss.sum(), (~hit[:, 0]).sum(), (~hit.any(axis=1)).sum())
            if len(kept) < samples:
                probabilities = F.softmax(logits, axis=1).numpy()
                kept += list(zip(batch["image"], batch["label"], probabilities, strict=True))
    if was_training:
        model.train()
    if paddle.distributed.get_world_size() > 1:
        total = paddle.to_tensor(sums)
        paddle.distributed.all_reduce(total)
        sums = total.numpy()
    images, loss, wrong1, wrong5 = sums.tolist()
    if not images:
        raise DataError("evaluation: not one of the validation images can be read")
    if not math.isfinite(loss):
        raise Diverged(f"the loss of {images:.0f} images in evaluation is {loss / images}")
    errors = {"loss": loss / images, "top1_error": wrong1 / images}
    if len(loader.dataset.classes) > 5:
        errors["top5_error"] = wrong5 / images
    return errors, kept[:samples]
