"""A sweep's folder, read: its runs, the settings whose seeds they are, and lines of settings along an axis."""

import csv
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pydantic

from engine.config.yaml_text import read_yaml
from engine.errors import InputError
from engine.result import read_metrics

SWEEP_FILE, RESULTS_FILE, SESSIONS_FILE = "sweep.yaml", "results.csv", "sessions.jsonl"  # in a sweep's folder
FAILED_FILE = "failed.txt"  # in a run's folder: the last lines of a run that failed
NORM, IMAGES, SEED = "model.norm", "batch.images_per_worker", "seed"
GROUPS, CHANNELS = "model.norm_groups", "model.norm_channels_per_group"
RUNNING = "model.bn_running_statistics"
DEFORMABLE, VERSION, DILATED = "model.deformable_stages", "model.deformable_version", "model.dilated_stages"
CONVOLUTION = (DEFORMABLE, VERSION, DILATED)  # together they say what kind the 3x3 convolutions are

NORMS = {  # in the order of the paper's table 1
    "bn": "BN", "ln": "LN", "in": "IN", "gn": "GN", "sync_bn": "SyncBN", "frozen_bn": "FrozenBN", "none": "no norm",
}
ONLY_OF = {  # values that matter to one kind of norm
    GROUPS: ("gn",), CHANNELS: ("gn",), RUNNING: ("bn",), "bn_precise_images": ("bn",),
    "model.bn_momentum": ("bn", "sync_bn"),
}
AXIS_TEXT = {  # how a label says a value; other axes say key=value
    NORM: NORMS.get,
    IMAGES: lambda n: f"{n} image{'s' * (n != 1)} per worker",
    GROUPS: "G = {}".format,
    CHANNELS: lambda n: f"{n} channel{'s' * (n != 1)} per group",
    RUNNING: {"first": "first worker", "mean": "mean of workers", "precise": "precise"}.get,
    "model.depth": "ResNet-{}".format,
    "model.width": "width {}".format,
    "data.warp": "warp {}".format,
    "batch.protocol": "protocol {}".format,
    "schedule.epochs": "{} epochs".format,
}
STATES = ("finished", "failed", "stopped", "waiting")
TEXTS = ("run", "state", "protocol", "norm", "evaluation_statistics")
NUMBERS = (
    "norm_groups", "norm_channels_per_group", "images_per_worker", "workers", "images_per_step", "lr", "epochs",
    "steps", "seed", "top1_error_median_last_5", "top1_error_last", "top1_error_best", "best_epoch", "parameters",
    "train_seconds",
)
LATER = ("multiply_adds",)  # columns that the first sweeps did not have; also numbers
ALWAYS = ("norm", "images_per_worker", "seed")  # a run has these before it begins


class Description(pydantic.BaseModel):
    """What sweep.yaml holds."""

    name: str
    file: str
    title: str | None = None
    figures: list[str]
    statistic: Literal["median_last_5", "last"]
    axes: list[dict[str, list[Any]]]
    config: dict[str, Any]


class Average(NamedTuple):
    """Over seeds. `deviation` is the sample standard deviation, None of one seed."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Setting:
    """The runs that differ in nothing but their seed. `values`: by axis; of ONLY_OF, None where it means nothing."""

    values: dict[str, Any]
    runs: list[dict]

    @cached_property
    def finished(self) -> list[dict]:
        """One run a seed."""
        return list({run["seed"]: run for run in reversed(self.runs) if run["state"] == "finished"}.values())[::-1]

    @property
    def seeds(self) -> int:
        """How many there would be if all had finished."""
        return len({run["seed"] for run in self.runs})

    def average(self, column) -> Average | None:
        return average([run[column] for run in self.finished])


@dataclass(frozen=True)
class Line:
    """Settings that differ in one axis only, by its value."""

    label: str
    norm: str
    settings: dict[Any, Setting]


@dataclass(frozen=True)
class SweepResults:
    folder: Path
    file: Description
    runs: list[dict]  # rows of results.csv: numbers are numbers, what is empty is None; see also `_axis_value`

    @property
    def statistic(self):
        """The column of results.csv that is a run's error."""
        return f"top1_error_{self.file.statistic}"

    @cached_property
    def axes(self) -> dict[str, list]:
        """Every axis but the seed, with the values that the runs have; norm and images per worker are always there."""
        keys = dict.fromkeys([NORM, *(key for grid in self.file.axes for key in grid if key != SEED), IMAGES])
        values = {key: list(dict.fromkeys(self._value_of(run, key) for run in self.runs)) for key in keys}
        values[NORM].sort(key=list(NORMS).index)
        values[IMAGES].sort(reverse=True)
        return values

    @cached_property
    def settings(self) -> list[Setting]:
        """In the order of the axes: norms as in the paper, images per worker from many to few, others as given."""
        runs = {}
        for run in self.runs:
            runs.setdefault(tuple(self._value_of(run, key) for key in self.axes), []).append(run)

        def place(values):
            return [order.index(value) for value, order in zip(values, self.axes.values(), strict=True)]

        return [Setting(dict(zip(self.axes, key, strict=True)), runs[key]) for key in sorted(runs, key=place)]

    def _value_of(self, run, key):
        meaningless = (
            run["norm"] not in ONLY_OF.get(key, NORMS)
            or key == GROUPS and run["norm_channels_per_group"]
            or key == VERSION and run.get(DEFORMABLE) == "[]"
        )
        return None if meaningless else run[key]

    def values(self, key) -> list:
        """The values of a config key in the whole sweep: an axis's, or the one that all runs share."""
        if key in self.axes:
            return self.axes[key]
        value = self.file.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return [value]

    def varied(self, key) -> list:
        """The values of an axis; none where all settings that it matters to have the same."""
        settings = [setting for setting in self.settings if setting.values[NORM] in ONLY_OF.get(key, NORMS)]
        values = list(dict.fromkeys(setting.values[key] for setting in settings))
        return values if values[1:] else []

    def label(self, setting, without: Iterable[str] = ()) -> str:
        """The norm, and what else tells this setting from others, such as `GN, G = 16`."""
        parts = []
        for key in self.axes:
            value = setting.values[key]
            if key in CONVOLUTION:
                kind = self.convolution(setting)
                if key not in without and kind not in parts:
                    parts.append(kind)
                continue
            meaningless = value is None and key in ONLY_OF
            if not meaningless and key not in without and (key == NORM or self.varied(key)):
                text = AXIS_TEXT[key](value) if key in AXIS_TEXT else None
                plain = value if isinstance(value, str) else json.dumps(value)
                parts.append(text or f"{key.rpartition('.')[2]}={plain}")
        return ", ".join(parts)

    def convolution(self, setting) -> str:
        """What kind the 3x3 convolutions are, such as `plain`, `dilated in c5`, `DCNv2 in c3–c5`."""
        deformable, version, dilated = (setting.values.get(key, self.values(key)[0]) for key in CONVOLUTION)
        kinds = ((f"DCNv{version}" if version else "DCN", deformable), ("dilated", dilated))
        parts = [f"{name} in {_span(stages)}" for name, stages in kinds if stages not in (None, [], "[]")]
        return ", ".join(parts) or "plain"

    def lines(self, along: str, among: list[Setting] | None = None) -> list[Line]:
        """Settings put together into lines along one axis: nothing but that axis differs within a line."""
        lines = {}
        for setting in self.settings if among is None else among:
            rest = tuple(value for key, value in setting.values.items() if key != along)
            line = lines.setdefault(rest, Line(self.label(setting, [along]), setting.values[NORM], {}))
            line.settings[setting.values[along]] = setting
        return list(lines.values())

    def rivals(self, setting) -> dict[str, Setting]:
        """BN in otherwise the same setting, by how it is called. Several where BN itself was varied."""
        own = [NORM, *ONLY_OF]
        common = {key: value for key, value in setting.values.items() if key not in own}
        return {
            self.label(other, common): other
            for other in self.settings
            if other.values[NORM] == "bn" and common.items() <= other.values.items()
        }

    def curve(self, setting, kind) -> tuple[list, list[Average]]:
        """The epochs, and the error in each over the seeds. kind: "epoch" is training, "eval" validation."""
        curves = [self._curve(run, kind) for run in setting.finished]
        epochs = sorted(set.intersection(*map(set, curves))) if curves else []
        return epochs, [average([curve[epoch] for curve in curves]) for epoch in epochs]

    def _curve(self, run, kind):
        folder = self.folder / run["run"]
        try:
            return {record["epoch"]: float(record["top1_error"]) for record in read_metrics(folder, kind)}
        except (OSError, KeyError, TypeError) as error:
            raise InputError(f"{folder / 'metrics.jsonl'}: missing or damaged ({error!r})") from None

    def environments(self) -> dict[str, dict]:
        """env.json of the finished runs that have one, by run."""
        paths = {run["run"]: self.folder / run["run"] / "env.json" for run in self.runs if run["state"] == "finished"}
        return {run: _json(path.read_text(encoding="utf-8"), path) for run, path in paths.items() if path.exists()}

    def sessions(self) -> list[dict]:
        path = self.folder / SESSIONS_FILE
        return [_json(line, path) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _span(stages):
    """`c3–c5` of c3, c4 and c5: a list, or its text in results.csv."""
    stages = json.loads(stages) if isinstance(stages, str) else stages
    numbers = sorted(int(stage.lstrip("c")) for stage in stages)
    if numbers[1:] and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"c{numbers[0]}–c{numbers[-1]}"
    return ", ".join(f"c{number}" for number in numbers)


def average(values: list[float]) -> Average | None:
    if not values:
        return None
    return Average(statistics.fmean(values), statistics.stdev(values) if values[1:] else None, len(values))


def read_sweep(folder: Path) -> SweepResults:
    """Read sweep.yaml and results.csv. Raises InputError, one line, where they are missing or damaged."""
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the folder of a sweep, which tools/sweep.py makes")
    try:
        file = Description.model_validate(read_yaml(path))
    except pydantic.ValidationError as failure:
        error = failure.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, error['loc']))}: {error['msg']}") from None
    return SweepResults(folder, file, _read_results(folder / RESULTS_FILE, file))


def _read_results(path, file):
    axes = dict.fromkeys(key for grid in file.axes for key in grid)
    try:
        with open(path, encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            if missing := [column for column in (*TEXTS, *NUMBERS, *axes) if column not in (reader.fieldnames or ())]:
                raise InputError(f"{path}: has no column {missing[0]}")
            return [_read_run(row, axes, f"top1_error_{file.statistic}", f"{path}: line {reader.line_num}")
                    for row in reader]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; tools/sweep.py writes it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: damaged ({error})") from None


def _read_run(row, axes, statistic, where):
    if None in row or None in row.values():
        raise InputError(f"{where}: damaged: not as many values as the header has columns")
    run = dict.fromkeys(LATER) | {key: _value(text) for key, text in row.items()}
    run |= {key: row[key] or None for key in TEXTS}
    run |= {NORM: run["norm"], IMAGES: run["images_per_worker"]} | {axis: _axis_value(row[axis]) for axis in axes}
    if run["state"] not in STATES:
        raise InputError(f"{where}: damaged: state {run['state']}, expected one of {', '.join(STATES)}")
    needed = (*ALWAYS, statistic, "train_seconds") if run["state"] == "finished" else ALWAYS
    for column in (*NUMBERS, *LATER, *needed):
        if run[column] is None and column not in needed or column == "norm" and run[column] in NORMS:
            continue
        if not isinstance(run[column], int | float) or not math.isfinite(run[column]):
            raise InputError(f"{where}: damaged: {column} is {row[column] or 'empty'}")
    return run


def _value(text):
    """A number where the text is one, None where it is empty."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text or None


def _axis_value(text):
    """The value in effect, of any type: JSON, or a text where that is none. Lists and such stay text, which hashes."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def _json(text, path):
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error})") from None
