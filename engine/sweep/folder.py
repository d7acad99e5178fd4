"""The folder of a sweep: whose it is, how far each run in it has come, and results.csv.

Several runners may share a folder. What they write there together they write under its lock, and only for moments; a
run itself belongs to the process that trains it (`engine.run.locks.claim`).
"""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from engine.config.yaml_text import read_yaml, write_yaml
from engine.errors import InputError
from engine.files import read_end, read_text, write_text, writing_into
from engine.report.records import FAILED_FILE, RESULTS_FILE, SESSIONS_FILE, SWEEP_FILE, read_sessions
from engine.run.data_identity import DataIdentity
from engine.run.folder import CONFIG_FILE, RESULT_FILE, changes_since, data_changes_since, differences
from engine.run.locks import alone, is_claimed, share
from engine.run.measure import TOP1_ERROR, columns
from engine.run.result import METRICS_FILE, parse_record, read_result
from engine.sweep.definition import Run, Sweep
from engine.sweep.driver import refuse_while_driven
from models.norm import described

CONSOLE_FILE = "console.log"  # in a run's folder: what its processes printed
TAIL_BYTES = 16384  # of metrics.jsonl: more than the last line of any kind, of which there is one a window
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that a spreadsheet computes
# Keys without influence on what a run results in: a finished run stays what it is when they change, unless it would
# lack what figure 6 is drawn from.
IMMATERIAL = (
    "name", "output", "device", "record", "checkpoint", "expect", "reading.processes", "batch.workers_per_pass"
)


def open_sweep_folder(sweep: Sweep, identities: dict[str, DataIdentity], *, driven: bool = False) -> list[str]:
    """Make the sweep's folder, or enter it; runs whose values or data have changed are moved out of it.

    identities: what the data of the runs, by their names, are now; of those that are not there only values count.
    driven: this process drives the sweep on a cluster, and is to be alone in it. Returns what was found, as lines.
    Raises InputError, and touches nothing, where the folder holds something else than this sweep, or where another
    runner is at work in it with other values, or drives it.
    """
    folder = sweep.folder
    check_sweep_folder(sweep)
    if not driven:
        refuse_while_driven(folder)
    with writing_into(folder), alone(folder / ".lock"):
        before, now = _described(folder), description(sweep)
        if not share(folder / ".runners", others_allowed=before in (None, now) and not driven):
            how = "" if driven else " with other values"
            raise InputError(f"{folder}: another tools/sweep.py is at work in it{how}; let it finish")
        lines = _move_changed(sweep, identities)
        if before not in (None, now):
            lines = [f"changed: {key}: {was} -> {is_now}" for key, was, is_now in differences(before, now)] + lines
        write_text(folder / SWEEP_FILE, write_yaml(now))
    return lines


def check_sweep_folder(sweep: Sweep) -> None:
    """Raise InputError where the sweep's folder holds something else."""
    folder = sweep.folder
    if not folder.exists():
        return
    before = _described(folder)
    try:
        strange = before is None and (not folder.is_dir() or any(map(_is_strange, folder.iterdir())))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    if strange:
        raise InputError(f"{folder}: is there and is no sweep's folder; choose another with -o name=...")
    if before and before.get("file") != sweep.file:
        raise InputError(f"{folder}: holds the sweep of {before.get('file')}; choose another with -o name=...")


def _is_strange(path):
    """Whether a file is none that a runner leaves which was killed before it could write its first."""
    return not path.name.startswith(".") and path.suffix != ".part"


def _described(folder):
    if not (folder / SWEEP_FILE).exists():
        return None
    return {"measure": TOP1_ERROR._asdict(), **read_yaml(folder / SWEEP_FILE)}  # older ones do not say it


def _move_changed(sweep, identities):
    """Move folders of runs that had other values or data beside the sweep's folder; nothing is deleted."""
    changed = [(run, changes) for run in sweep.runs if (changes := material_changes(run, identities.get(run.name)))]
    for run, changes in changed:
        if is_claimed(run.config.folder):
            key, folder = changes[0][0], run.config.folder
            raise InputError(f"{folder}: is being trained with another {key}; let that finish, or stop it")
    lines = []
    for run, changes in changed:
        key, was, is_now = changes[0]
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        attic = sweep.folder.with_name(sweep.folder.name + ".changed")  # not below, where VisualDL would show it
        number = next(n for n in range(1, 10**6) if not (attic / f"{run.name}.{n}").exists())
        attic.mkdir(exist_ok=True)
        run.config.folder.rename(attic / f"{run.name}.{number}")
        lines.append(f"{run.name}: {key}: {was} -> {is_now}{more}; runs anew, what was there is now in {attic}")
    known = {run.name for run in sweep.runs}
    strangers = [path.parent.name for path in sweep.folder.glob("*/config.yaml") if path.parent.name not in known]
    lines += [f"{name}: no longer part of the sweep, left as it is" for name in sorted(strangers)]
    return lines


def material_changes(run: Run, identity: DataIdentity | None = None) -> list[tuple[str, Any, Any]]:
    """(key, before, now) of what in the folder of a run is not as it would be now, and matters for its result.

    identity: what its data are now; None: they are not looked at.
    """
    changes = [change for change in changes_since(run.config) if _matters(*change)]
    if identity and (run.config.folder / CONFIG_FILE).exists():
        changes += data_changes_since(run.config.folder, identity)
    return changes


def _matters(key, was, is_now):
    if key == "data.root":  # another folder may hold the same data; no folder, or the fetched set, is another set
        return None in (was, is_now) or "full" in (was, is_now)
    if key == "record.responses":
        return is_now is not None
    return not key.startswith(IMMATERIAL)


def description(sweep: Sweep) -> dict:
    """What sweep.yaml says: with results.csv, all that a report needs."""
    plain = json.loads(sweep.section.model_dump_json(exclude={"axes", "max_runs"}))
    measure, *more = (measure._asdict() for measure in sweep.measures)
    measures = {"measure": measure, **({"more_measures": more} if more else {})}
    return {"name": sweep.name, "file": sweep.file, **measures, "axes": sweep.grids, **plain, "config": sweep.shared}


def state(run: Run) -> str:
    """finished, failed, stopped (begun) or waiting, as the run's folder says."""
    folder = run.config.folder
    if not (folder / CONFIG_FILE).exists():
        return "waiting"
    if (folder / RESULT_FILE).exists():
        return "finished"
    return "failed" if (folder / FAILED_FILE).exists() else "stopped"


def row(run: Run, axes: Iterable[str]) -> dict[str, Any]:
    """A run's line of results.csv. An axis has its value in effect, or its set's name, as `_cell` writes it."""
    config, reached = run.config, state(run)
    result = read_result(config.folder, run.measures) if reached == "finished" else {}
    measured = [column for measure in run.measures for column in columns(measure)]
    norm = described(config.model)
    return {
        "run": run.name,
        "state": reached,
        **{axis: _cell(run.value(axis)) for axis in axes},
        "protocol": config.batch.protocol,
        **{name: norm[name] for name in ("norm", "norm_groups", "norm_channels_per_group")},
        "images_per_worker": config.batch.images_per_worker,
        "workers": config.batch.workers,
        "images_per_step": config.batch.images_per_step,
        "lr": config.lr,
        "epochs": config.schedule.epochs,
        "steps": result.get("steps"),
        "evaluation_statistics": norm["evaluation_statistics"],
        "seed": config.seed,
        **{
            name: result.get(name)
            for name in (*measured, "best_epoch", "parameters", "multiply_adds", "train_seconds")
        },
    }


def _cell(value):
    """JSON, but for a text that could be taken for nothing else: neither for JSON nor, by a spreadsheet, a formula."""
    try:
        json.loads(value)
    except (TypeError, ValueError):
        return value if isinstance(value, str) and not value.startswith(FORMULA) else json.dumps(value)
    return json.dumps(value)


def write_results(sweep: Sweep, session: dict, known: dict[str, dict] | None = None) -> None:
    """Write results.csv, a row for every run in the sweep's order, and this runner's line of sessions.jsonl.

    known: run's name -> its row, of runs whose folders need not be read again; the others' rows are put there.
    """
    with alone(sweep.folder / ".lock"):
        known, columns = {} if known is None else known, sweep.columns
        known |= {run.name: row(run, columns) for run in sweep.runs if run.name not in known}
        rows = [known[run.name] for run in sweep.runs]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(sweep.folder / RESULTS_FILE, text.getvalue())
        path, sessions = sweep.folder / SESSIONS_FILE, read_sessions(sweep.folder)
        lines = zip(read_text(path).split("\n") if sessions else [], sessions, strict=False)
        others = [line for line, one in lines if one.started != session["started"]]
        write_text(path, "\n".join([*others, json.dumps(session)]) + "\n")


def how_far(run: Run) -> dict[str, Any]:
    """How far a run has come, by the end of its metrics.jsonl: epoch, step, and the headline of its last evaluation."""
    headline = run.measures[0]
    path, found = run.config.folder / METRICS_FILE, {"epoch": 0, "step": 0, headline.name: None}
    for line in read_end(path, TAIL_BYTES).splitlines(keepends=True):
        if line.startswith('{"kind"') and line.endswith("\n"):
            record = parse_record(line, path, [headline])
            found["epoch"], found["step"] = record.epoch, record.step or 0
            if record.kind == "eval":
                found[headline.name] = getattr(record, headline.name)
    return found
