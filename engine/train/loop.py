"""The training step, the epoch, and the epochs of a run."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import paddle
from paddle import nn

from data import DataError
from engine.config import Config
from engine.errors import Diverged
from engine.run import progress as saving
from engine.run.progress import Progress, settle
from engine.train.ema import Ema
from engine.train.keeper import Keeper
from engine.train.running_statistics import RunningStatistics
from engine.train.step_times import Clock
from engine.train.stopping import signals_caught
from engine.train.validation import evaluate_epoch, is_evaluated


@dataclass
class Learner:
    """All that a training step changes."""

    model: nn.Layer  # holds the weights
    network: nn.Layer  # what is called: the model, or paddle.DataParallel of it
    optimizer: paddle.optimizer.Optimizer
    schedule: Callable[[int], float]  # step -> learning rate
    scaler: paddle.amp.GradScaler
    ema: Ema | None
    restored: dict = field(default_factory=dict)  # the optimizer's state, as a checkpoint had it


def make_learner(config: Config, model, optimizer, schedule) -> Learner:
    """Wrap the model for mixed precision, several devices and averaging, as the config asks."""
    ema = None if config.ema_decay is None else Ema(model, config.ema_decay)
    network = paddle.DataParallel(model) if paddle.distributed.get_world_size() > 1 else model
    scaler = paddle.amp.GradScaler(enable=config.amp.level == "O1" and config.amp.dtype == "float16")
    return Learner(model, network, optimizer, schedule, scaler, ema)


def train_step(learner: Learner, batch, step, config: Config, *, norms=False) -> tuple[dict, dict]:
    """One optimizer step on this device's images, in passes of whole workers.

    Returns what the model returned, the mean over the passes, and, where `norms` is set, the L2 norms of the gradients
    (before clipping) and of the parameters: 0-D tensors by name.

    batch: image float32 [N, C, H, W] and label int64 [N], N = images_per_worker * workers on this device. The gradient
    is that of the mean loss over the step's images, whatever the number of passes and devices.
    """
    paddle.seed(config.seed + 1000003 * step + paddle.distributed.get_rank())
    lr = learner.schedule(step)
    learner.optimizer.set_lr(lr)
    images = len(batch["label"])
    per_pass = min(images, config.batch.images_per_worker * (config.batch.workers_per_pass or images))
    passes = range(0, images, per_pass)
    totals = {}
    statistics = RunningStatistics(learner.model, config, len(passes))
    for start in passes:
        part = {name: paddle.to_tensor(value[start : start + per_pass]) for name, value in batch.items()}
        last = start + per_pass >= images  # gradients of several devices meet once a step
        together = contextlib.nullcontext() if last or learner.network is learner.model else learner.network.no_sync()
        with together:
            with statistics.of_one_pass(), paddle.amp.auto_cast(config.amp.level == "O1", dtype=config.amp.dtype):
                outputs = learner.network(part)
            learner.scaler.scale(outputs["loss"] / len(passes)).backward()
        for name, value in outputs.items():
            totals[name] = totals.get(name, 0) + value.detach() / len(passes)
    statistics.settle()
    parameters = [parameter for parameter in learner.model.parameters() if parameter.grad is not None]
    clip_norm = config.optimizer.clip_norm
    if norms or clip_norm:
        learner.scaler.unscale_(learner.optimizer)
    if clip_norm:
        gradient_norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    elif norms:
        gradient_norm = _norm([parameter.grad for parameter in parameters])
    sizes = {"gradient_norm": gradient_norm, "parameter_norm": _norm(parameters)} if norms else {}
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    learner.optimizer.clear_grad()
    if learner.ema:
        learner.ema.update(learner.model)
    return totals, sizes


@paddle.no_grad()
def _norm(tensors):
    """The L2 norm of all tensors together."""
    return sum((tensor.astype("float32") ** 2).sum() for tensor in tensors).sqrt()


def train(config: Config, learner: Learner, train_loader, validation_loader, progress: Progress, record) -> None:
    """All epochs that are left, each with its evaluation and checkpoint.

    Raises, with all saved, Stopped after SIGTERM, Ctrl-C or a hangup, at the next step or batch, and DataError where an
    image cannot be read; Diverged where a loss or a weight is not finite, and what is saved is from before that.
    """
    clock = Clock(config, train_loader, progress)
    with signals_caught() as stop:
        keeper = Keeper(config, learner, progress, record, clock, stop)
        try:
            while progress.epoch < config.schedule.epochs:
                _train_epoch(config, learner, train_loader, progress, record, keeper)
                if is_evaluated(config, progress.epoch + 1):
                    _evaluate_epoch(config, learner, train_loader, validation_loader, progress, record, keeper)
                if config.record.histograms:
                    record.histograms(learner.model, progress.step)
                progress.epoch += 1
                keeper.end_epoch()
        except Diverged as diverged:
            advice = "Try a lower optimizer.base_lr, schedule.warmup_epochs or optimizer.clip_norm"
            raise Diverged(f"{diverged}; {saving.last_checkpoint(config.folder)}. {advice}") from None


def _train_epoch(config, learner, loader, progress, record, keeper):
    epoch, steps, clock = progress.epoch, loader.steps_per_epoch, keeper.clock
    start = progress.step - epoch * steps
    clock.start()
    bar = record.progress(steps, start, f"epoch {epoch + 1}/{config.schedule.epochs}")
    learner.model.train()
    with contextlib.closing(loader.epoch(epoch, start)) as batches, bar:
        for index in range(start + 1, steps + 1):
            clock.waiting()
            batch = _next(batches, keeper)
            clock.working()
            last = index == steps
            boundary = index % config.record.every_steps == 0 or last
            outputs, norms = train_step(learner, batch, progress.step, config, norms=boundary)
            progress.window.append(outputs)
            progress.step += 1
            bar.update()
            if boundary:
                _log_window(config, learner, loader, progress, norms, record, clock, bar)
            keeper.after_step(boundary=boundary, before_evaluation=last and is_evaluated(config, epoch + 1))
    clock.working_done()
    totals = {name: total / steps for name, total in progress.sums.items()}
    progress.sums = {}
    record.metrics("epoch", epoch=epoch + 1, step=progress.step, **totals)
    if loader.dataset.skipped:
        record.log(f"[Data] {loader.dataset.skipped} corrupt images skipped so far")


def _next(batches, keeper):
    try:
        return next(batches)
    except DataError:
        keeper.no_batch()
        raise


def _evaluate_epoch(config, learner, train_loader, loader, progress, record, keeper):
    """Evaluate what was saved; where that gives nothing finite, the checkpoint before it takes its place again."""
    try:
        evaluate_epoch(config, learner, train_loader, loader, progress, record, keeper)
    except Diverged:
        saving.take_back(config.folder, record)
        raise
    saving.accept(config.folder, record)


def _log_window(config, learner, loader, progress, norms, record, clock, bar):
    """One line, one record and one point of each curve for the steps since the last."""
    settle(progress)
    clock.working_done()
    window, progress.window = progress.window, []
    mean = {name: sum(numbers[name] for numbers in window) / len(window) for name in window[0]}
    norms = {name: float(norm) for name, norm in norms.items()}
    lr = learner.schedule(progress.step - 1)
    epoch, index = progress.epoch, progress.step - progress.epoch * loader.steps_per_epoch
    record.metrics(
        "train", {"images_per_second": clock.images_per_second},
        epoch=epoch + 1, step=progress.step, lr=lr, **mean, **norms,
    )
    bar.set_postfix({name: f"{number:.3f}" for name, number in mean.items()})
    shown = ", ".join(f"{name}: {number:.5f}" for name, number in mean.items())
    record.log(
        f"[Train][Epoch {epoch + 1}/{config.schedule.epochs}][Iter: {index}/{loader.steps_per_epoch}] "
        f"lr: {lr:.6g}, {shown}, {clock}",
        screen=False,
    )
    if clock.reader_is_slow():
        record.log("reading takes over 30 % of a step: raise reading.processes, or put the data on a faster disk")
