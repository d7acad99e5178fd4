"""What varies in a sweep, as its file says it: grids of axes, the points of a grid, and what a point sets.

An axis is a config key with a list of values, or has a name of its own and named sets of values that belong together:

    axes:
      arm:
        GN fine-tuned: {norm: gn, pretrained: gn.pdparams, base_lr: 0.01}
        GN from scratch: {norm: gn, base_lr: 0.1}
      seed: [0, 1, 2]

An axis of null is none: so a file takes away one that its `_BASE_` has.
"""

import difflib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator

from engine.config import config_keys
from engine.config.yaml_text import parse_value
from engine.errors import InputError

SEPARATE = ("name", "output", "device")  # keys that are the runner's business, not an axis


def _is_axis(choices):
    if choices is None or isinstance(choices, list):
        return choices
    if not isinstance(choices, dict):
        raise ValueError(f"expected a list of values, or sets of values by name, got {choices!r:.60}")
    for name, values in choices.items():
        if not name or not isinstance(values, dict):
            raise ValueError(f"{name or 'a set without a name'}: expected config keys with values, got {values!r:.60}")
    return choices


Choices = Annotated[Any, AfterValidator(_is_axis)]  # a list of values, or {name: {config key: value}}; None: no axis


def full_key(key: str, keys: Sequence[str], where: str, kind: str) -> str:
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


def text_of(value: Any) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, list):
        return "+".join(map(text_of, value)) or "none"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return re.sub(r"[^\w.+-]", "_", str(value))


def as_in_name(text: str, there: Sequence[str]) -> str:
    """How a value that was typed, as a text or as a number such as 1e-2, stands in a folder's name."""
    if (as_text := text_of(text)) in there:
        return as_text
    try:
        return text_of(parse_value(text))
    except yaml.YAMLError:
        return text


def with_full_keys(grid: dict[str, Any], where: str) -> dict[str, Any]:
    """A grid with every config key dotted. Raises InputError."""
    keys = [key for key in config_keys() if key not in SEPARATE]
    full, said = {}, {}
    for name, choices in grid.items():
        if choices is None:
            continue
        if isinstance(choices, dict):
            _check_name(name, where)
            axis = name
            choices = {one: _keyed(values, keys, f"{where}: {name}: {one}") for one, values in choices.items()}
        else:
            axis = full_key(name, keys, where, "config key")
        if axis in full:
            raise InputError(f"{where}: {axis} is there twice")
        full[axis] = choices
        for key in keys_of(axis, choices):
            if key in said:
                raise InputError(f"{where}: {key} is said by {said[key]} and by {axis}; one of them is enough")
            said[key] = axis
    return full


def _keyed(values, keys, where):
    """A set of values with its config keys dotted."""
    full = {}
    for key, value in values.items():
        dotted = full_key(key, keys, where, "config key")
        if dotted in full:
            raise InputError(f"{where}: {dotted} is there twice")
        full[dotted] = value
    return full


def _check_name(name, where):
    """Raise InputError for a name of sets of values that could be taken for something else."""
    if not re.fullmatch(r"\w{1,40}", name):
        raise InputError(f"{where}: {name!r:.60} names sets of values; expected letters, digits and _, such as arm")
    if any(key == name or key.endswith(f".{name}") for key in config_keys()):
        raise InputError(f"{where}: {name} is a config key, which takes a list; sets of values want another name")


def keys_of(axis: str, choices: Any) -> list[str]:
    """The config keys that an axis sets: itself, or those of its sets of values."""
    if not isinstance(choices, dict):
        return [axis]
    return list(dict.fromkeys(key for values in choices.values() for key in values))


def keys_of_grids(grids: Iterable[dict[str, Any]]) -> list[str]:
    """All config keys that some grid sets."""
    return list(dict.fromkeys(key for grid in grids for axis in grid for key in keys_of(axis, grid[axis])))


def check_grids(grids: list[dict[str, Any]], max_runs: int, where: str) -> None:
    """Raise InputError for grids that are empty, have a value twice or make too many runs."""
    if not all(grids) or not grids:
        raise InputError(f"{where}: empty; expected config keys with lists of values")
    if empty := [axis for grid in grids for axis, choices in grid.items() if not choices]:
        raise InputError(f"{where}: {empty[0]}: empty; expected a list of one value or more, or sets of values")
    runs = sum(math.prod(map(len, grid.values())) for grid in grids)
    if runs > max_runs:
        raise InputError(f"{where}: make {runs:,} runs; sweep.max_runs ({max_runs:,}) must be raised for so many")
    for grid in grids:
        for axis, choices in grid.items():
            values = list(choices)  # of sets of values the names
            if twice := [value for number, value in enumerate(values) if value in values[:number]]:
                raise InputError(f"{where}: {axis}: has {twice[0]} twice")


def read_hole(values: dict[str, Any], grids: list[dict[str, Any]], axes: Sequence[str], where: str) -> dict[str, list]:
    """axis -> the values that are left out together."""
    if not values:
        raise InputError(f"{where}: empty; expected axes with the values to leave out")
    full = {}
    for key, choice in values.items():
        axis = full_key(key, axes, where, "axis of this sweep")
        there = [value for grid in grids for value in grid.get(axis, ())]
        full[axis] = [choice] if choice in there or not isinstance(choice, list) else choice
        if strange := [value for value in full[axis] if value not in there]:
            raise InputError(f"{where}: {axis} is never {strange[0]}; expected some of {there}")
    return full


def points(grid: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every choice of a value, or of a set's name, for each axis, and the {config key: value} that it makes."""
    for chosen in itertools.product(*grid.values()):
        point, settings = dict(zip(grid, chosen, strict=True)), {}
        for axis, value in point.items():
            settings |= grid[axis][value] if isinstance(grid[axis], dict) else {axis: value}
        yield point, settings


def tree(settings: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": value} as {a: {b: value}}."""
    values = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        inner = values
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return values


def name_of(point: dict[str, Any], axes: Iterable[str]) -> str:
    """The folder of a run: the last part of each key, or the whole where another axis ends alike, and its value."""
    ends = [axis.rpartition(".")[2] for axis in axes]
    return ",".join(
        f"{end if ends.count(end := axis.rpartition('.')[2]) == 1 else axis}={text_of(value)}"
        for axis, value in point.items()
    )
