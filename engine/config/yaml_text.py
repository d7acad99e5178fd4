"""YAML as configs are written in: version 1.2's scalars, no key twice, bounds before work, and back again."""

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from engine.errors import InputError
from engine.terminal import shortened

LONGEST = 2**19  # bytes of a file, and characters of it once its aliases are written out: some seconds of reading
DEEPEST = 32  # lists and mappings within each other
DIGITS = 100  # of a whole number
KIND = "tag:yaml.org,2002:"  # of a value


class _Reader(yaml.SafeLoader):
    """YAML with the scalars of its version 1.2 (1e-4 is a number, `on` a word), refusing a key given twice.

    Lengths are counted as the text is read, each alias as long as what it stands for: nothing is built that is longer,
    or deeper, than a config can be.
    """

    def __init__(self, text):
        super().__init__(text)
        self._length, self._lengths = 0, {}  # so far; of each anchor
        self._around = []  # (anchor, length before it) of the lists and mappings that are open

    def get_event(self):
        event = super().get_event()
        anchor, before = getattr(event, "anchor", None), self._length
        if isinstance(event, yaml.AliasEvent):
            if anchor in [other for other, _ in self._around]:
                raise _error(f"*{anchor} stands within itself", event)
            self._length += self._lengths.get(anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            self._length += 1 + len(event.value)
            self._lengths[anchor] = self._length - before
        elif isinstance(event, yaml.CollectionStartEvent):
            self._length += 1
            self._around.append((anchor, before))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self._around.pop()
            self._lengths[anchor] = self._length - before
        if self._length > LONGEST:
            raise _error(f"longer than {LONGEST:,} characters with its aliases written out", event)
        if len(self._around) > DEEPEST:
            raise _error(f"more than {DEEPEST} lists and mappings within each other", event)
        return event

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{KIND}str", f"{KIND}merge"):
                raise _error(f"key {_words(key)} is no word", key)
            if key.value in seen:
                raise _error(f"key {_words(key)} is given twice", key)
            seen.add(key.value)
        return node

    def flatten_mapping(self, node):
        """Put what `<<` merges before the mapping's own keys; the last of equal keys counts, so own ones do.

        In a list the first mapping counts, as YAML's merge keys are defined; PyYAML's versions do not agree on that.
        """
        merged, own = [], []
        for key, value in node.value:
            if key.tag != f"{KIND}merge":
                own.append((key, value))
                continue
            for mapping in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                if not isinstance(mapping, yaml.MappingNode):
                    raise _error("<<: expected a mapping or a list of mappings", value)
                self.flatten_mapping(mapping)
                merged += mapping.value
        node.value = merged + own


def _words(node):
    return shortened(repr(node.value), 100) if isinstance(node, yaml.ScalarNode) else f"of the kind {node.id}"


def _error(words, place):
    return yaml.constructor.ConstructorError(None, None, words, place.start_mark)


def _refuse(reader, node):
    raise _error(f"{shortened(node.tag, 100)} is no number, text, list or mapping", node)


def _scalar(kind, convert):
    """A constructor of what `convert` makes of a scalar's text."""

    def construct(reader, node):
        text = reader.construct_scalar(node)
        try:
            return convert(text)
        except (KeyError, ValueError):
            raise _error(f"{shortened(repr(text), 100)} is no {kind}", node) from None

    return construct


def _integer(text):
    if len(text) > DIGITS:
        raise ValueError
    return int(text)  # 010 is ten


def _float(text):
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _text(text):
    text.encode()  # a half of a character has no place in a file
    return text


_CONSTRUCTORS = {
    **{f"{KIND}{kind}": yaml.SafeLoader.yaml_constructors[f"{KIND}{kind}"] for kind in ("null", "seq", "map")},
    f"{KIND}bool": _scalar("boolean (true or false)", lambda text: {"true": True, "false": False}[text.lower()]),
    f"{KIND}int": _scalar(f"whole number of up to {DIGITS} digits", _integer),
    f"{KIND}float": _scalar("number", _float),
    f"{KIND}str": _scalar("text", _text),
    None: _refuse,
}
_Reader.yaml_constructors = _CONSTRUCTORS
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
    _Reader.add_implicit_resolver(f"{KIND}{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


class _Writer(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""


for _first, _resolvers in _Reader.yaml_implicit_resolvers.items():
    for _tag, _regexp in _resolvers:
        _Writer.add_implicit_resolver(_tag, _regexp, [_first])


def write_yaml(values: Any) -> str:
    """Values as a YAML text that `read_yaml` gives back."""
    return yaml.dump(values, Dumper=_Writer, sort_keys=False, allow_unicode=True)


def parse_value(text: str) -> Any:
    """One value of YAML, as in `-o key=value`: null, bool, number, text, list or mapping. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Reader)
    except (OverflowError, ValueError) as error:  # PyYAML's own, at "\UFFFFFFFF" or %YAML 999...9 (5,000 digits)
        raise yaml.YAMLError(str(error)) from None


def has_comment(text: str) -> bool:
    """Whether YAML would leave out a part of such a value: `3 # three`. Raises yaml.YAMLError."""
    end = 0
    for token in yaml.scan(text):
        if "#" in text[end : token.start_mark.index]:
            return True
        end = max(end, token.end_mark.index)
    return False


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file. Raises InputError where there is none."""
    try:
        values = parse_value(_content(path).decode())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a YAML config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a YAML config ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def _content(path):
    """The bytes of an ordinary file: a pipe could be waited for without an end, and has no place beside its bases."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise InputError(f"{path}: is {what}; expected an ordinary file, a YAML config")
    with open(path, "rb", opener=_at_once) as file:
        content = file.read(LONGEST + 1) or b""
    if len(content) > LONGEST:
        raise InputError(f"{path}: is larger than a YAML config may be, {LONGEST:,} bytes")
    return content


def _at_once(path, flags):
    """An `opener` of files that are not waited for: there are ordinary ones below /proc that may be for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
