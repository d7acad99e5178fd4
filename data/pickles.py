"""Pickles read as data: the CIFAR archives and what paddle.save writes are pickles, and a pickle can run code.

Python's own unpickler is not asked: it hands out whatever a file names, and even NumPy's part of it trusts the file. A
pickle is a list of instructions for a machine with a stack; ours (pickle_machine.py) knows the few that dicts, lists,
text, numbers and plain arrays are written with, checks every size before it does the work, and refuses all others.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from data.errors import DataError
from data.pickle_machine import Machine, Pending

DEPTH = 20  # of what lies in what


def read_pickle(content: bytes | BinaryIO, name: str, encoding: str = "bytes") -> Any:
    """Read a pickle, its bytes or an open file, that holds dicts, lists, strings, numbers and NumPy arrays.

    Nothing foreign is executed, no memory is taken that the file's size does not account for, and keys are text or
    bytes. Tensors that paddle.save wrote come back as arrays. `encoding` is what strings of Python 2 are read with;
    `name` is for errors. Raises DataError for anything else.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with pickle_errors(name):
        return plain(Machine(file, size, encoding).run())


@contextlib.contextmanager
def pickle_errors(name: str) -> Iterator[None]:
    """Within, what a Machine and `plain` refuse is a DataError of one line."""
    try:
        yield
    except (ValueError, LookupError, RecursionError) as error:  # LookupError: a value that the pickle never put there
        reason = str(error) if isinstance(error, ValueError) else "it asks for a value that is not there"
        reason = "values lie in each other too deep" if isinstance(error, RecursionError) else reason
        raise DataError(f"{name}: is no pickle of plain arrays: {_shown(reason)}") from error


def _shown(text):
    """A file's words on one line, without what would steer a terminal."""
    return ascii(" ".join(text.split()))[1:-1][:200]


def plain(value: Any, depth: int = 0) -> Any:
    """What a Machine made, with arrays in their places; ValueError where anything else stands in it."""
    if depth > DEPTH:
        raise ValueError(f"values lie in each other more than {DEPTH} deep")
    if isinstance(value, dict):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item, depth + 1) for item in value)
    if isinstance(value, Pending) and (array := value.value) is not None:
        return array
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise ValueError("it holds what is neither an array nor a plain value")
