"""How a run goes on from a checkpoint, exactly: found, checked as a whole, and only then taken over."""

import contextlib
import dataclasses
import re
from pathlib import Path

import paddle

from data import DataError
from engine.config import Config
from engine.errors import InputError
from engine.files import writing
from engine.run import checkpoint
from engine.run.data_identity import DataIdentity
from engine.run.folder import CONFIG_FILE, check_folder, check_source
from engine.run.progress import Progress
from engine.run.record import check_record_files
from engine.run.result import read_metrics
from engine.run.saved import check_optimizer, check_scaler, check_states, check_weights
from engine.run.saving import PREVIOUS, Keeping, Trained, keep_epoch

OWN_NAME = re.compile(r"(latest|best|epoch_\d+)(\.pd\w+)?")


def find_source(resume: str | None, config: Config, identity: DataIdentity) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, None for a beginning; and what may differ from its run, and does, in words.

    Raises InputError where the run's folder holds another run, or one of other data; see also `find_checkpoint`.
    """
    first, changes = paddle.distributed.get_rank() == 0, []
    if first:  # alone: another process may come here when the folder is already made
        changes = check_folder(config, identity, resume=bool(resume))
    source = find_checkpoint(resume, config)
    if first and source:
        changes += check_source(source, config, identity)
    return source, changes


def find_checkpoint(resume: str | None, config: Config) -> Path | None:
    """The checkpoint, a path without ending, that `-r` asks for; None where it asks for none, or "auto" finds none.

    `resume` is auto, the run's newest; latest, best or epoch_N, the run's own; a run's folder, its newest; or a
    checkpoint's path. Raises InputError where there is none.
    """
    folder = config.folder
    if not resume:
        return None
    if resume == "auto" or OWN_NAME.fullmatch(resume):
        stem = folder / ("latest" if resume == "auto" else checkpoint.stem_of(resume))
    elif (given := Path(resume).expanduser()).is_dir():
        stem = given / "latest"
    else:
        stem = checkpoint.stem_of(given)
    if _is_own(stem, config) and paddle.distributed.get_rank() == 0 and folder.exists():
        checkpoint.recover(stem)
    _wait_for_all()
    if resume == "auto" and not checkpoint.exists(stem):
        return None
    if not checkpoint.exists(stem):
        there = ", ".join(sorted(path.stem for path in stem.parent.glob("*.pdstates"))) or "none"
        raise InputError(f"-r {resume}: {stem}: no checkpoint there; in that folder there are: {there}")
    return stem


def restore(stem: str | Path | None, config: Config, learner: Trained, steps_per_epoch: int) -> Progress:
    """Bring the learner to where the checkpoint `stem` left it; a fresh Progress where there is none.

    Raises InputError, and changes nothing, where the checkpoint does not fit this run.
    """
    if stem is None:
        return Progress(steps_per_epoch=steps_per_epoch)
    stem = checkpoint.stem_of(stem)
    own = _is_own(stem, config)
    if not own and (config.folder / CONFIG_FILE).exists():
        raise InputError(
            f"{config.folder}: already holds a run of its own; to start from {stem} choose another -o name=..."
        )
    contents = checkpoint.load(stem)
    progress = _progress(contents[".pdstates"], stem, steps_per_epoch)
    if not own:  # another run's records are not continued, and its best checkpoint is not here
        progress.position = progress.best = None
    _check_records(config.folder, progress.position)
    _check_length(progress, config, stem, own)
    _check_contents(contents, learner, stem)
    _give(contents, learner)
    if own:
        _tidy(config, progress, stem)
    return progress


def _is_own(stem, config):
    return stem.parent.resolve() == config.folder.resolve()


def _wait_for_all():
    if paddle.distributed.get_world_size() > 1:
        paddle.distributed.barrier()


def _progress(states, stem, steps_per_epoch):
    checked = check_states(states, stem).model_dump()
    progress = Progress(**{field.name: checked[field.name] for field in dataclasses.fields(Progress)})
    if progress.steps_per_epoch != steps_per_epoch:
        raise InputError(
            f"{stem}: its epochs have {progress.steps_per_epoch} steps, this config's {steps_per_epoch}; "
            "it can be used as pretrained=..., not resumed"
        )
    return progress


def _check_length(progress, config, stem, own):
    """Refuse a run of fewer epochs than the checkpoint has, or of as many but with none evaluated last.

    Of another run's checkpoint there must be something left to do.
    """
    epochs = config.schedule.epochs
    if own and progress.step > epochs * progress.steps_per_epoch:
        begun = -(-progress.step // progress.steps_per_epoch)
        raise InputError(
            f"{stem}: is in epoch {begun} already, more than schedule.epochs: {epochs}; go back with -r epoch_N, or "
            "choose another -o name=..."
        )
    if own and progress.epoch == epochs:
        if progress.step not in [record["step"] for record in read_metrics(config.folder, "eval")]:
            raise InputError(f"{stem}: epoch {epochs} was not evaluated and cannot be the last; raise schedule.epochs")
    if not own and progress.epoch >= epochs:
        raise InputError(f"{stem}: has all {progress.epoch} epochs already; raise schedule.epochs to go on from it")


def _check_records(folder, position):
    check_record_files(folder)
    records = folder / "metrics.jsonl"
    size = records.stat().st_size if records.exists() else 0
    if position and size < position["metrics"]:
        raise InputError(f"{records}: has {size} bytes, the checkpoint knew of {position['metrics']}; some are lost")


def _check_contents(contents, learner, stem):
    own, states = learner.model.state_dict(), contents[".pdstates"]
    check_weights(contents[".pdparams"], own, stem)
    kind, saved = type(learner.optimizer).__name__, states["optimizer"]
    if saved != kind:
        raise InputError(f"{stem}: its optimizer is {saved}, this config's {kind}")
    trained = [parameter for parameter in learner.model.parameters() if not parameter.stop_gradient]
    check_optimizer(contents[".pdopt"], trained, stem)
    if states.get("scaler"):
        check_scaler(states["scaler"], learner.scaler.state_dict(), stem)
    if learner.ema:
        if ".pdema" not in contents:
            raise InputError(f"{stem}: has no averaged weights (.pdema); resume it with -o ema_decay=null")
        check_weights(contents[".pdema"], own, stem, ".pdema")


def _give(contents, learner):
    learner.model.set_state_dict(contents[".pdparams"])
    learner.optimizer.set_state_dict(contents[".pdopt"])
    learner.restored = contents[".pdopt"]
    if scaler := contents[".pdstates"].get("scaler"):
        learner.scaler.load_state_dict(scaler)
    if learner.ema:
        learner.ema.restore(contents[".pdema"])


def _tidy(config, progress, stem):
    """Leave the run's folder as it was when the checkpoint was complete."""
    folder = config.folder
    best = None if progress.is_best else _best_there(folder, progress)
    if not best and not progress.is_best:
        progress.best = None  # its files are lost: what comes will be the best
    _wait_for_all()  # all have looked
    if paddle.distributed.get_rank() != 0:
        return
    with writing(folder):
        if stem.name != "latest":  # going back: what came later is another future
            checkpoint.copy(stem, folder / "latest")
            for epoch in checkpoint.epochs_kept(folder):
                if epoch > progress.epoch:
                    checkpoint.remove(folder / f"epoch_{epoch}")
        if best and best.name != "best":
            checkpoint.copy(best, folder / "best")
        if progress.best is None:
            checkpoint.remove(folder / "best")
        if progress.step and progress.step == progress.epoch * progress.steps_per_epoch:
            keeping = Keeping(config.schedule.epochs, **config.checkpoint.model_dump())
            keep_epoch(folder, progress, keeping)  # a kill can have come between latest and its copies
            checkpoint.remove(folder / PREVIOUS)


def _best_there(folder, progress):
    """Where the checkpoint is that the progress calls the best: best.*, or its epoch_N.* where another came later."""
    if progress.best is None:
        return None
    for stem in (folder / "best", folder / f"epoch_{progress.best['epoch']}"):
        with contextlib.suppress(InputError, DataError):  # it is not there, or damaged
            if checkpoint.load_states(stem).get("step") == progress.best["step"]:
                return stem
    return None
