"""The files of a sweep's folder: what they may hold, and how they are read. Anybody may have made them."""

import csv
import functools
import io
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field

from engine.errors import InputError
from engine.files import read_text
from engine.run.measure import TOP1_ERROR, Measure, columns, value_type
from engine.run.schema import (
    Count,
    FolderName,
    Number,
    Seconds,
    Text,
    checked,
    parse_json,
    read_mapping,
    read_records,
)
from engine.terminal import printable, shortened

SWEEP_FILE, RESULTS_FILE, SESSIONS_FILE = "sweep.yaml", "results.csv", "sessions.jsonl"  # in a sweep's folder
FAILED_FILE, ENVIRONMENT_FILE = "failed.txt", "env.json"  # in a run's: the last lines of one that failed; where it ran
NORM, IMAGES, SEED = "model.norm", "batch.images_per_worker", "seed"
GROUPS, CHANNELS = "model.norm_groups", "model.norm_channels_per_group"
MODEL, DEPTH, STANDARDIZED = "model.name", "model.depth", "model.weight_standardization"
PRETRAINED, FROZEN = "pretrained", "model.frozen"
FRAMES = "data.frames"
DEFORMABLE, VERSION, DILATED = "model.deformable_stages", "model.deformable_version", "model.dilated_stages"
POOLING, OFFSET_RATE = "model.roi_pooling", "optimizer.offset_lr_multiplier"
ROI_OFFSET_RATE = "optimizer.roi_offset_lr_multiplier"
STATES = ("finished", "failed", "stopped", "waiting")
MOST_RUNS = 10_000  # of a sweep
MOST_MEASURES = 50
SAME_AS = {NORM: "norm", IMAGES: "images_per_worker", SEED: "seed"}  # axes whose value stands in another column too


def _plain(value):
    """Numbers, texts and null, and lists and mappings of them."""
    if isinstance(value, dict):
        return {printable(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError(f"expected numbers, texts, lists and mappings, found {type(value).__name__}")


def _scalar(value):
    if isinstance(value, list | dict):
        raise ValueError("expected a number or a text")
    return _plain(value)


def _stages(value, pattern=r"c\d"):
    if not (value is None or isinstance(value, list) and all(re.fullmatch(pattern, str(stage)) for stage in value)):
        raise ValueError("expected a list of stages such as c5")
    return value


def _moment(text):
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError("expected a moment such as 2026-01-31T12:00:00") from None
    return text


Axis = Annotated[str, Field(pattern=r"^\w+(\.\w+)*$", max_length=100)]


class _Measure(pydantic.BaseModel):
    """A `Measure`, as a folder may describe it."""

    name: Annotated[str, Field(pattern=r"^\w+$", max_length=40)]
    words: Annotated[Text, Field(min_length=1, max_length=40)]  # the title of a figure has room for so many
    percent: bool
    lower_is_better: bool


DescribedMeasure = Annotated[_Measure, AfterValidator(lambda said: Measure(**said.model_dump()))]


class Description(pydantic.BaseModel):
    """What sweep.yaml holds."""

    name: Text
    file: Text
    measure: DescribedMeasure = TOP1_ERROR
    more_measures: Annotated[list[DescribedMeasure], Field(max_length=MOST_MEASURES)] = []
    title: Text | None = None
    figures: list[Text]
    statistic: Literal["median_last_5", "last"]
    axes: list[dict[Axis, list[Any] | dict[Text, dict[Axis, Any]]]]  # values of a config key, or sets of them by name
    config: Annotated[dict[str, Any], AfterValidator(_plain)]

    @pydantic.model_validator(mode="after")
    def _known_values(self):
        for key in (DEFORMABLE, DILATED):
            _stages(self.value(key))
        _stages(self.value(FROZEN), r"stem|c\d")
        columns_of_all = row_type(self.measures).model_fields
        if strange := [axis for axis in self.keys if axis in columns_of_all and axis != SEED]:
            raise ValueError(f"axes: {strange[0]} is no config key")
        return self

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All that tell how good a run is, the headline first."""
        return (self.measure, *self.more_measures)

    @property
    def keys(self) -> list[str]:
        """The axes, and the config keys that their sets of values have."""
        return list(dict.fromkeys([*(axis for grid in self.axes for axis in grid), *self.in_sets]))

    @property
    def names(self) -> list[str]:
        """The axes whose values are names of sets."""
        return list(dict.fromkeys(axis for axis, choices in self._choices if isinstance(choices, dict)))

    def names_with(self, key: str) -> list[str]:
        """Those of them that have a set with this config key."""
        return list(dict.fromkeys(axis for axis, choices in self._choices if isinstance(choices, dict)
                                  and any(key in values for values in choices.values())))

    @property
    def in_sets(self) -> list[str]:
        """The config keys that such sets have."""
        sets = [values for _, choices in self._choices if isinstance(choices, dict) for values in choices.values()]
        return list(dict.fromkeys(key for values in sets for key in values))

    @property
    def _choices(self):
        return [item for grid in self.axes for item in grid.items()]

    def value(self, key: str) -> Any:
        """The value that all runs share of a dotted config key; None where there is none."""
        return value_at(self.config, key)


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    value = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


class Row(pydantic.BaseModel):
    """A run's line of results.csv, axes and measures apart."""

    run: FolderName
    state: Literal[STATES]
    protocol: Text | None
    norm: Text | None  # these three and the statistics are None of a network that has none
    norm_groups: Count | None
    norm_channels_per_group: Count | None
    images_per_worker: Annotated[int, Field(ge=1, lt=10**9)]
    workers: Count | None
    images_per_step: Count | None
    lr: Number | None
    epochs: Count | None
    steps: Count | None
    evaluation_statistics: Text | None
    seed: int
    best_epoch: Count | None
    parameters: Count | None
    multiply_adds: Count | None = None  # the first sweeps did not count them
    train_seconds: Seconds | None


@functools.cache
def row_type(measures: tuple[Measure, ...]) -> type[Row]:
    """A Row with the columns of these measures."""
    fields = {column: (value_type(measure) | None, ...) for measure in measures for column in columns(measure)}
    return pydantic.create_model("Row", __base__=Row, **fields)


class Session(pydantic.BaseModel):
    """A line of sessions.jsonl: what one tools/sweep.py did."""

    model_config = pydantic.ConfigDict(extra="allow")
    started: Annotated[str, AfterValidator(_moment)]
    seconds: Seconds
    processes: Annotated[int, Field(ge=0, lt=10**6)]
    arguments: list[Text] | None = None


def read_sweep_file(folder: Path) -> Description:
    """sweep.yaml. Raises InputError, one line, where it is missing or damaged."""
    path = folder / SWEEP_FILE
    if not path.exists():
        raise InputError(f"{path}: no such file; expected the folder of a sweep, which tools/sweep.py makes")
    return checked(Description, read_mapping(path), path)


def read_sessions(folder: Path) -> list[Session]:
    """sessions.jsonl; nothing where there is none. Raises InputError."""
    path = folder / SESSIONS_FILE
    return list(read_records(path, Session)) if path.exists() else []


def read_environment(folder: Path, keys: Iterable[str]) -> dict[str, Any]:
    """These of the facts in a run's env.json; none where there is no such file. Raises InputError."""
    path = folder / ENVIRONMENT_FILE
    if not path.exists():
        return {}
    scalar = Annotated[Any, AfterValidator(_scalar)]
    model = pydantic.create_model("Environment", **dict.fromkeys(keys, (scalar, None)))
    return checked(model, parse_json(read_text(path), path), path).model_dump()


def read_results(folder: Path, file: Description) -> list[dict]:
    """The rows of results.csv: numbers are numbers, what is empty is None, an axis has its value in effect.

    Raises InputError, which names the line.
    """
    path = folder / RESULTS_FILE
    reader = csv.DictReader(io.StringIO(read_text(path, "no such file; tools/sweep.py writes it"), ""), strict=True)
    needed = [name for name, field in row_type(file.measures).model_fields.items() if field.is_required()]
    runs = []
    try:
        if missing := [column for column in (*needed, *file.keys) if column not in (reader.fieldnames or ())]:
            raise InputError(f"{path}: has no column {missing[0]}")
        for row in reader:
            if len(runs) == MOST_RUNS:
                raise InputError(f"{path}: has more than {MOST_RUNS:,} runs")
            runs.append(_read_run(row, file, f"{path}: line {reader.line_num}: damaged"))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.reader.line_num}: damaged ({error})") from None
    return runs


def _read_run(row, file, where):
    if None in row or None in row.values():
        raise InputError(f"{where}: not as many values as the header has columns")
    if row["state"] not in STATES:
        raise InputError(f"{where}: state {printable(row['state'])}, expected one of {', '.join(STATES)}")
    try:
        run = row_type(file.measures).model_validate({key: text or None for key, text in row.items()}).model_dump()
        run |= {axis: run[column] for axis, column in SAME_AS.items()}
    except pydantic.ValidationError as failure:
        column = failure.errors()[0]["loc"][0]
        raise InputError(f"{where}: {column} is {_shown(row[column])}") from None
    if run["norm"] is None and row.get(NORM, file.value(NORM)) not in (None, "null"):
        raise InputError(f"{where}: norm is empty")
    for axis in file.keys:
        try:
            run[axis] = _axis_value(axis, row[axis], run)
        except ValueError as error:
            raise InputError(f"{where}: {axis} is {_shown(row[axis])}, {error}") from None
    for column in (*(f"{measure.name}_{file.statistic}" for measure in file.measures), "train_seconds"):
        if run["state"] == "finished" and run[column] is None:
            raise InputError(f"{where}: {column} is empty")
    return run


def _axis_value(axis, text, run):
    """The value in effect, of any type: JSON, or a text where that is none. Lists and such stay text, which hashes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if axis in SAME_AS:
        if str(_plain(value)) != str(run[SAME_AS[axis]]):
            raise ValueError(f"but {SAME_AS[axis]} is {_shown(str(run[SAME_AS[axis]]))}")
        return run[SAME_AS[axis]]
    if axis in (DEFORMABLE, DILATED):
        _stages(value)
    if axis == FROZEN:
        _stages(value, r"stem|c\d")
    if axis in (GROUPS, CHANNELS, VERSION) and not (value is None or type(value) is int and 0 < value < 10**9):
        raise ValueError("expected a whole number")
    if value != value:  # nothing is found again that is not what it is
        return text
    return _plain(json.dumps(value) if isinstance(value, list | dict) else value)


def _shown(text):
    """A cell as an error shows it."""
    return shortened(printable(text), 60) or "empty"
