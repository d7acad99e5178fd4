"""Files, read and written: only ordinary ones of a bounded size are read, and what is written is whole or not there."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.errors import InputError

MOST_BYTES = 256 * 2**20  # of a text that is read whole: a metrics.jsonl of more than a million lines


def read_text(path: Path, missing="no such file", most=MOST_BYTES) -> str:
    """The text, in UTF-8, of an ordinary file of at most `most` bytes.

    Raises InputError, one line: `missing` says what comes after the path of a file that is not there.
    """
    try:
        with _opened(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > most:
                raise InputError(f"{path}: has {size:,} bytes; expected {most:,} at most")
            return file.read(most).decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: {missing}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: damaged (line {line} is no UTF-8)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def read_end(path: Path, most: int) -> str:
    """The last bytes, `most` of them, as a text in which what is no UTF-8 is replaced; empty where there is no file."""
    try:
        with _opened(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _opened(path):
    """An ordinary file, opened: a fifo would wait for ever, a device may have no end."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise InputError(f"{path}: is no ordinary file")
    return open(number, "rb")


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield the path to write to; at the end what is there takes the place of `path`, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # a kill has left it, or it is a link to another's file
    yield part
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, as a whole or not at all."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make a folder for what is written within. Raises InputError, one line, where the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
