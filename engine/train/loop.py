"""The epochs of a run. What an evaluation is and how a run is saved, its caller says."""

import contextlib
from collections.abc import Callable

from data import DataError, Loader
from engine.errors import Diverged
from engine.run.progress import Progress, settle
from engine.run.record import RunRecord
from engine.run.saving import last_checkpoint
from engine.train.keeper import Keeper
from engine.train.step import Learner, train_step


def train(
    learner: Learner, loader: Loader, progress: Progress, record: RunRecord, keeper: Keeper,
    evaluate: Callable[[], None], *, every_epochs: int, every_steps: int, histograms: bool,
) -> None:
    """All epochs that are left, with a log line every so many steps and an evaluation every so many epochs.

    histograms: whether the dashboard gets the weights after each epoch. Raises, with all saved, Stopped after SIGTERM,
    Ctrl-C or a hangup, at the next step or batch, and DataError where an image cannot be read; Diverged where a loss or
    a weight is not finite, and what is saved is from before that.
    """
    epochs = keeper.keeping.epochs
    try:
        while progress.epoch < epochs:
            is_evaluated = progress.epoch + 1 == epochs or (progress.epoch + 1) % every_epochs == 0
            _train_epoch(learner, loader, progress, record, keeper, every_steps, is_evaluated)
            if is_evaluated:
                with keeper.trial():
                    evaluate()
            if histograms:
                record.histograms(learner.model, progress.step)
            progress.epoch += 1
            keeper.end_epoch()
    except Diverged as diverged:
        advice = "Try a lower optimizer.base_lr, schedule.warmup_epochs or optimizer.clip_norm"
        raise Diverged(f"{diverged}; {last_checkpoint(keeper.folder)}. {advice}") from None


def _train_epoch(learner, loader, progress, record, keeper, every_steps, before_evaluation):
    epoch, steps, times = progress.epoch, loader.steps_per_epoch, keeper.times
    start = progress.step - epoch * steps
    times.start()
    bar = record.progress_bar(steps, start, f"epoch {epoch + 1}/{keeper.keeping.epochs}")
    learner.model.train()
    with contextlib.closing(loader.epoch(epoch, start)) as batches, bar:
        for index in range(start + 1, steps + 1):
            times.waiting()
            batch = _next(batches, keeper)
            times.working()
            boundary = index % every_steps == 0 or index == steps
            outputs, more = train_step(learner, batch, progress.step, norms=boundary)
            progress.window.append(outputs)
            progress.step += 1
            bar.update()
            if boundary:
                _log_window(learner, steps, progress, more, record, keeper, bar)
            keeper.after_step(boundary=boundary, before_evaluation=before_evaluation and index == steps)
    times.working_done()
    totals = {name: total / steps for name, total in progress.sums.items()}
    progress.sums = {}
    record.metrics("epoch", epoch=epoch + 1, step=progress.step, **totals)
    if loader.dataset.skipped:
        record.log(f"[Data] corrupt samples skipped since this start: {loader.dataset.skipped}")


def _next(batches, keeper):
    try:
        return next(batches)
    except DataError:
        keeper.no_batch()
        raise


def _log_window(learner, steps, progress, more, record, keeper, bar):
    """One line, one record and one point of each curve for the steps since the last."""
    times = keeper.times
    settle(progress)
    times.working_done()
    window, progress.window = progress.window, []
    mean = {name: sum(numbers[name] for numbers in window) / len(window) for name in window[0]}
    more = {name: float(number) for name, number in more.items()}
    lr = learner.schedule(progress.step - 1)
    epoch, index = progress.epoch, progress.step - progress.epoch * steps
    record.metrics(
        "train", {"images_per_second": times.images_per_second},
        epoch=epoch + 1, step=progress.step, lr=lr, **mean, **more,
    )
    bar.set_postfix({name: f"{number:.3f}" for name, number in mean.items()})
    shown = ", ".join(f"{name}: {number:.5f}" for name, number in mean.items())
    record.log(
        f"[Train][Epoch {epoch + 1}/{keeper.keeping.epochs}][Iter: {index}/{steps}] lr: {lr:.6g}, {shown}, {times}",
        screen=False,
    )
    if times.reader_is_slow():
        record.log("reading takes over 30 % of a step: raise reading.processes, or put the data on a faster disk")
