"""The record of a run: log lines, metrics.jsonl and VisualDL's view of it.

metrics.jsonl holds what the computation gave and nothing that a clock gave, so that a run that was killed and
resumed leaves the same bytes as one that was not. Speeds go to train.log, VisualDL and result.json.
"""

import contextlib
import errno
import json
import logging
import math
import os
import struct
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from paddle import nn
from PIL import Image
from tqdm.auto import tqdm
from visualdl import LogWriter

from engine.config import Config
from engine.environment import is_watched
from engine.errors import DiskError, InputError
from engine.files import check_ordinary, ordinary, sync, sync_names, writing, written_whole
from engine.run.measure import Measure
from engine.run.result import METRICS_FILE, SAMPLES_FILE
from engine.terminal import printable

LOG_FILE, VISUALDL_FOLDER = "train.log", "vdl"  # in a run's folder
VISUALDL_FILE = "vdlrecords.train.log"  # one name for ever: VisualDL shows only the newest file of a folder
SHOWN_FIRST = ("batch", "model", "seed", "optimizer", "schedule")  # of the hyper-parameter view's columns
NOT_SHOWN = ("name", "output", "record", "checkpoint", "reading", "expect")


def _flat(values, at=""):
    """(a/b, value) for {a: {b: value}}. With a dot between, the dashboard's table would leave the cell empty."""
    for name, value in values.items():
        yield from _flat(value, f"{at}{name}/") if isinstance(value, dict) else [(at + name, value)]


def _axes(config):
    """{key: value} of what the name of a sweep's run says, such as norm=bn,seed=0; in order, as texts."""
    parts = [part.partition("=") for part in config.name.rpartition("/")[2].split(",")]
    return {key: value for key, equals, value in parts if equals}


def _shown_name(config):
    """The run's name in the dashboard, which has room for some 15 letters of it: the values first.

    quick/norm=bn,images_per_worker=2 becomes "bn, 2 (norm, images_per_worker; quick; begun …)". Without the time, a run
    and an older one that was moved aside would be one to VisualDL.
    """
    sweep, _, run = config.name.rpartition("/")
    axes = _axes(config)
    more = [", ".join(axes), sweep, time.strftime("begun %Y-%m-%d %H:%M:%S")]
    return f"{', '.join(axes.values()) or run} ({'; '.join(filter(None, more))})"


def _hyper_parameters(config):
    """{key: value} for the dashboard: every value, or in a sweep, for its views are for few, what its axes are."""
    dump = config.model_dump(mode="json")
    sections = {name: dump.pop(name) for name in SHOWN_FIRST} | dump
    values = {
        key: value if type(value) in (int, float) else str(value)
        for key, value in _flat(sections) if value is not None and not key.startswith(NOT_SHOWN)
    }
    names = {"/" + axis.replace(".", "/"): text for axis, text in _axes(config).items()}
    varied = {key: value for key, value in values.items() if f"/{key}".endswith(tuple(names))}
    for key in varied:
        names = {end: text for end, text in names.items() if not f"/{key}".endswith(end)}
    sets = {end.removeprefix("/"): text for end, text in names.items()}  # of values, which are no keys
    return {**sets, **varied} if varied else values


class _VisualDLFile:
    """A file of VisualDL's records: each its length in eight bytes, then itself."""

    def __init__(self, path: Path):
        self.path = path
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            self.file = open(path, "ab", opener=ordinary)  # noqa: SIM115
        sync_names(path.parent)

    def get_filename(self):
        return str(self.path)

    def add_record(self, record):
        content = record.SerializeToString()
        with writing(self.path):
            self.file.write(struct.pack("<Q", len(content)) + content)
            self.file.flush()  # the dashboard looks on

    def flush(self):
        pass

    def close(self):
        _close(self.file)


class _VisualDLWriter(LogWriter):
    """VisualDL's writer without its thread, which drops what a full disk refuses and goes on behind half a record."""

    def _get_file_writer(self):
        if self._file_writer is None:
            self._file_writer = _VisualDLFile(Path(self._logdir) / self._file_name)
            self._all_writers[self._logdir] = self._file_writer
        return self._file_writer


class _LogFile(logging.FileHandler):
    """A log file that says when it cannot be written."""

    def _open(self):
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=ordinary)

    def handleError(self, record):  # noqa: N802
        raise  # noqa: PLE0704  logging calls this where it has caught the error

    def close(self):
        with contextlib.suppress(OSError):  # as _close
            super().close()


def _show(text):
    """Print a line, above a bar where there is one; a terminal that was closed is no reason to stop."""
    try:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # which ends a command
        raise
    except OSError as error:
        if error.errno != errno.EIO:
            raise DiskError(error.errno, error.strerror, "standard output") from error


def _close(file):
    """Close a file; what a full disk refused was told when it was written, and is refused here once more."""
    with contextlib.suppress(OSError):
        file.close()


def check_record_files(folder: Path) -> None:
    """Raise InputError where a file that a record writes to, in a folder of anybody's make, leads elsewhere."""
    if (folder / VISUALDL_FOLDER).is_symlink():
        raise InputError(f"{folder / VISUALDL_FOLDER}: is a link; expected a folder, to write in")
    for name in (METRICS_FILE, LOG_FILE, f"{VISUALDL_FOLDER}/{VISUALDL_FILE}"):
        check_ordinary(folder / name)


class RunRecord:
    """Writes what happens in a run, from `position` of an earlier part of it on; on ranks other than 0 nothing.

    `position` is what `self.position()` gave at the checkpoint that is resumed from: lines and curve points behind it
    are cut off, for they will be made again.
    """

    def __init__(self, folder: Path, rank: int = 0, position: dict[str, int] | None = None):
        self.folder, self.active = folder, rank == 0
        self.bar = None
        if not self.active:
            return
        position = position or {"metrics": 0, "visualdl": 0}
        check_record_files(folder)
        self._metrics_path = folder / METRICS_FILE
        self._visualdl_path = folder / VISUALDL_FOLDER / VISUALDL_FILE
        for path, size in ((self._metrics_path, position["metrics"]), (self._visualdl_path, position["visualdl"])):
            if path.exists():
                with writing(path), open(path, "ab", opener=ordinary) as file:
                    file.truncate(min(size, file.seek(0, os.SEEK_END)))
        with writing(self._metrics_path):
            self._metrics = open(self._metrics_path, "a", encoding="utf-8", opener=ordinary)  # noqa: SIM115
        self.visualdl = _VisualDLWriter(str(folder / VISUALDL_FOLDER), file_name=VISUALDL_FILE)
        self._log_path = folder / LOG_FILE
        self._log = logging.Logger("run")
        with writing(self._log_path):
            self._log.addHandler(_LogFile(self._log_path, encoding="utf-8"))
        for handler in self._log.handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def log(self, text: str, *, screen: bool = True) -> None:
        """A line for train.log and, unless a progress bar says the same, for the screen."""
        if self.active:
            text = printable(text)
            with writing(self._log_path):
                self._log.info(text)
            if screen or self.bar is None or self.bar.disable:
                _show(text)

    def log_lines(self, lines: Iterable[str]) -> None:
        """Each of them, with its own time."""
        for line in lines:
            self.log(line)

    def progress_bar(self, total: int, done: int, text: str) -> tqdm:
        """A bar where there is a terminal or a notebook; elsewhere the log lines are enough."""
        shown = self.active and is_watched()
        self.bar = tqdm(total=total, initial=done, desc=text, unit="step", leave=False, disable=not shown)
        return self.bar

    def metrics(self, kind: str, scalars: dict[str, float] | None = None, /, **values: float) -> None:
        """One line of metrics.jsonl. Its floats, and `scalars` for the eye only, go to VisualDL as kind/name.

        What comes once an epoch stands over epochs there: over steps, runs of different batch sizes would not overlay.
        """
        if not self.active:
            return
        # An overflow that mixed precision steps over leaves a norm that JSON has no word for.
        line = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        with writing(self._metrics_path):
            self._metrics.write(json.dumps({"kind": kind, **line}) + "\n")
            self._metrics.flush()  # a sweep looks on
        shown = {name: value for name, value in values.items() if isinstance(value, float)} | (scalars or {})
        for name, value in shown.items():
            self.visualdl.add_scalar(f"{kind}/{name}", value, step=values["step" if kind == "train" else "epoch"])

    def position(self) -> dict[str, int] | None:
        """Have both records on the disk, and say where they end."""
        if not self.active:
            return None
        for path in (self._metrics_path, self._visualdl_path):
            with writing(path):
                sync(path)
        return {"metrics": self._metrics_path.stat().st_size, "visualdl": self._visualdl_path.stat().st_size}

    def begin(self, config: Config, measures: Sequence[Measure]) -> None:
        """Once a run, for VisualDL: its name, its values and what judges it, the headline first."""
        if not self.active:
            return
        self.visualdl.add_meta("name", _shown_name(config))  # a tag of its own: of one tag only the first is read
        names = [measure.name for measure in measures]
        judged = [*(f"eval/{name}" for name in names), "eval/loss", f"epoch/{names[0]}"]  # what is not there, it drops
        self.visualdl.add_hparams(_hyper_parameters(config), judged)

    def histograms(self, model: nn.Layer, step: int) -> None:
        if self.active:
            for name, parameter in model.named_parameters():
                # Before the slash stands a group of charts: the dashboard opens one, and is slow with hundreds at once.
                block, *rest = f"weights.{name}".rsplit(".", 2)
                # In float32 there is no room for bins where all values lie within a few bits of each other.
                values = parameter.numpy().astype("float64").ravel()
                self.visualdl.add_histogram(f"{block}/{'.'.join(rest)}", values, step=step)

    def pictures(self, pictures: Mapping[str, np.ndarray], step: int) -> None:
        """{tag: uint8 [H, W, 3]} for VisualDL's image view."""
        if self.active:
            for tag, picture in pictures.items():
                self.visualdl.add_image(tag, picture, step=step)

    def keep(self, picture: np.ndarray) -> None:
        """uint8 [H, W, 3], of sample images with their answers, in the place of an earlier evaluation's."""
        if self.active:
            # Colours of every pixel: so halves of whole blocks stay equal where they are.
            with written_whole(self.folder / SAMPLES_FILE) as part:
                Image.fromarray(picture).save(part, format="JPEG", quality=90, subsampling=0)

    def offsets(self, pictures: Mapping[str, np.ndarray], lengths: Mapping[str, float], step: int) -> None:
        """What deformable layers look at, as `sample_offsets` gives it: for the eye only, so not in metrics.jsonl."""
        self.pictures(pictures, step)
        if self.active:
            for tag, length in lengths.items():
                self.visualdl.add_scalar(tag, length, step=step)

    def close(self) -> None:
        if self.active:
            _close(self._metrics)
            self.visualdl.close()
            for handler in self._log.handlers:
                handler.close()
