"""The evaluation at the end of an epoch: errors, pictures, and whether it is the best."""

import contextlib

from engine.config import Config
from engine.evaluation import evaluate
from engine.run.progress import Progress
from engine.show_offsets.figures import sample_offsets
from engine.tasks.pictures import annotated
from engine.train.keeper import Keeper
from engine.train.running_statistics import make_precise


def is_evaluated(config: Config, epoch: int) -> bool:
    """Whether there is an evaluation after an epoch, counted from 1."""
    return epoch == config.schedule.epochs or epoch % config.evaluate_every_epochs == 0


def evaluate_epoch(
    config: Config, learner, train_loader, loader, progress: Progress, record, keeper: Keeper
) -> None:
    """Evaluate the weights as they are, averaged where they are, and record it all; the keeper looks on at each batch.

    Raises Stopped by the keeper, and Diverged; then nothing is recorded.
    """
    offsets = None
    with learner.ema.applied(learner.model) if learner.ema else contextlib.nullcontext():
        if config.model.bn_running_statistics == "precise":
            make_precise(learner, train_loader, config, progress.epoch, keeper.look)
        errors, samples = evaluate(learner.model, loader, samples=config.record.sample_images, look=keeper.look)
        if config.record.offsets and record.active:
            offsets = sample_offsets(learner.model, loader, config.record.offsets, lambda: keeper.stop.asked)
        keeper.look()
    epoch = progress.epoch + 1
    if offsets:
        record.offsets(*offsets, progress.step)
    record.metrics("eval", epoch=epoch, step=progress.step, **errors)
    record.pictures(annotated(samples, loader.dataset), progress.step)
    if progress.best is None or errors["top1_error"] < progress.best["top1_error"]:
        progress.best = {"top1_error": errors["top1_error"], "epoch": epoch, "step": progress.step}
    shown = ", ".join(f"{name}: {value:.5f}" for name, value in errors.items())
    record.log(f"[Eval][Epoch {epoch}] {shown}, best top1_error: {progress.best['top1_error']:.5f}")
