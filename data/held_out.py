"""Which pictures of a folder without a split are held out for validation: the same ones each time."""

import hashlib
import os
from pathlib import Path

from data.errors import DataError
from data.files import open_file

VALIDATION = ("val", "valid", "validation")  # the first that is there, where the setting is left at val
PIECE = 1 << 20
LARGEST = 1 << 30  # bytes of a file that is compared with others: no picture has more


def held_out(files: list[str], root: Path, share: float, seed: int, noun: str = "picture") -> set[str]:
    """The part of one class that is for validation: the set of its paths.

    files: two or more. About `share` of them are chosen, one at least and never all, by a hash of seed and path from
    `root` on: the choice is the same on every machine, and a picture that is added or removed moves hardly any other.
    Files with the same bytes stay together where that can be. Raises DataError.
    """
    if len(files) < 2:
        raise DataError(f"{Path(files[0]).parent}: has one {noun}; wanted two or more, one of them for validation")
    wanted = min(max(1, round(share * len(files))), len(files) - 1)

    def lot(file):
        path = os.path.relpath(file, root).replace(os.sep, "/")
        return hashlib.sha256(b"%d %s" % (seed, os.fsencode(path))).digest()

    groups = _same_bytes(files)
    if len(groups) == 1:
        groups = [[file] for file in files]
    chosen = []
    for group in sorted(groups, key=lambda group: min(map(lot, group))):
        if len(chosen) + len(group) <= wanted:
            chosen += group
    return set(chosen or min(groups, key=len))


def _same_bytes(files):
    """The files in groups of equal content. Few need to be read: most have a size of their own."""
    groups = [files]
    for look in (_size, _content):
        finer = []
        for group in groups:
            alike = {}
            for file in group:
                alike.setdefault(look(file) if len(group) > 1 else None, []).append(file)
            finer += alike.values()
        groups = finer
    return groups


def _size(file):
    return os.path.getsize(file) if os.path.exists(file) else None


def _content(path):
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            while len(piece := file.read(PIECE)) and file.tell() <= LARGEST:
                digest.update(piece)
    except (OSError, DataError):  # reading the set will tell
        return path
    return path if piece else digest.digest()
