"""The training step, the epoch, and the epochs of a run."""

import contextlib
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import paddle
from paddle import nn

from engine import progress as saving
from engine.clock import Clock
from engine.config import Config
from engine.ema import Ema
from engine.errors import Diverged, Stopped
from engine.evaluate import evaluate
from engine.figures import annotated
from engine.offset_figures import sample_offsets
from engine.running_statistics import RunningStatistics, make_precise, share_running_statistics


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
    learner.optimizer.clear_grad(set_to_zero=False)
    if learner.ema:
        learner.ema.update(learner.model)
    return totals, sizes


@paddle.no_grad()
def _norm(tensors):
    """The L2 norm of all tensors together."""
    return sum((tensor.astype("float32") ** 2).sum() for tensor in tensors).sqrt()


def train(config: Config, learner: Learner, train_loader, validation_loader, progress, record) -> None:
    """All epochs that are left, each with its evaluation and checkpoint. Raises Stopped after SIGTERM, saved."""
    clock = Clock(config, train_loader, progress)
    with _signals_caught() as stop:
        while progress.epoch < config.schedule.epochs:
            _train_epoch(config, learner, train_loader, progress, record, clock, stop)
            epoch = progress.epoch + 1
            if epoch == config.schedule.epochs or epoch % config.evaluate_every_epochs == 0:
                _evaluate_epoch(config, learner, train_loader, validation_loader, progress, record)
            if config.record.histograms:
                record.histograms(learner.model, progress.step)
            progress.epoch = epoch
            if saving.is_due(config, progress) or progress.is_best:
                share_running_statistics(learner, config)
                saving.save(config.folder, learner, progress, record)
                clock.saved()
                if record.active:
                    saving.keep_epoch(config, progress)


def _train_epoch(config, learner, loader, progress, record, clock, stop):
    epoch, steps = progress.epoch, loader.steps_per_epoch
    start = progress.step - epoch * steps
    clock.start()
    bar = record.progress(steps, start, f"epoch {epoch + 1}/{config.schedule.epochs}")
    learner.model.train()
    batches = loader.epoch(epoch, start)
    with contextlib.closing(batches), bar:
        for index in range(start + 1, steps + 1):
            clock.waiting()
            batch = next(batches)
            clock.working()
            boundary = index % config.record.every_steps == 0 or index == steps
            outputs, norms = train_step(learner, batch, progress.step, config, norms=boundary)
            progress.window.append(outputs)
            progress.step += 1
            bar.update()
            if boundary:
                _log_window(config, learner, loader, progress, norms, record, clock, bar)
            save_now, stop_now = _agreed(clock.since_saved > 60 * config.checkpoint.every_minutes, stop, boundary)
            if save_now or stop_now:
                _settle(progress)
                clock.working_done()
                share_running_statistics(learner, config)
                saving.save(config.folder, learner, progress, record)
                clock.saved()
            if stop_now:
                where = f"at step {progress.step}; saved, continue with -r auto"
                raise Stopped(stop["signal"] or signal.SIGTERM, where)
    clock.working_done()
    totals = {name: total / steps for name, total in progress.sums.items()}
    progress.sums = {}
    record.metrics("epoch", epoch=epoch + 1, step=progress.step, **totals)
    if loader.dataset.skipped:
        record.log(f"[Data] {loader.dataset.skipped} corrupt images skipped so far")


def _settle(progress):
    """Turn the window's tensors into numbers and see that every loss is finite.

    Not done at each step, because on a GPU each such look waits for the device.
    """
    first = progress.step - len(progress.window)
    for offset, outputs in enumerate(progress.window):
        if not isinstance(outputs["loss"], paddle.Tensor):
            continue  # settled before, by a checkpoint
        numbers = _mean_over_devices({name: float(value) for name, value in outputs.items()})
        if not math.isfinite(numbers["loss"]):
            raise Diverged(
                f"the loss is {numbers['loss']} at step {first + offset + 1}; the last checkpoint is from before it. "
                "Try a lower optimizer.base_lr, schedule.warmup_epochs or optimizer.clip_norm"
            )
        progress.window[offset] = numbers
        for name, number in numbers.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + number


def _log_window(config, learner, loader, progress, norms, record, clock, bar):
    """One line, one record and one point of each curve for the steps since the last."""
    _settle(progress)
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


def _evaluate_epoch(config, learner, train_loader, loader, progress, record):
    share_running_statistics(learner, config)
    with learner.ema.applied(learner.model) if learner.ema else contextlib.nullcontext():
        if config.model.bn_running_statistics == "precise":
            make_precise(learner, train_loader, config, progress.epoch)
        errors, samples = evaluate(learner.model, loader, samples=config.record.sample_images)
        if config.record.offsets and record.active:
            record.offsets(*sample_offsets(learner.model, loader, config.record.offsets), progress.step)
    epoch = progress.epoch + 1
    record.metrics("eval", epoch=epoch, step=progress.step, **errors)
    record.pictures(annotated(samples, loader.dataset), progress.step)
    if progress.best is None or errors["top1_error"] < progress.best["top1_error"]:
        progress.best = {"top1_error": errors["top1_error"], "epoch": epoch, "step": progress.step}
    shown = ", ".join(f"{name}: {value:.5f}" for name, value in errors.items())
    record.log(f"[Eval][Epoch {epoch}] {shown}, best top1_error: {progress.best['top1_error']:.5f}")


@contextlib.contextmanager
def _signals_caught():
    """Within: the first SIGTERM or Ctrl-C only sets the yielded dict's "signal", a second one has its usual effect."""
    stop = {"signal": None}
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def remember(number, frame):
        stop["signal"] = number
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, remember)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agreed(save, stop, boundary):
    """(save, stop) as all devices agree on it: several look only at a log boundary, and then follow any of them."""
    if paddle.distributed.get_world_size() == 1:
        return save, stop["signal"] is not None
    if not boundary:
        return False, False
    flags = paddle.to_tensor([float(save), float(stop["signal"] is not None)])
    paddle.distributed.all_reduce(flags, op=paddle.distributed.ReduceOp.MAX)
    return tuple(flag > 0 for flag in flags.tolist())


def _mean_over_devices(numbers):
    devices = paddle.distributed.get_world_size()
    if devices == 1:
        return numbers
    values = paddle.to_tensor(list(numbers.values()), dtype="float64")
    paddle.distributed.all_reduce(values)
    return dict(zip(numbers, (values / devices).tolist(), strict=True))
