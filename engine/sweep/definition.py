"""A sweep: a YAML file that says what varies, and the runs it stands for, a config each.

A sweep's file is a config, what all its runs share, with one more section:

    sweep:
      axes: {norm: [bn, gn], images_per_worker: [32, 2], seed: [0, 1, 2]}     # any keys of a config
      figures: [figure_1, table_2]                                            # of engine/report/drawings.py
"""

import copy
import difflib
import itertools
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BeforeValidator, PositiveInt

from engine.config import Config, Section, config_keys, make_config, merge_values, read_values
from engine.config.yaml_text import parse_value
from engine.errors import InputError
from engine.report.drawings import check_figures
from engine.report.records import MOST_RUNS, SEED
from engine.report.results import means_nothing
from engine.run.measure import Measure
from engine.tasks import task_of
from engine.terminal import shortened
from models.norm import described

LONGEST_NAME = 240  # bytes of a run's folder; file systems take 255, and one that is moved aside gets a number
SEPARATE = ("name", "output", "device")  # keys that are the runner's business, not an axis


def _as_list(value):
    return [value] if isinstance(value, dict) else value


class SweepSection(Section):
    # A grid, or several whose runs are put together: config key -> values.
    axes: Annotated[list[dict[str, list]], BeforeValidator(_as_list)]
    # Holes in the grids: axis -> the value, or the list of values, where there is no run; all of one entry must hold.
    without: Annotated[list[dict[str, Any]], BeforeValidator(_as_list)] = []
    figures: list[str] = []
    title: str | None = None
    statistic: Literal["median_last_5", "last"] = "median_last_5"  # of a run's evaluations; the paper's is the median
    devices_per_run: PositiveInt = 1  # more: paddle.distributed.launch starts a process for each
    max_runs: PositiveInt = 1000  # of the grids, their holes included: with more, one key too many is likelier


class SweepFile(Section):
    """A sweep's file as far as it is no config; that is checked with each run."""

    model_config = pydantic.ConfigDict(extra="ignore")
    sweep: SweepSection


@dataclass(frozen=True)
class Run:
    name: str  # of its folder, such as norm=gn,images_per_worker=2,seed=0
    values: dict  # axis (a dotted key) -> value
    config: Config

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What tells how good it is, the headline first."""
        return task_of(self.config.model.name).measures


@dataclass(frozen=True)
class Sweep:
    name: str
    folder: Path
    file: str  # the name of the YAML file
    section: SweepSection
    grids: list[dict[str, list]]  # the axes, their keys dotted
    runs: list[Run]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of all its runs, the headline first."""
        return self.runs[0].measures

    @property
    def axis_values(self) -> dict[str, list]:
        """Every axis with the values that its runs have."""
        values = {}
        for run in self.runs:
            for axis, value in run.values.items():
                if value not in values.setdefault(axis, []):
                    values[axis].append(value)
        return values

    @property
    def shared(self) -> dict:
        """The values that are the same in all runs."""
        return _common([run.config.model_dump(mode="json", exclude=set(SEPARATE)) for run in self.runs])

    def only(self, conditions: Iterable[str]) -> list[Run]:
        """The runs that meet all conditions `axis=value` or `axis=value,value`. Raises InputError."""
        runs = self.runs
        for condition in conditions:
            key, equals, choices = condition.partition("=")
            if not equals:
                raise InputError(f"--only {condition}: expected axis=value, for example --only norm=gn")
            axis = _full_key(key, list(self.axis_values), f"--only {condition}", "axis of this sweep")
            there = [_text_of(value) for value in self.axis_values[axis]]
            wanted = {choice: _as_in_name(choice, there) for choice in choices.split(",")}
            if strange := [choice for choice, value in wanted.items() if value not in there]:
                raise InputError(f"--only {condition}: {axis} is never {strange[0]}; expected {', '.join(there)}")
            runs = [run for run in runs if axis in run.values and _text_of(run.values[axis]) in wanted.values()]
        if not runs:
            raise InputError(f"--only {' '.join(conditions)}: no run of this sweep meets all of it")
        return runs


def load_sweep(path: str | Path, overrides: Iterable[str] = ()) -> Sweep:
    """Read a sweep's file and make the config of every run. Raises InputError, one line, before anything is done."""
    values, origins = read_values(path, overrides, (Config, SweepFile))
    if "sweep" not in values:
        raise InputError(f"{path}: has no section `sweep`, which says what varies; a single run is for tools/train.py")
    section = make_config(values, origins, path, SweepFile).sweep
    where = f"{path}: sweep.axes"
    grids = [_with_full_keys(grid, where) for grid in section.axes]
    _check_grids(grids, section.max_runs, where)
    axes = list(dict.fromkeys(axis for grid in grids for axis in grid))
    for override in overrides:
        key = override.partition("=")[0]
        if key in axes or any(axis.startswith(key + ".") for axis in axes):
            raise InputError(f"-o {key}: is an axis of this sweep, or holds one; choose among its values with --only")
    holes = [_hole(hole, grids, axes, f"{path}: sweep.without") for hole in section.without]
    del values["sweep"]
    runs = {}
    for chosen in itertools.chain.from_iterable(map(_points, grids)):
        if any(all(axis in chosen and chosen[axis] in there for axis, there in hole.items()) for hole in holes):
            continue
        name = _name(chosen, axes)
        if len(name.encode()) > LONGEST_NAME:
            raise InputError(f"{where}: {shortened(name, 80)} is too long a name for a run's folder")
        if name in runs:
            raise InputError(f"{where}: two runs would have the folder {name}")
        own, own_origins = copy.deepcopy(values), dict(origins)
        merge_values(own, _tree(chosen), where, own_origins)
        own["name"] = f"{values['name']}/{name}"
        runs[name] = Run(name, chosen, make_config(own, own_origins, path))
    if not runs:
        raise InputError(f"{path}: sweep.without: leaves no run")
    if len(runs) > MOST_RUNS:
        raise InputError(f"{where}: make {len(runs):,} runs; a sweep has {MOST_RUNS:,} at most")
    _check_measures(list(runs.values()), where)
    folder = next(iter(runs.values())).config.folder.parent
    sweep = Sweep(values["name"], folder, Path(path).name, section, grids, list(runs.values()))
    try:
        check_figures(section.figures, *_told_apart(sweep), sweep.measures)
    except InputError as error:
        raise InputError(f"{path}: sweep.{error}") from None
    return sweep


def _check_measures(runs, where):
    """Raise InputError where runs have different tasks: no figure could put an error beside a precision."""
    first = runs[0]
    for run in runs:
        if run.measures != first.measures:
            measured = " and ".join(f"{one.name} is measured by {one.measures[0].name}" for one in (first, run))
            raise InputError(f"{where}: {measured}; a sweep compares runs of one task")


def _told_apart(sweep):
    """(the values by axis, None where one would mean nothing to its run; how many settings there are, seeds apart)."""
    values, settings = {axis: [] for axis in sweep.axis_values}, set()
    for run in sweep.runs:
        norm = described(run.config.model)
        deformable = list(getattr(run.config.model, "deformable_stages", ()))
        others = norm["norm"], norm["norm_channels_per_group"], deformable
        own = {axis: None if means_nothing(axis, *others) else value for axis, value in run.values.items()}
        for axis, value in own.items():
            values[axis].append(value)
        settings.add(json.dumps({axis: value for axis, value in own.items() if axis != SEED}, sort_keys=True))
    return values, len(settings)


def _full_key(key, keys, where, kind) -> str:
    """The one of the dotted `keys` that `key` is, or is the last part of. Raises InputError."""
    found = [full for full in keys if full == key] or [full for full in keys if full.endswith("." + key)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{where}: {key} can be {' or '.join(found)}")
    ends = {full.rpartition(".")[2]: full for full in keys} | {full: full for full in keys}
    close = [ends[near] for near in difflib.get_close_matches(key, ends, n=1, cutoff=0.5)]
    close = close or [full for full in keys if re.search(rf"_{re.escape(key)}$", full)]
    raise InputError(f"{where}: {key} is no {kind}" + (f"; did you mean {close[0]}?" if close else ""))


def _text_of(value) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, list):
        return "+".join(map(_text_of, value)) or "none"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return re.sub(r"[^\w.+-]", "_", str(value))


def _as_in_name(text, there):
    """How a value that was typed, as a text or as a number such as 1e-2, stands in a folder's name."""
    if (as_text := _text_of(text)) in there:
        return as_text
    try:
        return _text_of(parse_value(text))
    except yaml.YAMLError:
        return text


def _with_full_keys(grid, where):
    keys = [key for key in config_keys() if key not in SEPARATE]
    full = {}
    for key, choices in grid.items():
        axis = _full_key(key, keys, where, "config key")
        if axis in full:
            raise InputError(f"{where}: {axis} is there twice")
        full[axis] = choices
    return full


def _check_grids(grids, max_runs, where):
    if not all(grids) or not grids:
        raise InputError(f"{where}: empty; expected config keys with lists of values")
    if empty := [axis for grid in grids for axis, choices in grid.items() if not choices]:
        raise InputError(f"{where}: {empty[0]}: empty; expected a list of one value or more")
    runs = sum(math.prod(map(len, grid.values())) for grid in grids)
    if runs > max_runs:
        raise InputError(f"{where}: make {runs:,} runs; sweep.max_runs ({max_runs:,}) must be raised for so many")
    for grid in grids:
        for axis, choices in grid.items():
            if twice := [choice for number, choice in enumerate(choices) if choice in choices[:number]]:
                raise InputError(f"{where}: {axis}: has {twice[0]} twice")


def _hole(hole, grids, axes, where):
    """axis -> the values that are left out together."""
    if not hole:
        raise InputError(f"{where}: empty; expected axes with the values to leave out")
    full = {}
    for key, choice in hole.items():
        axis = _full_key(key, axes, where, "axis of this sweep")
        there = [value for grid in grids for value in grid.get(axis, ())]
        full[axis] = [choice] if choice in there or not isinstance(choice, list) else choice
        if strange := [value for value in full[axis] if value not in there]:
            raise InputError(f"{where}: {axis} is never {strange[0]}; expected some of {there}")
    return full


def _points(grid):
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _tree(chosen):
    """{"a.b": value} as {a: {b: value}}."""
    values = {}
    for axis, value in chosen.items():
        *path, last = axis.split(".")
        inner = values
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return values


def _common(dumps):
    """The keys, and those within, whose value is the same in all of these."""
    common = {}
    for key, value in dumps[0].items():
        others = [dump.get(key) for dump in dumps]
        if all(isinstance(other, dict) for other in others):
            common[key] = _common(others)
        elif all(key in dump and dump[key] == value for dump in dumps):
            common[key] = value
    return common


def _name(chosen, axes):
    """The folder of a run: the last part of each key, or the whole where another axis ends alike, and its value."""
    ends = [axis.rpartition(".")[2] for axis in axes]
    return ",".join(
        f"{end if ends.count(end := axis.rpartition('.')[2]) == 1 else axis}={_text_of(value)}"
        for axis, value in chosen.items()
    )
