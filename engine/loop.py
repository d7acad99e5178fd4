"""The training step, the epoch, and the epochs of a run."""

import contextlib
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import paddle
from paddle import nn

from engine import progress as saving
from engine.config import Config
from engine.ema import Ema
from engine.errors import Diverged, Stopped
from engine.evaluate import evaluate
from engine.figures import annotated
from engine.running_statistics import RunningStatistics, share_running_statistics


@dataclass
class Learner:
    """All that a training step changes."""

    model: nn.Layer  # holds the weights
    network: nn.Layer  # what is called: the model, or paddle.DataParallel of it
    optimizer: paddle.optimizer.Optimizer
    schedule: Callable[[int], float]  # step -> learning rate
    scaler: paddle.amp.GradScaler
    ema: Ema | None


def make_learner(config: Config, model, optimizer, schedule) -> Learner:
    """Wrap the model for mixed precision, several devices and averaging, as the config asks."""
    ema = None if config.ema_decay is None else Ema(model, config.ema_decay)
    network = paddle.DataParallel(model) if paddle.distributed.get_world_size() > 1 else model
    scaler = paddle.amp.GradScaler(enable=config.amp.level == "O1" and config.amp.dtype == "float16")
    return Learner(model, network, optimizer, schedule, scaler, ema)


def train_step(learner: Learner, batch, step, config: Config, *, norms=False) -> dict:
    """One optimizer step on this device's images, in passes of whole workers. Returns 0-D tensors by name.

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
    if norms:
        totals |= {"gradient_norm": gradient_norm, "parameter_norm": _norm(parameters)}
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    learner.optimizer.clear_grad()
    if learner.ema:
        learner.ema.update(learner.model)
    return totals


@paddle.no_grad()
def _norm(tensors):
    """The L2 norm of all tensors together."""
    return sum((tensor.astype("float32") ** 2).sum() for tensor in tensors).sqrt()


def train(config: Config, learner: Learner, train_loader, validation_loader, progress, record) -> None:
    """All epochs that are left, each with its evaluation and checkpoint. Raises Stopped after SIGTERM, saved."""
    clock = _Clock(config, train_loader, progress)
    with _signals_caught() as stop:
        while progress.epoch < config.schedule.epochs:
            _train_epoch(config, learner, train_loader, progress, record, clock, stop)
            epoch = progress.epoch + 1
            if epoch == config.schedule.epochs or epoch % config.evaluate_every_epochs == 0:
                _evaluate_epoch(config, learner, validation_loader, progress, record)
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
            progress.window.append(train_step(learner, batch, progress.step, config, norms=boundary))
            progress.step += 1
            bar.update()
            if boundary:
                _log_window(config, learner, loader, progress, record, clock, bar)
            save_now, stop_now = _agreed(clock.since_saved > 60 * config.checkpoint.every_minutes, stop, boundary)
            if save_now or stop_now:
                _settle(progress)
                clock.working_done()
                share_running_statistics(learner, config)
                saving.save(config.folder, learner, progress, record)
                clock.saved()
            if stop_now:
                raise Stopped(stop["signal"] or signal.SIGTERM, progress.step)
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
        for name in ("loss", "top1_error"):
            progress.sums[name] = progress.sums.get(name, 0.0) + numbers[name]


def _log_window(config, learner, loader, progress, record, clock, bar):
    """One line, one record and one point of each curve for the steps since the last."""
    _settle(progress)
    clock.working_done()
    window, progress.window = progress.window, []
    mean = {name: sum(numbers[name] for numbers in window) / len(window) for name in ("loss", "top1_error")}
    norms = {name: window[-1][name] for name in ("gradient_norm", "parameter_norm")}
    lr = learner.schedule(progress.step - 1)
    epoch, index = progress.epoch, progress.step - progress.epoch * loader.steps_per_epoch
    record.metrics(
        "train", {"images_per_second": clock.images_per_second},
        epoch=epoch + 1, step=progress.step, lr=lr, **mean, **norms,
    )
    bar.set_postfix(loss=f"{mean['loss']:.3f}", top1_error=f"{mean['top1_error']:.3f}")
    record.log(
        f"[Train][Epoch {epoch + 1}/{config.schedule.epochs}][Iter: {index}/{loader.steps_per_epoch}] "
        f"lr: {lr:.6g}, loss: {mean['loss']:.5f}, top1_error: {mean['top1_error']:.5f}, {clock}",
        screen=False,
    )
    if clock.reader_is_slow():
        record.log("reading takes over 30 % of a step: raise reading.processes, or put the data on a faster disk")


def _evaluate_epoch(config, learner, loader, progress, record):
    share_running_statistics(learner, config)
    with learner.ema.applied(learner.model) if learner.ema else contextlib.nullcontext():
        errors, samples = evaluate(learner.model, loader, samples=config.record.sample_images)
    epoch = progress.epoch + 1
    record.metrics("eval", epoch=epoch, step=progress.step, **errors)
    record.pictures(annotated(samples, loader.dataset), progress.step)
    if progress.best is None or errors["top1_error"] < progress.best["top1_error"]:
        progress.best = {"top1_error": errors["top1_error"], "epoch": epoch, "step": progress.step}
    shown = ", ".join(f"{name}: {value:.5f}" for name, value in errors.items())
    record.log(f"[Eval][Epoch {epoch}] {shown}, best top1_error: {progress.best['top1_error']:.5f}")


class _Clock:
    """Times of steps in this process. The first ones, slower, are left out of the averages."""

    LEFT_OUT = 3

    def __init__(self, config, loader, progress):
        self.images, self.progress = config.batch.images_per_step, progress
        self.total_steps = config.schedule.epochs * loader.steps_per_epoch
        self.steps = self.counted = 0
        self.reading = self.batch = 0.0
        self.warned = False
        self.at = self.saved_at = time.perf_counter()

    def start(self):
        """An epoch begins: what came before was no training."""
        self.at = time.perf_counter()

    def saved(self):
        self.at = self.saved_at = time.perf_counter()

    def waiting(self):
        """A step begins: the batch is waited for."""
        self._book("batch")
        self.steps += 1

    def working(self):
        self._book("reading")

    def working_done(self):
        self._book("batch")

    def _book(self, what):
        now = time.perf_counter()
        passed, self.at = now - self.at, now
        self.progress.train_seconds += passed
        if self.steps > self.LEFT_OUT:
            self.batch += passed
            self.reading += passed if what == "reading" else 0.0
            self.counted = self.steps - self.LEFT_OUT

    @property
    def since_saved(self):
        return time.perf_counter() - self.saved_at

    @property
    def images_per_second(self):
        return self.images * self.counted / self.batch if self.counted else 0.0

    def reader_is_slow(self):
        slow = self.counted > 20 and self.reading > 0.3 * self.batch and not self.warned
        self.warned = self.warned or slow
        return slow

    def __str__(self):
        if not self.counted:
            return "ips: -, eta: -"
        cost = self.batch / self.counted
        left = int(cost * (self.total_steps - self.progress.step))
        return (
            f"batch_cost: {cost:.5f}s, reader_cost: {self.reading / self.counted:.5f}s, "
            f"ips: {self.images_per_second:.1f} images/s, eta: {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        )


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
