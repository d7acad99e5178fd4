"""Where a run stands, and how it is saved and continued exactly.

What can be derived is not saved: the loader's order and the augmentation follow from (seed, epoch, index), Paddle's
random state from (seed, step), the rate from the step.
"""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle

from engine import checkpoint
from engine.errors import InputError


@dataclass
class Progress:
    epoch: int = 0  # epochs that are finished, their evaluation included
    step: int = 0  # optimizer steps done, over all epochs
    window: list = field(default_factory=list)  # what each step since the last log line gave: {name: number}
    sums: dict = field(default_factory=dict)  # over the steps of this epoch
    best: dict | None = None  # the evaluation with the lowest error: {"top1_error", "epoch", "step"}
    train_seconds: float = 0.0  # spent in training steps
    position: dict | None = None  # where the records end, see RunRecord.position


def save(folder: Path, learner, progress: Progress, record) -> None:
    """Write folder/latest.*; on ranks other than 0 nothing."""
    progress.position = record.position()
    if not record.active:
        return
    contents = {
        ".pdparams": learner.model.state_dict(),
        ".pdopt": learner.optimizer.state_dict(),
        ".pdstates": {**dataclasses.asdict(progress), "scaler": learner.scaler.state_dict(), "saved_at": time.time()},
    }
    if learner.ema:
        contents[".pdema"] = learner.ema.average
    checkpoint.save(folder / "latest", contents)


def keep_epoch(folder: Path, progress: Progress, keep: int) -> None:
    """Let latest.* also stand as epoch_N.*, and as best.* where it is the best; drop old epochs."""
    if keep:
        checkpoint.copy(folder / "latest", folder / f"epoch_{progress.epoch}")
    checkpoint.rotate(folder, keep)
    if progress.best and progress.best["step"] == progress.step:
        checkpoint.copy(folder / "latest", folder / "best")


def restore(source: str, folder: Path, learner) -> Progress:
    """Bring the learner to where a checkpoint left it; `source` is its path, or "auto" for the newest in `folder`.

    A fresh Progress where "auto" finds none. Raises InputError where the checkpoint is of another architecture.
    """
    stem = folder / "latest" if source == "auto" else checkpoint.stem_of(source)
    if paddle.distributed.get_rank() == 0:
        checkpoint.recover(stem)
    if paddle.distributed.get_world_size() > 1:
        paddle.distributed.barrier()
    if source == "auto" and not Path(f"{stem}.pdstates").exists():
        return Progress()
    contents = checkpoint.load(stem)
    _set_model(learner.model, contents[".pdparams"], stem)
    learner.optimizer.set_state_dict(_tensors(_without_names(contents[".pdopt"])))
    states = contents[".pdstates"]
    if scaler := states.get("scaler"):
        learner.scaler.load_state_dict(scaler)
    if learner.ema:
        if ".pdema" not in contents:
            raise InputError(f"{stem}: has no averaged weights (.pdema); resume it without ema_decay")
        learner.ema.restore(_without_names(contents[".pdema"]))
    progress = Progress(**{field.name: states[field.name] for field in dataclasses.fields(Progress)})
    if stem.parent.resolve() != folder.resolve():
        progress.position = None  # another run's records are not continued
    elif stem.name == "latest" and progress.best and progress.best["step"] == progress.step:
        checkpoint.copy(stem, folder / "best")  # a kill can have come between the two
    return progress


def _set_model(model, state, stem):
    state, own = _without_names(state), model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = list(state[name].shape) if name in state else "nothing"
        wanted = list(own[name].shape) if name in own else "nothing"
        if found != wanted:
            raise InputError(f"{stem}: of another architecture: {name} is {found} there, {wanted} in this model")
    model.set_state_dict(state)


def _without_names(state):
    return {name: value for name, value in state.items() if name != "StructuredToParameterName@@"}


def _tensors(state):
    """Paddle's optimizers take arrays for their accumulators but tensors for the master weights nested in them."""
    if isinstance(state, dict):
        return {name: _tensors(value) for name, value in state.items()}
    return paddle.to_tensor(state) if isinstance(state, np.ndarray) else state
