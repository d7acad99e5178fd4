"""How a run is saved; engine/run/resume.py continues it exactly.

What can be derived is not saved: the loader's order and the augmentation follow from (seed, epoch, index), Paddle's
random state from (seed, step), the rate from the step.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import paddle
from paddle import nn

from engine.errors import Diverged
from engine.run import checkpoint
from engine.run.finite import not_finite
from engine.run.progress import Progress
from engine.run.record import RunRecord

PREVIOUS = "previous"  # the checkpoint that stands in for latest.* until an evaluation has shown that this is sound


class Trained(Protocol):
    """What of an engine.train.step.Learner is saved; this room knows nothing of that one."""

    model: nn.Layer
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    ema: Any  # an engine.train.ema.Ema, or None
    restored: dict  # the optimizer's state, as a checkpoint had it


class Keeping(NamedTuple):
    """Which checkpoints a run makes and keeps."""

    epochs: int  # that the run has
    every_minutes: float
    every_epochs: int
    keep: int  # how many epoch_N stay

    def is_due(self, epoch: int) -> bool:
        """Whether there is to be a checkpoint after an epoch, counted from 1."""
        return epoch == self.epochs or epoch % self.every_epochs == 0


def save(folder: Path, learner: Trained, progress: Progress, record: RunRecord) -> None:
    """Write folder/latest.*; on ranks other than 0 nothing. Raises Diverged where there is a number not to be kept."""
    contents = _sound_contents(learner, progress, record)
    if record.active:
        checkpoint.save(folder / "latest", contents)


def save_before_evaluation(folder: Path, learner: Trained, progress: Progress, record: RunRecord) -> None:
    """`save`, but what was there is kept until `accept` or `take_back` says what the evaluation has shown."""
    contents = _sound_contents(learner, progress, record)
    if not record.active:
        return
    if checkpoint.exists(folder / "latest"):
        checkpoint.copy(folder / "latest", folder / PREVIOUS)
    else:
        checkpoint.remove(folder / PREVIOUS)
    checkpoint.save(folder / "latest", contents)


def _sound_contents(learner, progress, record):
    """What a checkpoint holds. Raises Diverged on every rank, for all have the same, where it is not finite."""
    progress.position = record.position()
    contents = {
        ".pdparams": learner.model.state_dict(),
        # Until its first step after a restoration Paddle 2.6's optimizer gives nothing of what was restored.
        ".pdopt": {**learner.restored, **learner.optimizer.state_dict()},
        ".pdstates": {
            **dataclasses.asdict(progress),
            "optimizer": type(learner.optimizer).__name__,
            "scaler": learner.scaler.state_dict(),
            "saved_at": time.time(),
        },
    }
    if learner.ema:
        contents[".pdema"] = learner.ema.average
    for values in contents.values():
        if name := not_finite(values):
            raise Diverged(f"{name} is not finite after step {progress.step}")
    return contents


def accept(folder: Path, record: RunRecord) -> None:
    """The evaluation of what was saved before it is sound."""
    if record.active:
        checkpoint.remove(folder / PREVIOUS)


def take_back(folder: Path, record: RunRecord) -> None:
    """The evaluation of what was saved before it is not: let folder/latest.* be again what it was."""
    if not record.active:
        return
    if checkpoint.exists(folder / PREVIOUS):
        checkpoint.copy(folder / PREVIOUS, folder / "latest")
        checkpoint.remove(folder / PREVIOUS)
    else:
        checkpoint.remove(folder / "latest")


def last_checkpoint(folder: Path) -> str:
    """What there is to go back to, in words."""
    if not checkpoint.exists(folder / "latest"):
        return "no checkpoint had been saved before it"
    step = checkpoint.load_states(folder / "latest").get("step")
    return f"the last checkpoint is from before it, of step {step}"


def keep_epoch(folder: Path, progress: Progress, keeping: Keeping) -> None:
    """Let latest.* also stand as epoch_N.*, where one is due, and as best.* where it is the best; drop old epochs."""
    if keeping.is_due(progress.epoch) and keeping.keep:
        checkpoint.copy(folder / "latest", folder / f"epoch_{progress.epoch}")
    kept = checkpoint.epochs_kept(folder)
    for epoch in kept[: max(0, len(kept) - keeping.keep)]:
        checkpoint.remove(folder / f"epoch_{epoch}")
    if progress.is_best:
        checkpoint.copy(folder / "latest", folder / "best")
