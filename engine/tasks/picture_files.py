"""The picture files that a command is given, for tasks whose answers are about pictures."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data import PICTURE_ENDINGS, picture_files
from data.walk import unused_text
from engine.errors import InputError
from engine.terminal import printable

log = logging.getLogger("engine")


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """The picture files among paths, in order. Raises InputError where there is none.

    A folder is searched to any depth for files with the endings of pictures, hidden ones apart, and what is left out is
    logged; a file is taken whatever its ending.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _pictures_below(path)
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such picture or folder")
    return found


def _pictures_below(folder):
    unused = Counter()
    found = [Path(file) for file in picture_files(folder, unused)]
    if unused:
        log.warning("%s", printable(f"{folder}: {unused_text(unused)}"))
    if not found:
        raise InputError(f"{folder}: no pictures in this folder; looked for {', '.join(sorted(PICTURE_ENDINGS))}")
    return found
