"""Lists of `path label` and files of class names, as people and their programs write them."""

import codecs
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from data.errors import DataError, quoted
from data.files import open_file

LONGEST_LINE = 1 << 16  # letters
LARGEST_LABEL = 10**9
# Characters that move what is written about: a name could show itself as another.
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Entry(NamedTuple):
    """A line of a list: its number, the path as it is below the root, the label counted from 0."""

    line: int
    path: str
    label: int


def read_list(path: Path, root: Path, first_label: int) -> list[Entry]:
    """The lines of a `path label` list, split from the right. Raises DataError.

    A path with the backslashes of Windows is taken where there is no such file, but one with slashes.
    """
    entries = []
    for number, line in lines(path):
        parts = line.rsplit(maxsplit=1)
        if len(parts) != 2 or not parts[1].isdecimal():
            comma = "; a comma does not separate them, but a space or a tab" if re.search(r",\s*\d+\s*$", line) else ""
            raise DataError(
                f"{path}, line {number}: got {quoted(line)}, wanted `path label` with a label of {first_label} or more"
                + comma
            )
        file, label = parts[0].strip(), int(parts[1]) if _is_label(parts[1]) else None
        if label is None or label < first_label:
            wanted = f"wanted {first_label} (data.first_label) to {LARGEST_LABEL:,}"
            raise DataError(f"{path}, line {number}: label {quoted(parts[1])}, {wanted}")
        entries.append(Entry(number, below(root, file, f"{path}, line {number}"), label - first_label))
    return entries


def listed_classes(root: Path, train: str, lists: Mapping[str, Sequence], first_label: int) -> list[str]:
    """The classes of lists below root, by the one for training: by their names, or as texts by their labels.

    lists: the entries, which have labels from 0, by the list's name. Raises DataError where a class has none in it.
    """
    path, entries = root / train, lists[train]
    _check_first(path, entries, first_label)
    classes = max(entry.label for entry in entries) + 1
    names = class_names(root, set(lists), classes, first_label)
    _check_labels(path, entries, names, first_label)
    return names or [str(label + first_label) for label in range(classes)]


def class_names(root: Path, listed: set[str], classes: int, first_label: int) -> list[str] | None:
    """Names in the order of the labels, or None where no file has them.

    classes.txt has one a line, label_list.txt of PaddleClas `label name`, labels.txt either; it is passed over where it
    has not as many as there are classes, for files of that name hold other things as well. listed: files that are the
    lists themselves.
    """
    readers = {"classes.txt": _plain, "labels.txt": _either, "label_list.txt": _numbered}
    for name, read in readers.items():
        if name not in listed and os.path.lexists(root / name):
            names = read(root / name, first_label)
            if name != "labels.txt" or len(names) == classes:
                return names
    return None


def check_names(names: Iterable[str], source: object) -> None:
    """Raise DataError for the name of a class that would not show itself as what it is, with a newline for one."""
    for name in names:
        if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in DIRECTIONS for letter in name):
            raise DataError(f"{source}: the class name {quoted(name)} has characters that cannot be shown; rename it")


def _check_first(path: Path, entries: list[Entry], first_label: int) -> None:
    """Raise DataError where the labels of the training list start at 1 and nothing has said so."""
    labels = [entry.label for entry in entries]
    if first_label == 0 and min(labels) == 1:
        raise DataError(
            f"{path}: labels go from 1 to {max(labels)}, wanted from 0 on; data.first_label=1 takes them as they are"
        )


def _check_labels(path: Path, entries: list[Entry], names: list[str] | None, first_label: int) -> None:
    """Whether every class has a picture in the training list. names: None where they are the labels."""
    labels = {entry.label for entry in entries}
    missing = next(label for label in count() if label not in labels)  # no list of names is as long as a label says
    if missing < (max(labels) if names is None else len(names)):
        name = missing + first_label if names is None else names[missing]
        raise DataError(f"{path}: no image of class {missing + first_label} ({name}); wanted one of each or more")


def _numbered(path, first_label):
    """Class names of `label name` lines."""
    names = {}
    for number, line in lines(path):
        label, *name = line.split(maxsplit=1)
        if not _is_label(label):
            raise DataError(f"{path}, line {number}: got {quoted(line)}, wanted `label name`")
        names[int(label) - first_label] = name[0].strip() if name else label
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{path}: labels are not {first_label} to {first_label + len(names) - 1}, each once")
    return [names[label] for label in range(len(names))]


def _plain(path, _):
    return [line.strip() for _, line in lines(path)]


def _either(path, first_label):
    try:
        return _numbered(path, first_label)
    except DataError:
        return _plain(path, first_label)


def _is_label(text):
    return text.isdecimal() and len(text) <= len(str(LARGEST_LABEL)) and int(text) <= LARGEST_LABEL


def below(root: str | Path, file: str, where: str) -> str:
    """The path below root that a line or an entry names, with slashes where it came from Windows. Raises DataError."""
    if "\0" in file:
        raise DataError(f"{where}: {quoted(file)}: no file can have this name")
    if "\\" not in file or os.path.lexists(os.path.join(root, file)):
        return file
    if re.match(r"[A-Za-z]:", file):
        raise DataError(f"{where}: got {quoted(file)}, a place on a disk of Windows; wanted a path below {root}")
    return file.replace("\\", "/")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of the lines of a text file that are not blank; UTF-8, or UTF-16 as Windows marks it.

    Raises DataError: no such file, no text, none but blank lines, a line of more than LONGEST_LINE letters.
    """
    number, blank = 0, True
    try:
        with open_file(path) as file, io.TextIOWrapper(file, _encoding(file)) as text:
            while line := text.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{path}, line {number}: has more than {LONGEST_LINE:,} letters; is it a list?")
                if line.strip():
                    blank = False
                    yield number, line.rstrip("\n")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; wanted a folder of class folders or a list of `path label`") from error
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    if blank:
        raise DataError(f"{path}: is empty")


def _encoding(file):
    start = file.read(2)
    file.seek(0)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
