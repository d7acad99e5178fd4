"""From YAML files and the command line to one checked Config: bases, overrides, errors of one line."""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pydantic
import yaml

from data.user_path import user_path
from engine.config.sections import Config, Section, default_name, is_text, sections_at
from engine.config.yaml_text import DEEPEST, has_comment, parse_value, read_yaml
from engine.errors import InputError
from engine.terminal import shortened

MOST_FILES = 64  # that a config builds on, each as often as it is named
LONGEST_VALUE = 200  # characters of a wrong value that are shown


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file over its `_BASE_`, put `key.sub=value` overrides over it, check everything.

    A mapping is merged key by key, a list replaced; where `data.name` or `model.name` changes, that section starts
    anew, but for a model of the same keys, as detectors with masks and without have. `_BASE_` is a path, or a list of
    them, relative to the file. Override values are YAML, but for keys that take a text: that is taken as it stands
    unless it is in quotes, or is null, or nothing. An index addresses an element of a list
    (`schedule.milestones.0=20`). Raises InputError, one line, for anything that does not fit.
    """
    values, origins = read_values(path, overrides)
    if "sweep" in values:
        raise InputError(f"{path}: describes a sweep of many runs; use tools/sweep.py")
    return make_config(values, origins, path)


def read_values(
    path: str | Path, overrides: Iterable[str] = (), schemas: Sequence[type[Section]] = (Config,)
) -> tuple[dict, dict]:
    """What a YAML file, its bases and the overrides say together, unchecked, and which of them said each key.

    `schemas` are those that the values will be checked against.
    """
    values, origins = {}, {}
    for number, (source, mapping) in enumerate(_read_with_bases(_path(path, "-c"), ())):
        if number == MOST_FILES:
            raise InputError(f"{path}: _BASE_: builds on more than {MOST_FILES} files")
        merge_values(values, mapping, str(source), origins)
    for override in sorted(overrides, key=_is_no_choice):
        _override(values, override, origins, schemas)
    if values.get("name") is None:
        values["name"] = Path(path).stem
    return values, origins


def make_config(values: dict, origins: dict, path: str | Path, schema: type[Section] = Config) -> Section:
    """Check such values and make them a Config, or what another `schema` says. Raises InputError."""
    for key in schema.model_fields:
        name = default_name(schema, key)
        if name and isinstance(values.get(key), dict):
            values = {**values, key: {"name": name, **values[key]}}
    try:
        return schema.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as failure:
        raise InputError(_one_line(failure.errors()[0], origins, str(path), schema)) from None


def _path(text, where):
    try:
        return Path(user_path(text))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _read_with_bases(path, above):
    """(path, mapping) of every file that `path` builds on, farthest first."""
    own = os.path.realpath(path)
    if own in above:
        raise InputError(f"{path}: _BASE_ leads back to this file")
    if len(above) == DEEPEST:
        raise InputError(f"{path}: is the base of a base of a base, {DEEPEST} times over")
    values = read_yaml(path)
    bases = values.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"{path}: _BASE_: expected a path or a list of paths, got {_shown(bases)}")
    for base in bases:
        yield from _read_with_bases(path.parent / _path(base, f"{path}: _BASE_"), (*above, own))
    yield path, values


def merge_values(values: dict, new: Mapping, source: str, origins: dict, at: tuple[str, ...] = ()) -> None:
    """Put `new` over `values` in place; `origins` learns which source gave each key."""
    if at in (("model",), ("data",)):
        named = values.get("name", default_name(Config, *at))
        if _starts_anew(*at, named, new.get("name", named)):
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


def _starts_anew(key, old, new):
    def keys(name):  # which may be anything that a file says
        sections = [section for section in sections_at(Config, key) if _name_of(section) == name]
        return [section.model_fields.keys() for section in sections]

    return new != old and (key == "data" or keys(new) != keys(old))


def _is_no_choice(override):
    """Sorts first what makes a section start anew: it is not to take other overrides away."""
    return override.partition("=")[0] not in ("model", "model.name", "data", "data.name")


def _override(values, text, origins, schemas):
    source, (key, equals, value) = f"-o {shortened(text, LONGEST_VALUE)}", text.partition("=")
    *path, last = parts = key.split(".")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{source}: is no UTF-8 text") from None
    if not equals or not all(parts) or len(parts) > DEEPEST:
        raise InputError(f"{source}: expected key=value, for example -o schedule.epochs=10")
    value = _override_value(value, source, _fields(parts, values, schemas))
    parent = values
    for part in path:
        parent = parent.get(part) if isinstance(parent, dict) else None
    if parent is None and (default := _default_list(_fields(path, values, schemas))) is not None:
        parent = default  # an element of a list that no file mentions
        merge_values(values, _nested(path, parent), source, origins)
    if isinstance(parent, list):
        if not re.fullmatch("[0-9]{1,9}", last) or int(last) >= len(parent):
            there = f"an index from 0 to {len(parent) - 1}" if parent else "no index, for nothing is in the list"
            raise InputError(f"{source}: expected {there} behind {'.'.join(path)}")
        last, value = path.pop(), [*parent[:int(last)], value, *parent[int(last) + 1:]]  # it may have an alias
    merge_values(values, _nested([*path, last], value), source, origins)


def _override_value(text, source, fields):
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if fields and all(is_text(field.annotation) for field in fields) and not quoted:
        return None if text in ("", "null") else text
    try:
        parsed = parse_value(text)  # first: it looks at the length
        if has_comment(text):
            raise InputError(f"{source}: YAML would leave out what stands behind a #; put a text in quotes")
        return parsed
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not a YAML value: {' '.join(str(error).split())}") from None


def _nested(path, value):
    for part in reversed(path):
        value = {part: value}
    return value


def _fields(path, values, schemas):
    """What the schemas say of a dotted key, given the sections that `values` name; nothing where it is unknown."""
    sections = list(schemas)
    for part in path[:-1]:
        values = values.get(part) if isinstance(values, dict) else None
        name = values.get("name") if isinstance(values, dict) else None
        sections = [inner for section in sections for inner in sections_at(section, part)]
        sections = [section for section in sections if _name_of(section) == name] or sections
    return [section.model_fields[path[-1]] for section in sections if path[-1] in section.model_fields]


def _name_of(section):
    """What `name` is in a section that is chosen by its name; None in the others."""
    field = section.model_fields.get("name")
    return field and field.default


def _default_list(fields):
    """The list that stands at a key where nothing is given; None where there is none."""
    return next((list(field.default) for field in fields if isinstance(field.default, tuple)), None)


def _one_line(error, origins, path, schema):
    """A pydantic error as `where: key: what came and what was wanted`."""
    location, sections = _resolve(error["loc"], schema)
    message = error["msg"][0].lower() + error["msg"][1:]
    names = ", ".join(map(str, map(_name_of, sections)))
    if error["type"] == "extra_forbidden":
        _, above = _resolve(error["loc"][:-1], schema)
        close = difflib.get_close_matches(location[-1], [key for one in above for key in one.model_fields], n=1)
        message = "unknown key" + (f"; did you mean {close[0]}?" if close else "")
    elif error["type"] == "missing":
        message = "missing; it has no default"
    elif error["type"] == "union_tag_invalid":
        location.append("name")
        message = f"expected one of {names}, got {_shown(error['input'].get('name'))}"
    elif error["type"] == "union_tag_not_found":
        location.append("name")
        message = f"missing; expected one of {names}"
    elif error["type"] == "value_error":
        message = str(error["ctx"]["error"])
    else:
        message = f"{message.replace('input should', 'should')}, got {_shown(error['input'])}"
        if error["type"] == "string_type" and type(error["input"]) in (bool, int, float):
            message += "; a text that looks like a number, true or false wants quotes"
    source = next((origins[at] for n in range(len(location), 0, -1) if (at := tuple(location[:n])) in origins), path)
    return f"{source}: {shortened('.'.join(location), LONGEST_VALUE)}: {message}"


def _resolve(location, schema):
    """A pydantic location as keys, without the names of sections that stand among them, and the sections there."""
    keys, sections = [], [schema]
    for part in location:
        if len(sections) > 1:
            sections = [section for section in sections if _name_of(section) == part]
        else:
            keys.append(str(part))
            sections = sections_at(sections[0], part) if sections else []
    return keys, sections


def _shown(value):
    return shortened(repr(value), LONGEST_VALUE)
