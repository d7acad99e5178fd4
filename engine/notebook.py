"""Train from a notebook's cell: a command of tools/ as a process of its own, with a bar and curves while it works.

Nothing is trained here. Interrupting the cell stops the command, which saves; running the cell again goes on from
there, and is over in seconds where all is done. An error is one line under the cell, and the cells after it wait.

Paths are relative to the working directory; a notebook's first cell makes that the project's folder. The notebooks of
this project take two environment variables: NOTEBOOK_MODE (short or full) and NOTEBOOK_OUTPUT (the folder for
runs, "output" unless set).
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from data import DataError
from data.orphans import end_with_parent
from engine.build import build_data, build_loaders
from engine.config import load_config
from engine.errors import InputError
from engine.notebook_view import View, WatchedRun
from engine.report.page import results_text
from engine.run.folder import in_folder, run_folder
from engine.run.result import read_result, result_text
from engine.sweep.definition import load_sweep
from engine.sweep.plan import make_plans
from engine.terminal import one_line

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_LOOKS = 2.0
LAST_LINES = 15  # shown of a command that ended with a bug


class Failed(Exception):
    """A command did not come to its end. Jupyter shows its words only, no traceback."""

    def _render_traceback_(self):
        return [str(self)]


def train(config: str | Path, *overrides: str) -> Path:
    """Train what the YAML file `config` describes, with `overrides` ("key=value") over it; returns the run's folder.

    A run that is there already continues (`tools/train.py -r auto`). Raises Failed.
    """
    with _in_one_line():
        one = load_config(config, overrides)
        one = in_folder(one, run_folder(config, one, overrides))
        loader, _ = build_loaders(one, *build_data(one))
    steps = loader.steps_per_epoch * one.schedule.epochs
    _watch("tools/train.py", [*_options(config, overrides), "-r", "auto"], one.name, [WatchedRun(one.name, one, steps)])
    with _in_one_line():
        print(result_text(one, read_result(one.folder)))
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
        with View(title, runs) as view, _process(tool, arguments, printed) as process:
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
