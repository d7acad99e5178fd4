"""The training step: one optimizer step on a device's images, in passes of whole workers."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import paddle
from paddle import nn

from data import length
from engine.train.ema import Ema
from engine.train.responses import Responses
from engine.train.running_statistics import RunningStatistics


@dataclass
class Learner:
    """All that a training step changes, and what it goes by."""

    model: nn.Layer  # holds the weights
    network: nn.Layer  # what is called: the model, or paddle.DataParallel of it
    optimizer: paddle.optimizer.Optimizer
    schedule: Callable[[int], float]  # step -> learning rate
    scaler: paddle.amp.GradScaler
    ema: Ema | None
    seed: int
    images_per_pass: int | None = None  # whole workers of this device; None: all of a step
    amp_dtype: str | None = None  # of mixed precision; None: none
    clip_norm: float | None = None  # global L2 norm of the gradients of a step
    responses: Responses | None = None  # of a layer that is looked at
    restored: dict = field(default_factory=dict)  # the optimizer's state, as a checkpoint had it


def train_step(learner: Learner, batch: dict, step: int, *, norms: bool = False) -> tuple[dict, dict]:
    """One optimizer step on this device's images, in passes of whole workers.

    Returns what the model returned, the mean over the passes, and, where `norms` is set, the L2 norms of the gradients
    (before clipping) and of the parameters: 0-D tensors by name; and the percentiles of the layer that is looked at.

    batch: every value [N, ...], N = images_per_worker * workers on this device. The gradient is that of the mean loss
    over the step's images, whatever the number of passes and devices.
    """
    paddle.seed(learner.seed + 1000003 * step + paddle.distributed.get_rank())
    learner.optimizer.set_lr(learner.schedule(step))
    images = length(batch)
    per_pass = min(images, learner.images_per_pass or images)
    passes = range(0, images, per_pass)
    totals = {}
    statistics = RunningStatistics(learner.model, len(passes))
    looking = learner.responses.of_one_step() if norms and learner.responses else contextlib.nullcontext({})
    with looking as responses:
        for start in passes:
            part = {name: paddle.to_tensor(value[start : start + per_pass]) for name, value in batch.items()}
            last = start + per_pass >= images  # gradients of several devices meet once a step
            alone = last or learner.network is learner.model
            together = contextlib.nullcontext() if alone else learner.network.no_sync()
            mixed = paddle.amp.auto_cast(learner.amp_dtype is not None, dtype=learner.amp_dtype or "float16")
            with together:
                with statistics.of_one_pass(), mixed:
                    outputs = learner.network(part)
                learner.scaler.scale(outputs["loss"] / len(passes)).backward()
            for name, value in outputs.items():
                totals[name] = totals.get(name, 0) + value.detach() / len(passes)
    statistics.settle()
    sizes = _clip(learner, norms)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    learner.optimizer.clear_grad(set_to_zero=False)  # filled with zeros they would be added to
    if learner.ema:
        learner.ema.update(learner.model)
    return totals, {**sizes, **responses}


def _clip(learner, norms):
    """Cut the gradients to their norm, where there is one to cut to; the norms by name, where they are asked for."""
    parameters = [parameter for parameter in learner.model.parameters() if parameter.grad is not None]
    if norms or learner.clip_norm:
        learner.scaler.unscale_(learner.optimizer)
    if learner.clip_norm:
        gradient_norm = nn.utils.clip_grad_norm_(parameters, learner.clip_norm)
    elif norms:
        gradient_norm = _norm([parameter.grad for parameter in parameters])
    return {"gradient_norm": gradient_norm, "parameter_norm": _norm(parameters)} if norms else {}


@paddle.no_grad()
def _norm(tensors):
    """The L2 norm of all tensors together."""
    return sum((tensor.astype("float32") ** 2).sum() for tensor in tensors).sqrt()
