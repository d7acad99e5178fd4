"""The mark of the one runner that has a sweep's folder to itself, on whichever machine: who it is, and that it lives.

No lock of a file system stands behind it, for one that many machines share may have none. The mark is a file that its
driver writes anew every few seconds; whoever finds one looks for a while whether it changes, and takes over where it
does not. It is written, never appended, and read by opening it, which every shared file system keeps in order.
"""

import contextlib
import itertools
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from engine.errors import InputError
from engine.files import read_text, writing, writing_into

DRIVER_FILE = ".driver"
BEAT_SECONDS = 3.0
PATIENCE_SECONDS = 15.0  # a driver that has been silent for so long has ended
SETTLE_SECONDS = 1.0  # two that begin at once have both written by then, and the last one stays
MOST_BYTES = 4096


class TakenOver(InputError):
    """Another driver has the sweep that was this one's."""


class Mark:
    """A driver's own mark."""

    def __init__(self, folder: Path, address: str):
        self.folder, self.address = folder, address
        self.identity, self.beats, self.ended = uuid.uuid4().hex, itertools.count(), threading.Event()

    def check(self) -> None:
        """Raise TakenOver where another driver is there, as after this process stood still for long.

        Raises InputError or OSError where the mark cannot be read.
        """
        address, beat = _read(self.folder) or (self.address, self.identity)
        if not beat.startswith(self.identity):
            raise TakenOver(f"{self.folder}: meanwhile {address} has taken over this sweep")

    def look(self) -> None:
        """The same, all the time: of a mark that cannot be read now nothing is known, and the disk may be back soon."""
        try:
            self.check()
        except TakenOver:
            raise
        except (InputError, OSError):
            pass

    def beat(self) -> None:
        """Write the mark anew, through a name of its own: another driver may be writing its. Raises DiskError."""
        part = self.folder / f"{DRIVER_FILE}.{self.identity}"
        with writing(part):
            part.write_text(f"{self.address}\n{self.identity} {next(self.beats)}\n", encoding="utf-8")
            os.replace(part, self.folder / DRIVER_FILE)

    def keep(self) -> None:
        """Beat until the end, or until another has taken over."""
        while not self.ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # the disk may be back at the next beat
                try:
                    self.look()
                except TakenOver:  # which the driver's own look tells
                    return
                self.beat()


@contextlib.contextmanager
def driving(folder: Path, address: str) -> Iterator[Mark]:
    """Within, this process drives the sweep in a folder, which it makes. Raises InputError where another one does."""
    refuse_while_driven(folder)
    mark = Mark(folder, address)
    with writing_into(folder):
        mark.beat()
    time.sleep(SETTLE_SECONDS)
    mark.check()
    keeper = threading.Thread(target=mark.keep, daemon=True)
    keeper.start()
    try:
        yield mark
    finally:
        mark.ended.set()
        keeper.join()
        with contextlib.suppress(InputError, OSError):
            mark.check()
            (folder / DRIVER_FILE).unlink(missing_ok=True)


def refuse_while_driven(folder: Path) -> None:
    """Raise InputError, with its address, while a driver is at work in the folder.

    Where one was killed this takes PATIENCE_SECONDS, and its mark goes.
    """
    before = _read(folder)
    until = time.monotonic() + PATIENCE_SECONDS
    while before and time.monotonic() < until:
        time.sleep(BEAT_SECONDS / 4)
        now = _read(folder)
        if now and now != before:
            raise InputError(f"{folder}: {now[0]} is at work in it; let it finish, or stop it there")
        before = now
    if before and before == _read(folder):
        (folder / DRIVER_FILE).unlink(missing_ok=True)


def _read(folder):
    """(address, beat) of the mark; None where there is none."""
    path = folder / DRIVER_FILE
    if not path.exists():
        return None
    address, _, beat = read_text(path, most=MOST_BYTES).partition("\n")
    return address, beat
