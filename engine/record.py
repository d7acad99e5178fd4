"""The record of a run: its folder, log lines, metrics.jsonl and VisualDL's view of it.

metrics.jsonl holds what the computation gave and nothing that a clock gave, so that a run that was killed and
resumed leaves the same bytes as one that was not. Speeds go to train.log, VisualDL and result.json.
"""

import contextlib
import dataclasses
import io
import json
import logging
import math
import os
import sys
from pathlib import Path

import yaml
from tqdm.auto import tqdm
from visualdl import LogWriter

from engine.config import Config, read_yaml
from engine.environment import describe
from engine.errors import InputError

VISUALDL_FILE = "vdlrecords.train.log"  # one name for ever: VisualDL shows only the newest file of a folder


PREPARATION_FILE = "preparation.json"  # class names and how a picture becomes an input


def write_preparation(folder: Path, preparation) -> None:
    """What inference needs beside the weights."""
    text = json.dumps(dataclasses.asdict(preparation), indent=2, ensure_ascii=False)
    write_text(folder / PREPARATION_FILE, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


FIXED = ("seed", "model", "data", "batch", "ema_decay", "optimizer.name")  # what a run cannot change on its way,
FREE = ("data.root", "batch.workers_per_pass")  # but for where the data lie and what memory there is


def check_folder(config: Config, *, resume: bool) -> list[str]:
    """Raise InputError where the run's folder holds a run and `resume` is False, or a run that is not this one.

    Returns what may differ and does, as texts.
    """
    written = config.folder / "config.yaml"
    if not written.exists():
        return []
    if not resume:
        raise InputError(f"{config.folder}: already holds a run; continue it with -r auto, or choose -o name=...")
    before, now = read_yaml(written), yaml.safe_load(config.to_yaml())
    changes = []
    for key, was, is_now in _differences(before, now):
        if key.startswith(FIXED) and key not in FREE:
            raise InputError(f"{config.folder}: its run has {key}: {was}, this config {is_now}; choose -o name=...")
        changes.append(f"changed since it began: {key}: {was} -> {is_now}")
    return changes


def make_folder(config: Config, preparation) -> None:
    """Make the run's folder with config.yaml, env.json and preparation.json."""
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
        write_text(config.folder / "config.yaml", config.to_yaml())
        write_text(config.folder / "env.json", json.dumps(describe(), indent=2) + "\n")
        write_preparation(config.folder, preparation)
    except OSError as error:
        raise InputError(f"{config.folder}: cannot be written ({error.strerror})") from None


def _differences(before, now, at=()):
    """(dotted key, before, now) of every value that differs."""
    if isinstance(now, dict):
        before = before if isinstance(before, dict) else {}
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), (*at, key))
    elif before != now:
        yield ".".join(at), before, now


class RunRecord:
    """Writes what happens in a run, from `position` of an earlier part of it on; on ranks other than 0 nothing.

    `position` is what `self.position()` gave at the checkpoint that is resumed from: lines and curve points behind it
    are cut off, for they will be made again.
    """

    def __init__(self, folder: Path, rank=0, position=None):
        self.folder, self.active = folder, rank == 0
        self.bar = None
        if not self.active:
            return
        position = position or {"metrics": 0, "visualdl": 0}
        self._metrics_path = folder / "metrics.jsonl"
        self._visualdl_path = folder / "vdl" / VISUALDL_FILE
        for path, size in ((self._metrics_path, position["metrics"]), (self._visualdl_path, position["visualdl"])):
            if path.exists():
                os.truncate(path, min(size, path.stat().st_size))
        self._metrics = open(self._metrics_path, "a", encoding="utf-8")  # noqa: SIM115
        with contextlib.redirect_stdout(io.StringIO()):  # it announces that it appends
            self.visualdl = LogWriter(str(folder / "vdl"), file_name=VISUALDL_FILE)
        self._log = logging.Logger("run")
        self._log.addHandler(logging.FileHandler(folder / "train.log", encoding="utf-8"))
        for handler in self._log.handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def log(self, text, *, screen=True):
        """A line for train.log and, unless a progress bar says the same, for the screen."""
        if self.active:
            self._log.info(text)
            if screen or self.bar is None or self.bar.disable:
                tqdm.write(text, file=sys.stdout)
                sys.stdout.flush()

    def progress(self, total, done, text):
        """A bar where there is a terminal or a notebook; elsewhere the log lines are enough."""
        shown = self.active and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self.bar = tqdm(total=total, initial=done, desc=text, unit="step", leave=False, disable=not shown)
        return self.bar

    def metrics(self, kind, scalars=None, /, **values):
        """One line of metrics.jsonl. Its floats, and `scalars` for the eye only, go to VisualDL as kind/name."""
        if not self.active:
            return
        # An overflow that mixed precision steps over leaves a norm that JSON has no word for.
        line = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        self._metrics.write(json.dumps({"kind": kind, **line}) + "\n")
        shown = {name: value for name, value in values.items() if isinstance(value, float)} | (scalars or {})
        for name, value in shown.items():
            self.visualdl.add_scalar(f"{kind}/{name}", value, step=values["step"])

    def position(self):
        """Flush, and say where both records end."""
        if not self.active:
            return None
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        self.visualdl.flush()
        return {"metrics": self._metrics_path.stat().st_size, "visualdl": self._visualdl_path.stat().st_size}

    def begin(self, config: Config, text):
        """Once a run: where it starts from, and its values for VisualDL's hyper-parameter view."""
        self.log(text)
        if not self.active:
            return
        values = {}
        for key, _, value in _differences({}, config.model_dump(mode="json")):
            if value is not None:
                values[key] = value if type(value) in (int, float) else str(value)
        self.visualdl.add_hparams(values, ["eval/top1_error", "eval/loss", "epoch/top1_error"])

    def histograms(self, model, step):
        if self.active:
            for name, parameter in model.named_parameters():
                # In float32 there is no room for bins where all values lie within a few bits of each other.
                values = parameter.numpy().astype("float64").ravel()
                self.visualdl.add_histogram(f"weights/{name}", values, step=step)

    def pictures(self, pictures, step):
        """{tag: uint8 [H, W, 3]} for VisualDL's image view."""
        if self.active:
            for tag, picture in pictures.items():
                self.visualdl.add_image(tag, picture, step=step)

    def close(self):
        if self.active:
            self._metrics.close()
            self.visualdl.close()
            for handler in self._log.handlers:
                handler.close()
