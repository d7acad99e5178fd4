"""A sweep: a YAML file that says what varies, and the runs it stands for, a config each.

A sweep's file is a config, what all its runs share, with one more section:

    sweep:
      axes: {norm: [bn, gn], images_per_worker: [32, 2], seed: [0, 1, 2]}     # any keys of a config
      figures: [figure_1, table_2]                                            # of engine/paper_figures.py
"""

import copy
import difflib
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PositiveInt

from engine.config import Config, Section, config_keys, make_config, merge_values, nested, read_values
from engine.errors import InputError
from engine.report import check_figures

SEPARATE = ("name", "output")  # keys that every run has of its own


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


class SweepConfig(Config):
    sweep: SweepSection


@dataclass(frozen=True)
class Run:
    name: str  # of its folder, such as norm=gn,images_per_worker=2,seed=0
    values: dict  # axis (a dotted key) -> value
    config: Config


@dataclass(frozen=True)
class Sweep:
    name: str
    folder: Path
    file: str  # the name of the YAML file
    section: SweepSection
    grids: list[dict[str, list]]  # the axes, their keys dotted
    shared: dict  # the values of the file itself, every one; axes go over them
    runs: list[Run]

    @property
    def axis_values(self) -> dict[str, list]:
        """Every axis with the values that its runs have."""
        values = {}
        for run in self.runs:
            for axis, value in run.values.items():
                if value not in values.setdefault(axis, []):
                    values[axis].append(value)
        return values

    def only(self, conditions: Iterable[str]) -> list[Run]:
        """The runs that meet all conditions `axis=value` or `axis=value,value`. Raises InputError."""
        runs = self.runs
        for condition in conditions:
            key, equals, choices = condition.partition("=")
            if not equals:
                raise InputError(f"--only {condition}: expected axis=value, for example --only norm=gn")
            axis = full_key(key, list(self.axis_values), f"--only {condition}", "axis of this sweep")
            there = [text_of(value) for value in self.axis_values[axis]]
            wanted = choices.split(",")
            if strange := [choice for choice in wanted if choice not in there]:
                raise InputError(f"--only {condition}: {axis} is never {strange[0]}; expected {', '.join(there)}")
            runs = [run for run in runs if axis in run.values and text_of(run.values[axis]) in wanted]
        if not runs:
            raise InputError(f"--only {' '.join(conditions)}: no run of this sweep meets all of it")
        return runs


def load_sweep(path: str | Path, overrides: Iterable[str] = ()) -> Sweep:
    """Read a sweep's file and make the config of every run. Raises InputError, one line, before anything is done."""
    values, origins = read_values(path, overrides)
    if "sweep" not in values:
        raise InputError(f"{path}: has no section `sweep`, which says what varies; a single run is for tools/train.py")
    base = make_config(values, origins, path, SweepConfig)
    section = base.sweep
    where = f"{path}: sweep.axes"
    keys = [key for key in config_keys(base.data.name) if key not in SEPARATE]
    grids = [
        {full_key(axis, keys, where, "config key"): choices for axis, choices in grid.items()} for grid in section.axes
    ]
    _check_grids(grids, where)
    if given := [key for override in overrides if (key := override.partition("=")[0]) in _axes(grids)]:
        raise InputError(f"-o {given[0]}: is an axis of this sweep; choose among its values with --only")
    holes = [
        {full_key(axis, _axes(grids), f"{path}: sweep.without", "axis"): choice for axis, choice in hole.items()}
        for hole in section.without
    ]
    shared = base.model_dump(mode="json", exclude={"sweep", *SEPARATE})
    del values["sweep"]
    runs = {}
    for chosen in itertools.chain.from_iterable(map(_points, grids)):
        if any(_meets(chosen, hole) for hole in holes):
            continue
        name = _name(chosen, _axes(grids))
        if name in runs:
            raise InputError(f"{where}: {name} is there twice")
        own, own_origins = copy.deepcopy(values), dict(origins)
        for axis, value in chosen.items():
            merge_values(own, nested(axis.split("."), value), where, own_origins)
        own["name"] = f"{base.name}/{name}"
        runs[name] = Run(name, chosen, make_config(own, own_origins, path))
    if not runs:
        raise InputError(f"{path}: sweep.without: leaves no run")
    sweep = Sweep(base.name, base.folder, Path(path).name, section, grids, shared, list(runs.values()))
    try:
        check_figures(section.figures, sweep.axis_values)
    except InputError as error:
        raise InputError(f"{path}: sweep.{error}") from None
    return sweep


def full_key(key, keys, where, kind) -> str:
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


def text_of(value) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, (list, tuple)):
        return "+".join(map(text_of, value)) or "none"
    if isinstance(value, dict):
        return "+".join(f"{key}-{text_of(inner)}" for key, inner in value.items())
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return re.sub(r"[^\w.+-]", "_", str(value))


def _check_grids(grids, where):
    if not all(grids) or not grids:
        raise InputError(f"{where}: empty; expected config keys with lists of values")
    for grid in grids:
        for axis, choices in grid.items():
            if not choices:
                raise InputError(f"{where}: {axis}: empty; expected a list of one value or more")


def _axes(grids):
    """Every axis of the grids once, in their order."""
    return list(dict.fromkeys(axis for grid in grids for axis in grid))


def _points(grid):
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _meets(chosen, hole):
    return all(
        axis in chosen and chosen[axis] in (choice if isinstance(choice, list) else [choice])
        for axis, choice in hole.items()
    )


def _name(chosen, axes):
    """The folder of a run: the last part of each key, or the whole where another axis ends alike, and its value."""
    ends = [axis.rpartition(".")[2] for axis in axes]
    return ",".join(
        f"{end if ends.count(end := axis.rpartition('.')[2]) == 1 else axis}={text_of(value)}"
        for axis, value in chosen.items()
    )
