"""YAML as configs are written in: version 1.2's scalars, no key twice, and back again."""

import re
from pathlib import Path

import yaml

from engine.errors import InputError


class _Reader(yaml.SafeLoader):
    """YAML with the scalars of its version 1.2 (1e-4 is a number, `on` a word), refusing a key given twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is no word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node):
        return int(self.construct_scalar(node))  # 010 is ten


_Reader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


_Reader.add_constructor("tag:yaml.org,2002:int", _Reader.construct_int)


class _Writer(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""


for _first, _resolvers in _Reader.yaml_implicit_resolvers.items():
    for _tag, _regexp in _resolvers:
        _Writer.add_implicit_resolver(_tag, _regexp, [_first])


def write_yaml(values) -> str:
    """Values as a YAML text that `read_yaml` gives back."""
    return yaml.dump(values, Dumper=_Writer, sort_keys=False, allow_unicode=True)


def parse_value(text: str):
    """One value of YAML, as in `-o key=value`. Raises yaml.YAMLError."""
    return yaml.load(text, _Reader)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file. Raises InputError where there is none."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Reader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a YAML config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a YAML config ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values
