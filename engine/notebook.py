"""Train from a notebook's cell: a command of tools/ as a process of its own, with a bar and curves while it works.

Nothing is trained here. Interrupting the cell stops the command, which saves; running the cell again goes on from
there, and is over in seconds where all is done. An error is one line under the cell, and the cells after it wait.

Paths are relative to the working directory; a notebook's first cell makes that the project's folder. The notebooks of
this project take two environment variables: NOTEBOOK_MODE (short or full) and NOTEBOOK_OUTPUT (the folder for
runs, "output" unless set).
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from IPython.display import Image, display
from tqdm.auto import tqdm

from data import DataError
from data.orphans import end_with_parent
from engine.build import build_data, build_loaders
from engine.config import Config
from engine.errors import InputError
from engine.files import read_lines
from engine.report.page import results_text
from engine.report.words import heading, noun, scaled
from engine.run.folder import load_run_config
from engine.run.result import METRICS_FILE, parse_record, read_result, result_text
from engine.sweep.definition import load_sweep
from engine.sweep.plan import make_plans
from engine.tasks import Measure, task_of
from engine.terminal import one_line

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_LOOKS = 2.0
LAST_LINES = 15  # shown of a command that ended with a bug
POINTS = 40  # of a training curve; more is noise
STROKES = ["-", "--", ":", "-."]


class Failed(Exception):
    """A command did not come to its end. Jupyter shows its words only, no traceback."""

    def _render_traceback_(self):
        return [str(self)]


def train(config: str | Path, *overrides: str) -> Path:
    """Train what the YAML file `config` describes, with `overrides` ("key=value") over it; returns the run's folder.

    A run that is there already continues (`tools/train.py -r auto`). Raises Failed.
    """
    with _in_one_line():
        one = load_run_config(config, overrides)
        loader, _ = build_loaders(one, *build_data(one))
    steps = loader.steps_per_epoch * one.schedule.epochs
    _watch("tools/train.py", [*_options(config, overrides), "-r", "auto"], one.name, [WatchedRun(one.name, one, steps)])
    with _in_one_line():
        measures = task_of(one.model.name).measures
        print(result_text(one, read_result(one.folder, measures), measures))
    return one.folder


def sweep(config: str | Path, *overrides: str) -> Path:
    """Run the sweep of the YAML file `config`, with `overrides` for all its runs, and return the sweep's folder.

    In it are results.csv, the figures and report.html. Runs that are finished are skipped, others continue, as
    tools/sweep.py does. Raises Failed.
    """
    with _in_one_line():
        whole = load_sweep(config, overrides)
        plans = make_plans(whole, whole.runs)
    runs = [WatchedRun(one.name, one.config, plans[one.name].steps) for one in whole.runs]
    _watch("tools/sweep.py", _options(config, overrides), whole.name, runs)
    with _in_one_line():
        print(results_text(whole.folder))
    return whole.folder


def run(tool: str, *arguments: str | Path) -> None:
    """Run any command, such as run("tools/check_data.py", "-c", FILE), and show what it prints. Raises Failed."""
    with _process(tool, arguments, subprocess.PIPE) as process:
        errors = []
        for line in process.stdout:
            if line.startswith("error: "):
                errors.append(line)
            else:
                print(line, end="")
    _check(process, errors)


def _watch(tool, arguments, title, runs):
    """Run a command that trains, and show how its runs come along."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        with LiveCurves(title, runs) as view, _process(tool, arguments, printed) as process:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS_BETWEEN_LOOKS)
                view.look()
        printed.seek(0)
        _check(process, printed.readlines())


def _options(config, overrides):
    return ["-c", config, *(["-o", *overrides] if overrides else [])]


@contextlib.contextmanager
def _process(tool, arguments, stdout):
    """A command while it runs. An interrupt of the cell is handed on as SIGTERM, at which commands that train save."""
    process = subprocess.Popen(
        [sys.executable, ROOT / tool, *map(str, arguments)], encoding="utf-8", errors="replace",
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},  # its lines come as they are printed
        start_new_session=True,  # Jupyter interrupts whole process groups; a command is to hear of it once
        preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),  # and a killed kernel leaves none behind
    )
    try:
        yield process
    except KeyboardInterrupt:
        raise Failed("interrupted; run the cell again to go on") from None
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


@contextlib.contextmanager
def _in_one_line():
    try:
        yield
    except (InputError, DataError) as error:
        raise Failed(f"error: {one_line(error)}") from None


def _check(process, printed):
    """Raise Failed, with the error or else the last lines, where a command has ended with a status."""
    if process.returncode:
        one_line = printed and printed[-1].startswith("error: ")
        lines = printed[-1:] if one_line else [*printed[-LAST_LINES:], f"it ended with status {process.returncode}"]
        raise Failed("".join(lines).strip())


class WatchedRun(NamedTuple):
    name: str
    config: Config
    steps: int  # when it is finished

    @property
    def measure(self) -> Measure:
        """The one that is drawn."""
        return task_of(self.config.model.name).measures[0]

    def records(self) -> list[dict[str, Any]]:
        """The lines of its metrics.jsonl by now; the last can be half written."""
        path = self.config.folder / METRICS_FILE
        lines = read_lines(path) if path.exists() else []
        return [
            parse_record(line, f"{path}: line {number}", [self.measure]).model_dump(exclude_unset=True)
            for number, line in lines if line.endswith("\n")
        ]

    def images(self, steps: int) -> int:
        """That it has trained on after so many steps."""
        return min(steps, self.steps) * self.config.batch.images_per_step


class LiveCurves:
    """Shows how runs come along. Use it as a context; `look` may be called as often as one likes."""

    def __init__(self, title: str, runs: list[WatchedRun]):
        self.title, self.runs = title, runs
        self.records, self.shown = None, uuid.uuid4().hex

    def __enter__(self) -> "LiveCurves":
        total = sum(run.images(run.steps) for run in self.runs)
        self.bar = tqdm(total=total, desc=self.title, unit=" images", unit_scale=True, leave=False)
        self.look()
        return self

    def __exit__(self, *error: object) -> None:
        self.look()
        self.bar.close()

    def look(self) -> None:
        """Move the bar; draw the curves anew where something has come."""
        records = [run.records() for run in self.runs]
        self.bar.n = sum(run.images(of[-1]["step"]) for run, of in zip(self.runs, records, strict=True) if of)
        self.bar.refresh()
        if records != self.records:
            display(draw(self.title, self.runs, records), display_id=self.shown, update=self.records is not None)
            self.records = records


def draw(title: str, runs: list[WatchedRun], records: list[list[dict]]) -> Image:
    """The measure by epoch, a colour for each value of a sweep's first axis, a stroke for each of the others'."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # a $ in a name is a $
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        colours, strokes = (list(dict.fromkeys(run.name.partition(",")[part] for run in runs)) for part in (0, 2))
        for run, of in zip(runs, records, strict=True):
            first, _, others = run.name.partition(",")
            look = {"color": f"C{colours.index(first)}", "linestyle": STROKES[strokes.index(others) % len(STROKES)]}
            axes.plot(*_points(run, of, "train"), **look, linewidth=0.8, alpha=0.5)
            axes.plot(*_points(run, of, "eval"), **look, marker="o", label=run.name)
        epochs = max(run.config.schedule.epochs for run in runs)
        axes.set(title=title, xlabel="epoch", ylabel=heading(runs[0].measure), xlim=(0, 1.02 * epochs))
        if len(runs) <= 12:
            of_training = any(_of_kind(run, of, "train") for run, of in zip(runs, records, strict=True))
            thin = "thin: training" if of_training else f"training tells no {noun(runs[0].measure)}"
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title=f"validation ({thin})")
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=90)
    return Image(png.getvalue(), format="png")


def _points(run, records, kind):
    """(epochs, values as they are shown); of "train" the means of some records each, so that there are not too many."""
    records = _of_kind(run, records, kind)
    size = -(-len(records) // POINTS) if kind == "train" else 1
    parts = [records[start : start + size] for start in range(0, len(records), max(1, size))]
    epochs = [part[-1]["step"] / run.steps * run.config.schedule.epochs for part in parts]
    means = [sum(record[run.measure.name] for record in part) / len(part) for part in parts]
    return epochs, [scaled(run.measure, mean) for mean in means]


def _of_kind(run, records, kind):
    """The records of a kind that have the measure: those of training may not."""
    return [record for record in records if record["kind"] == kind and record.get(run.measure.name) is not None]
