"""Errors of a model over a data set."""

import numpy as np
import paddle
from paddle.nn import functional as F

from data import DataError


@paddle.no_grad()
def evaluate(model, loader, *, samples=0, told=None):
    """Mean cross entropy, top-1 and (with more than five classes) top-5 error over a loader's images.

    Errors are fractions. Over several devices every rank evaluates its share and gets the whole result.
    Returns (errors, samples): the first `samples` images of this rank with their labels and probabilities.
    `told` is called with the labels and the most probable ones, int64 [N], of each batch of this rank.
    """
    was_training = model.training
    model.eval()
    sums = np.zeros(4)  # images, summed loss, wrong at top 1, wrong at top 5: exact, and the same in any split
    kept = []
    for batch in loader.epoch(0):
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
    errors = {"loss": loss / images, "top1_error": wrong1 / images}
    if len(loader.dataset.classes) > 5:
        errors["top5_error"] = wrong5 / images
    return errors, kept[:samples]
