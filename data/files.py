"""Only ordinary files are data: a pipe would be waited for without end, and a device can do anything."""

import os
import stat
from typing import BinaryIO

from data.errors import DataError

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# A pipe that took a file's place in between is not waited for; on ordinary files it does nothing.
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: str | os.PathLike, most: int | None = None) -> BinaryIO:
    """An ordinary file, or one behind a link, opened to read its bytes, of which it has at most `most`.

    Raises DataError where it is something else or no file can have this name, and OSError as `open` does.
    """
    try:
        _check_ordinary(path, os.stat(path))
        handle = os.open(path, FLAGS)
    except ValueError as error:  # a NUL, or a letter that the file system's encoding lacks
        if isinstance(error, DataError):
            raise
        raise DataError(f"{os.fspath(path)!r}: no file can have this name") from None
    file = os.fdopen(handle, "rb")
    try:
        status = os.fstat(handle)
        _check_ordinary(path, status)
        if most is not None and status.st_size > most:
            raise DataError(f"{path}: has more than the {most:,} bytes that such a file may have")
    except DataError:
        file.close()
        raise
    return file


def _check_ordinary(path, status):
    if not stat.S_ISREG(status.st_mode):
        came = KINDS.get(stat.S_IFMT(status.st_mode), "no ordinary file")
        raise DataError(f"{path}: is {came}, wanted an ordinary file")


def read_file(path: str | os.PathLike, most: int) -> bytes:
    """The bytes of an ordinary file; raises as open_file does, and DataError where there are more than `most`."""
    with open_file(path, most) as file:
        return file.read(most)
