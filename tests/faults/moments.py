"""When a fault comes: at a time, or at the n-th moment at which a process opens, renames, links or removes a file."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

OPERATIONS = {"open", "os.rename", "os.remove", "os.link", "os.truncate", "os.mkdir"}
READING = os.O_ACCMODE | os.O_CREAT  # the bits of open's flags; none of them is set in a file that is only read


def at_operations(folder: Path, act: Callable[[int, str], None]) -> None:
    """In this process: before each operation that changes files in a folder, call act(number from 1 on, its name).

    The name is the operation and the file's path below the folder. What `act` raises is what the operation raises.
    """
    inside, count, acting = f"{folder}/", 0, False

    def hook(event, arguments):
        nonlocal count, acting
        if event not in OPERATIONS or acting or not arguments or not _changes(event, arguments):
            return
        path = os.fspath(arguments[0]) if not isinstance(arguments[0], int) else ""
        if isinstance(path, bytes) or not path.startswith(inside):
            return
        count, acting = count + 1, True
        try:
            act(count, f"{event} {path.removeprefix(inside)}")
        finally:
            acting = False

    sys.addaudithook(hook)


def at_operation(folder: Path, number: int, act: Callable[[], None]) -> None:
    """Call act() before the n-th of them alone."""
    at_operations(folder, lambda count, name: act() if count == number else None)


def recording(folder: Path, file: Path) -> Callable[[], None]:
    """What in a process writes the names of its operations to a file, a line each."""

    def begin():
        def note(number, name):
            os.write(names, f"{name}\n".encode())

        names = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        at_operations(folder, note)

    return begin


def _changes(event, arguments):
    return event != "open" or bool(arguments[2] & READING)
