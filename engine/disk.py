"""Files on a disk that may be full, read-only or gone: written whole or not at all, refused in one line."""

import contextlib
import errno
import os
from pathlib import Path

from engine.errors import DiskError

# What no bug ever raises, wherever it comes from.
REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE, errno.ENOTCONN, errno.ENODEV,
)


@contextlib.contextmanager
def writing(path: str | Path):
    """Within, an OSError is a DiskError that names the file which is being written."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def written_whole(path: Path):
    """Gives a temporary path beside `path` that takes its place at the end, and is gone where there was an error."""
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            yield part
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all. Raises DiskError."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")
