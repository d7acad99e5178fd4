"""Files, read and written: only ordinary ones of a bounded size are read, and what is written is whole or not there.

That holds after a power failure too: a file has its bytes on the disk before it has its name. A disk may be full,
read-only or gone: what it refuses is one line.
"""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.errors import DiskError, InputError

MOST_BYTES = 256 * 2**20  # of a text that is read whole
MOST_BYTES_OF_LINE = 2**20  # of one that is read by lines
NOT_ORDINARY = "is a link, a pipe or a folder; expected an ordinary file, to write to"
# What no bug ever raises, wherever it comes from.
REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE, errno.ENOTCONN, errno.ENODEV,
)


def read_text(path: Path, missing: str = "no such file", most: int = MOST_BYTES) -> str:
    """The text, in UTF-8, of an ordinary file of at most `most` bytes.

    Raises InputError, one line: `missing` says what comes after the path of a file that is not there.
    """
    with _opened(path, missing) as file:
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise InputError(f"{path}: has more than {most:,} bytes, which is too long")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: damaged (line {line} is no UTF-8)") from None


def read_lines(path: Path, missing: str = "no such file") -> Iterator[tuple[int, str]]:
    """(number from 1 on, line with its end) of an ordinary file in UTF-8, however long it is. Raises InputError."""
    with _opened(path, missing) as file:
        for number in itertools.count(1):
            line = file.readline(MOST_BYTES_OF_LINE + 1)
            if not line:
                return
            if len(line) > MOST_BYTES_OF_LINE:
                raise InputError(f"{path}: damaged (line {number} has more than {MOST_BYTES_OF_LINE:,} bytes)")
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{path}: damaged (line {number} is no UTF-8)") from None


def read_end(path: Path, most: int) -> str:
    """The last bytes, `most` of them, as a text in which what is no UTF-8 is replaced; empty where there is no file."""
    if not path.exists():
        return ""
    with _opened(path, "no such file") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most).decode("utf-8", "replace")


@contextlib.contextmanager
def _opened(path, missing):
    """An ordinary file to read bytes from: a fifo would wait for ever, a device may have no end."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path}: is no ordinary file")
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: {missing}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def ordinary(path: str, flags: int) -> int:
    """The `opener` of files that are written piece by piece, in a folder that may be another's make.

    A link could lead out of the folder, a pipe would wait for ever. Raises InputError for these, and OSError.
    """
    try:
        handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # of a link, of a pipe that nobody reads
            raise
        raise InputError(f"{path}: {NOT_ORDINARY}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path}: {NOT_ORDINARY}")
    return handle


def check_ordinary(path: Path) -> None:
    """Raise InputError where `ordinary` would: before long work, or before anything is changed."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(f"{path}: {NOT_ORDINARY}")


def check_file_target(path: str | Path, option: str) -> Path:
    """The path of a file to be written after long work. Raises InputError where it is a folder, or in none."""
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
        raise InputError(f"{option} {path}: expected a file in a folder that exists")
    return Path(path)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Within, an OSError is a DiskError that names the file which is being written."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place at the end, and is gone where there was an error."""
    part = path.with_name(path.name + ".part")
    with writing(path):
        part.unlink(missing_ok=True)  # a kill has left it, or it is a link to another's file
        try:
            yield part
            sync(part)
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def sync(path: Path, flags: int = os.O_RDWR) -> None:
    """Have the bytes of a file on the disk, where a power failure spares them. Raises OSError."""
    file = os.open(path, flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_names(folder: Path) -> None:
    """Have what was made, renamed and removed in a folder on the disk, before anything that comes later there.

    Nothing where the system knows no such thing. Raises DiskError.
    """
    with writing(folder):
        try:
            sync(folder, os.O_RDONLY)
        except OSError as error:
            if error.errno in REFUSALS:
                raise


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, as a whole or not at all. Raises DiskError."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make a folder for what is written within. Raises InputError, one line, where the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
