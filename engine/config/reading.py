"""From YAML files and the command line to one checked Config: bases, overrides, errors of one line."""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml

from engine.config.sections import DATA_SECTIONS, Config, Section
from engine.config.yaml_text import parse_value, read_yaml
from engine.errors import InputError


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file over its `_BASE_`, put `key.sub=value` overrides over it, check everything.

    A mapping is merged key by key, a list replaced; where `data.name` or `model.name` changes, that section starts
    anew. `_BASE_` is a path, or a list of them, relative to the file. Override values are YAML; an index addresses
    an element of a list (`schedule.milestones.0=20`). Raises InputError, one line, for anything that does not fit.
    """
    values, origins = read_values(path, overrides)
    if "sweep" in values:
        raise InputError(f"{path}: describes a sweep of many runs; use tools/sweep.py")
    return make_config(values, origins, path)


def read_values(path: str | Path, overrides: Iterable[str] = ()) -> tuple[dict, dict]:
    """What a YAML file, its bases and the overrides say together, unchecked, and which of them said each key."""
    values, origins = {}, {}
    for source, mapping in _read_with_bases(Path(path), ()):
        merge_values(values, mapping, str(source), origins)
    for override in overrides:
        _override(values, override, origins)
    if values.get("name") is None:
        values["name"] = Path(path).stem
    return values, origins


def make_config(values: dict, origins: dict, path: str | Path, schema: type[Section] = Config):
    """Check such values and make them a Config, or what another `schema` says. Raises InputError."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: holds what is no number, text, list or mapping ({error})") from None
    try:
        return schema.model_validate_json(text, strict=True)
    except pydantic.ValidationError as failure:
        raise InputError(_one_line(failure.errors()[0], origins, str(path), schema)) from None


def _read_with_bases(path, above):
    """(path, mapping) of every file that `path` builds on, farthest first."""
    if path.resolve() in above:
        raise InputError(f"{path}: _BASE_ leads back to this file")
    values = read_yaml(path)
    bases = values.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"{path}: _BASE_: expected a path or a list of paths, got {bases!r}")
    for base in bases:
        yield from _read_with_bases(path.parent / base, (*above, path.resolve()))
    yield path, values


def merge_values(values: dict, new: Mapping, source: str, origins: dict, at=()) -> None:
    """Put `new` over `values` in place; `origins` learns which source gave each key."""
    if at in (("model",), ("data",)) and "name" in new and new["name"] != values.get("name"):
        values.clear()
    for key, value in new.items():
        here = (*at, str(key))
        if isinstance(value, Mapping):
            if not isinstance(values.get(key), dict):
                values[key] = {}
            origins[here] = source
            merge_values(values[key], value, source, origins, here)
        else:
            values[key] = value
            origins[here] = source


def _override(values, text, origins):
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"-o {text}: expected key=value, for example -o schedule.epochs=10")
    try:
        value = parse_value(value)
    except yaml.YAMLError as error:
        raise InputError(f"-o {text}: not a YAML value: {' '.join(str(error).split())}") from None
    *path, last = key.split(".")
    source, parent = f"-o {text}", values
    for part in path:
        parent = parent.get(part) if isinstance(parent, dict) else None
    if parent is None and last.isdigit():  # an element of a list that no file mentions: of its default
        parent = _default_list(path)
        merge_values(values, _nested(path, parent), source, origins)
    if isinstance(parent, list):
        if not last.isdigit() or int(last) >= len(parent):
            raise InputError(f"{source}: expected an index from 0 to {len(parent) - 1} behind {'.'.join(path)}")
        parent[int(last)] = value
        origins[tuple(path)] = source
        return
    merge_values(values, _nested([*path, last], value), source, origins)


def _nested(path, value):
    for part in reversed(path):
        value = {part: value}
    return value


def _default_list(path):
    """The list that the schema has at this place where nothing is given; an empty one where it has none."""
    value = Config.model_fields.get(path[0])
    value = value and value.default
    for part in path[1:]:
        value = getattr(value, part, None)
    return list(value) if isinstance(value, tuple) else []


def _one_line(error, origins, path, schema):
    """A pydantic error as `where: key: what came and what was wanted`."""
    location = [part for part in error["loc"] if not (part in DATA_SECTIONS and error["loc"][0] == "data")]
    location = [str(part) for part in location]
    source = next((origins[at] for n in range(len(location), 0, -1) if (at := tuple(location[:n])) in origins), path)
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], _keys_at(error["loc"][:-1], schema), n=1)
        message = "unknown key" + (f"; did you mean {close[0]}?" if close else "")
    elif error["type"] == "missing":
        message = "missing; it has no default"
    elif error["type"] == "union_tag_invalid":
        location.append("name")
        message = f"expected one of {', '.join(DATA_SECTIONS)}, got {error['input'].get('name')!r}"
    elif error["type"] == "union_tag_not_found":
        location.append("name")
        message = f"missing; expected one of {', '.join(DATA_SECTIONS)}"
    elif error["type"] == "value_error":
        message = str(error["ctx"]["error"])
    else:
        message = f"{message.replace('input should', 'should')}, got {error['input']!r}"
    return f"{source}: {'.'.join(location)}: {message}"


def _keys_at(location, schema):
    """The keys that the section at this place of the schema has."""
    section: Any = schema
    for part in location:
        if part in DATA_SECTIONS and section is DATA_SECTIONS:
            section = DATA_SECTIONS[part]
        elif part == "data":
            section = DATA_SECTIONS
        else:
            kinds = section.model_fields[part].annotation
            section = next((kind for kind in (kinds, *get_args(kinds)) if hasattr(kind, "model_fields")), Section)
    return list(section.model_fields)
