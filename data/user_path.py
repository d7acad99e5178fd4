"""Paths as people write them, `~` included: one rule for every key of a config and every argument of a command."""

import os
from typing import Annotated

from pydantic import AfterValidator

LONGEST_NAME, LONGEST_PATH = 255, 3000  # bytes; a system takes 4,096, and files are to lie below it


def user_path(text: str | os.PathLike) -> str:
    """The path with `~` or `~user` at its beginning replaced by that home. Raises ValueError for what is no path.

    What was meant is settled once, when it is read: a run's config.yaml names the folder that was used, whoever reads
    it later and whatever their home is.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(f"{text}: there is no home of that user; ./{text} is a file or folder of that name")
    if "\0" in path:
        raise ValueError(f"{text}: holds a NUL character, which no path can")
    check_length(path, LONGEST_PATH)
    return path


def check_length(path: str, longest: int) -> None:
    """Raise ValueError for a path that a file system cannot take."""
    if len(os.fsencode(path)) > longest or any(len(os.fsencode(name)) > LONGEST_NAME for name in path.split("/")):
        raise ValueError(f"{path[:100]}…: too long; expected names of {LONGEST_NAME} bytes at most, in all {longest:,}")


UserPath = Annotated[str, AfterValidator(user_path)]
