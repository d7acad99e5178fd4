"""A sweep: a YAML file that says what varies, and the runs it stands for, a config each.

A sweep's file is a config, what all its runs share, with one more section:

    sweep:
      axes: {norm: [bn, gn], images_per_worker: [32, 2], seed: [0, 1, 2]}     # see axes.py
      figures: [figure_1, table_2]                                            # of engine/report/drawings.py
"""

import copy
import functools
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, PositiveInt

from engine.config import Config, Section, make_config, merge_values, read_values
from engine.errors import InputError
from engine.report.drawings import check_figures
from engine.report.records import MOST_RUNS, RESULTS_FILE, SEED, row_type
from engine.report.results import means_nothing
from engine.run.measure import Measure
from engine.sweep.axes import (
    SEPARATE,
    Choices,
    as_in_name,
    check_grids,
    full_key,
    keys_of,
    keys_of_grids,
    name_of,
    points,
    read_hole,
    text_of,
    tree,
    with_full_keys,
)
from engine.tasks import task_of
from engine.terminal import shortened
from models.norm import described

LONGEST_NAME = 240  # bytes of a run's folder; file systems take 255, and one that is moved aside gets a number


def _as_list(value):
    return [value] if isinstance(value, dict) else value


class SweepSection(Section):
    # A grid, or several whose runs are put together: config key -> values, or another name -> sets of values by name.
    axes: Annotated[list[dict[str, Choices]], BeforeValidator(_as_list)]
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
    values: dict  # axis -> value: a dotted key's own, or the name of a set of them
    settings: dict  # what that makes, by dotted keys alone
    config: Config

    def value(self, axis: str) -> Any:
        """The name of an axis's set of values, or what the config has for a dotted key; None where there is neither."""
        if axis in self.values and axis not in self.settings:
            return self.values[axis]
        return functools.reduce(lambda at, key: (at or {}).get(key), axis.split("."), self.dump)

    @functools.cached_property
    def dump(self) -> dict:
        return self.config.model_dump(mode="json")

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
    grids: list[dict[str, Any]]  # the axes, their keys dotted
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
    def columns(self) -> list[str]:
        """The axes, and the config keys that their sets of values have."""
        return list(dict.fromkeys([*self.axis_values, *keys_of_grids(self.grids)]))

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
            axis = full_key(key, list(self.axis_values), f"--only {condition}", "axis of this sweep")
            there = [text_of(value) for value in self.axis_values[axis]]
            whole = as_in_name(choices, there) in there  # a comma may be a part of it
            wanted = {choice: as_in_name(choice, there) for choice in ([choices] if whole else choices.split(","))}
            if strange := [choice for choice, value in wanted.items() if value not in there]:
                raise InputError(f"--only {condition}: {axis} is never {strange[0]}; expected {', '.join(there)}")
            runs = [run for run in runs if axis in run.values and text_of(run.values[axis]) in wanted.values()]
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
    grids = [with_full_keys(grid, where) for grid in section.axes]
    check_grids(grids, section.max_runs, where)
    axes = list(dict.fromkeys(axis for grid in grids for axis in grid))
    for override in overrides:
        key = override.partition("=")[0]
        for axis, choices in ((axis, choices) for grid in grids for axis, choices in grid.items()):
            if any(own == key or own.startswith(key + ".") for own in keys_of(axis, choices)):
                how = "is set by an axis" if isinstance(choices, dict) else "is an axis"
                raise InputError(f"-o {key}: {how} of this sweep, or holds one; choose among its values with --only")
    holes = [read_hole(hole, grids, axes, f"{path}: sweep.without") for hole in section.without]
    del values["sweep"]
    runs = {}
    for chosen, settings in itertools.chain.from_iterable(map(points, grids)):
        if any(all(axis in chosen and chosen[axis] in there for axis, there in hole.items()) for hole in holes):
            continue
        name = name_of(chosen, axes)
        if len(name.encode()) > LONGEST_NAME:
            raise InputError(f"{where}: {shortened(name, 80)} is too long a name for a run's folder")
        if name in runs:
            raise InputError(f"{where}: two runs would have the folder {name}")
        own, own_origins = copy.deepcopy(values), dict(origins)
        merge_values(own, tree(settings), where, own_origins)
        own["name"] = f"{values['name']}/{name}"
        runs[name] = Run(name, chosen, settings, make_config(own, own_origins, path))
    if not runs:
        raise InputError(f"{path}: sweep.without: leaves no run")
    if len(runs) > MOST_RUNS:
        raise InputError(f"{where}: make {len(runs):,} runs; a sweep has {MOST_RUNS:,} at most")
    _check_measures(list(runs.values()), where)
    _check_columns(axes, next(iter(runs.values())).measures, where)
    folder = next(iter(runs.values())).config.folder.parent
    sweep = Sweep(values["name"], folder, Path(path).name, section, grids, list(runs.values()))
    try:
        check_figures(section.figures, *_told_apart(sweep), sweep.measures, sweep.shared)
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


def _check_columns(axes, measures, where):
    """Raise InputError where a name of sets of values is a column of results.csv already."""
    if taken := [axis for axis in axes if axis in row_type(measures).model_fields and axis != SEED]:
        raise InputError(f"{where}: {taken[0]} is a column of {RESULTS_FILE}; sets of values want another name")


def _told_apart(sweep):
    """(the values by axis, None where one would mean nothing to its run; how many settings there are, seeds apart)."""
    columns = sweep.columns
    values, settings = {column: [] for column in columns}, set()
    for run in sweep.runs:
        norm = described(run.config.model)
        others = norm["norm"], norm["norm_channels_per_group"], run.value
        own = {axis: None if means_nothing(axis, *others) else run.value(axis) for axis in columns}
        for axis, value in own.items():
            values[axis].append(value)
        settings.add(json.dumps({axis: value for axis, value in own.items() if axis != SEED}, sort_keys=True))
    return values, len(settings)


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


