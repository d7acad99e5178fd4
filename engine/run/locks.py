"""Who works in a folder: locks that end with the process that holds them, however it ends."""

import contextlib
import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from engine.errors import InputError
from engine.files import ordinary, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RUN_LOCK = ".lock"
_claimed = {}


def hold(path: Path) -> TextIO | None:
    """Lock a file for as long as this process lives or until what is returned is closed; None if another has it.

    Raises DiskError, as all here do, where the file cannot be written.
    """
    lock = _opened(path)
    if fcntl is None or _taken(lock, fcntl.LOCK_EX):
        return lock
    lock.close()
    return None


def claim(folder: Path) -> bool:
    """Keep other processes from training in this folder while this one lives; whether that is new.

    Raises InputError if another process does already.
    """
    if folder in _claimed:
        return False
    for _ in range(4):
        if lock := hold(folder / RUN_LOCK):
            _claimed[folder] = lock
            return True
        time.sleep(0.2)  # it may have been no more than a look of `is_claimed`
    raise InputError(f"{folder}: another process is training in it")


def is_claimed(folder: Path) -> bool:
    """Whether another process is training in this folder now."""
    if not folder.exists():
        return False
    for seconds in (0.05, 0):
        if lock := hold(folder / RUN_LOCK):
            lock.close()
            return False
        time.sleep(seconds)  # it may have been no more than another's look
    return True


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within, no other process is within this for the same path; it waits for its turn."""
    with _opened(path) as lock:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def share(path: Path, others_allowed: bool = True) -> bool:
    """Hold a lock that others may share, while this process lives; False where others hold it and may not."""
    lock = _opened(path)  # held until the process ends
    if fcntl is not None:
        if not others_allowed and not _taken(lock, fcntl.LOCK_EX):
            lock.close()
            return False
        _taken(lock, fcntl.LOCK_SH)
    _claimed[path] = lock
    return True


def _opened(path):
    with writing(path):
        return open(path, "a+", opener=ordinary)  # noqa: SIM115


def _taken(lock, kind):
    """Take a lock if nobody stands against it. Not flock: reading processes would inherit that and outlive us."""
    try:
        fcntl.lockf(lock, kind | fcntl.LOCK_NB)
    except OSError as error:  # any other: a file system without locks
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
