"""Where a run stands, and how it is saved and continued exactly.

What can be derived is not saved: the loader's order and the augmentation follow from (seed, epoch, index), Paddle's
random state from (seed, step), the rate from the step.
"""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

import paddle

from engine import checkpoint
from engine.config import Config
from engine.errors import InputError


@dataclass
class Progress:
    epoch: int = 0  # epochs that are finished, their evaluation included
    step: int = 0  # optimizer steps done, over all epochs
    steps_per_epoch: int = 0
    window: list = field(default_factory=list)  # what each step since the last log line gave: {name: number}
    sums: dict = field(default_factory=dict)  # over the steps of this epoch
    best: dict | None = None  # the evaluation with the lowest error: {"top1_error", "epoch", "step"}
    train_seconds: float = 0.0  # spent in training steps
    position: dict | None = None  # where the records end, see RunRecord.position

    @property
    def is_best(self):
        """Whether the newest evaluation is the best, and of the weights as they are now."""
        return self.best is not None and self.best["step"] == self.step


def save(folder: Path, learner, progress: Progress, record) -> None:
    """Write folder/latest.*; on ranks other than 0 nothing."""
    progress.position = record.position()
    if not record.active:
        return
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
    checkpoint.save(folder / "latest", contents)


def keep_epoch(config: Config, progress: Progress) -> None:
    """Let latest.* also stand as epoch_N.*, where one is due, and as best.* where it is the best; drop old epochs."""
    folder, settings = config.folder, config.checkpoint
    if is_due(config, progress) and settings.keep:
        checkpoint.copy(folder / "latest", folder / f"epoch_{progress.epoch}")
    kept = checkpoint.epochs_kept(folder)
    for epoch in kept[: max(0, len(kept) - settings.keep)]:
        checkpoint.remove(folder / f"epoch_{epoch}")
    if progress.is_best:
        checkpoint.copy(folder / "latest", folder / "best")


def is_due(config: Config, progress: Progress) -> bool:
    """Whether the epoch that has just ended is one after which the config wants a checkpoint."""
    return progress.epoch == config.schedule.epochs or progress.epoch % config.checkpoint.every_epochs == 0


def restore(source: str | None, config: Config, learner, steps_per_epoch) -> Progress:
    """Bring the learner to where a checkpoint left it; `source` is its path, or "auto" for the newest of the run.

    A fresh Progress where there is no source or "auto" finds none. Raises InputError where the checkpoint does not fit
    this run.
    """
    if source is None:
        return Progress(steps_per_epoch=steps_per_epoch)
    folder = config.folder
    stem = folder / "latest" if source == "auto" else checkpoint.stem_of(source)
    own = stem.parent.resolve() == folder.resolve()
    if own and paddle.distributed.get_rank() == 0 and folder.exists():
        checkpoint.recover(stem)
    if paddle.distributed.get_world_size() > 1:
        paddle.distributed.barrier()
    if source == "auto" and not checkpoint.exists(stem):
        return Progress(steps_per_epoch=steps_per_epoch)
    if not own and (folder / "config.yaml").exists():
        raise InputError(f"{folder}: already holds a run of its own; to start from {stem} choose another -o name=...")
    contents = checkpoint.load(stem)
    progress = _progress(contents[".pdstates"], stem, steps_per_epoch)
    if not own:
        progress.position = None  # another run's records are not continued
        if progress.epoch >= config.schedule.epochs:
            raise InputError(f"{stem}: has all {progress.epoch} epochs already; raise schedule.epochs to go on from it")
    _check_records(folder, progress.position)
    _set_model(learner.model, contents[".pdparams"], stem)
    _set_optimizer(learner, contents, stem)
    if scaler := contents[".pdstates"].get("scaler"):
        learner.scaler.load_state_dict(scaler)
    if learner.ema:
        if ".pdema" not in contents:
            raise InputError(f"{stem}: has no averaged weights (.pdema); resume it with -o ema_decay=null")
        learner.ema.restore(contents[".pdema"])
    if own and paddle.distributed.get_rank() == 0:
        _tidy(config, progress, stem)
    return progress


def _tidy(config, progress, stem):
    """Leave the run's folder as it was when the checkpoint was complete."""
    folder = config.folder
    if stem.name != "latest":  # going back: what came later is another future
        checkpoint.copy(stem, folder / "latest")
        for epoch in checkpoint.epochs_kept(folder):
            if epoch > progress.epoch:
                checkpoint.remove(folder / f"epoch_{epoch}")
        if checkpoint.exists(folder / "best") and checkpoint.load(folder / "best")[".pdstates"]["step"] > progress.step:
            checkpoint.remove(folder / "best")
    if progress.step and progress.step == progress.epoch * progress.steps_per_epoch:
        keep_epoch(config, progress)  # a kill can have come between latest and its copies


def _progress(states, stem, steps_per_epoch):
    names = [field.name for field in dataclasses.fields(Progress)]
    if missing := [name for name in names if name not in states]:
        raise InputError(f"{stem}.pdstates: lacks {', '.join(missing)}; expected one that tools/train.py wrote")
    progress = Progress(**{name: states[name] for name in names})
    if progress.steps_per_epoch != steps_per_epoch:
        raise InputError(
            f"{stem}: its epochs have {progress.steps_per_epoch} steps, this config's {steps_per_epoch}; "
            "it can be used as pretrained=..., not resumed"
        )
    return progress


def _check_records(folder, position):
    records = folder / "metrics.jsonl"
    size = records.stat().st_size if records.exists() else 0
    if position and size < position["metrics"]:
        raise InputError(f"{records}: has {size} bytes, the checkpoint knew of {position['metrics']}; some are lost")


def _set_model(model, state, stem):
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = list(state[name].shape) if name in state else "nothing"
        wanted = list(own[name].shape) if name in own else "nothing"
        if found != wanted:
            raise InputError(f"{stem}: of another architecture: {name} is {found} there, {wanted} in this model")
    model.set_state_dict(state)


def _set_optimizer(learner, contents, stem):
    """Paddle notices what is missing only at the first step, and takes an empty state for a fresh start."""
    kind, saved = type(learner.optimizer).__name__, contents[".pdstates"].get("optimizer")
    if saved != kind:
        raise InputError(f"{stem}: its optimizer is {saved}, this config's {kind}")
    state = contents[".pdopt"]
    for parameter in learner.model.parameters():
        if not parameter.stop_gradient and not any(name.startswith(parameter.name) for name in state):
            raise InputError(f"{stem}.pdopt: lacks the state of {parameter.name}; expected one of the same model")
    learner.optimizer.set_state_dict(state)
    learner.restored = state
