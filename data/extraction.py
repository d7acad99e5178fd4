"""Archives written below a folder: nothing leads out of it, and the disk never runs full.

Every file is made here, anew, and no symbolic link is: no name can lead through one.
"""

import os
import shutil
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data.errors import DataError, quoted
from data.members import PIECE, members

EXPANSION, LEAST = 100, 10**9  # pictures hardly shrink: what is more than so many times as large, and bytes, is refused
LOOK_EVERY = 1 << 26  # bytes between two looks at the room on the disk; a file counts as FILE_BYTES at least
FILE_BYTES = 4096


class Budget:
    """What unpacking some archives into `folder` may take: bytes, files, and always some room left on the disk.

    gigabytes: None is 100 times what the archives have, 1 GB at least. All methods raise DataError where it is too
    much, and name the archive `path`.
    """

    def __init__(self, archives: Sequence[Path], folder: Path, gigabytes: float | None, files: int):
        packed = sum(path.stat().st_size for path in archives)
        self.most_bytes = max(EXPANSION * packed, LEAST) if gigabytes is None else round(gigabytes * 1e9)
        self.most_files, self.folder = files, folder
        self.bytes = self.files = self._unlooked = 0
        self.check_room(archives[0], packed)

    def take(self, path: Path, size: int = 0, files: int = 0) -> None:
        """Count what is about to be written."""
        self.bytes += size
        self.files += files
        self.check_bytes(path, self.bytes)
        if self.files > self.most_files:
            wanted = f"wanted {self.most_files:,} at most; reading.max_unpacked_files=N allows more"
            raise DataError(f"{path}: is not unpacked, for it holds too many files and folders; {wanted}")
        self._unlooked += size + FILE_BYTES * files
        if self._unlooked >= LOOK_EVERY:
            self._unlooked = 0
            self.check_room(path, 0)

    def check(self, path: Path, size: int) -> None:
        """Whether an archive that has so many bytes unpacked may be, and has the room."""
        self.check_bytes(path, size)
        self.check_room(path, size)

    def check_bytes(self, path: Path, size: int) -> None:
        if size > self.most_bytes:
            raise DataError(
                f"{path}: is not unpacked, for it takes more than {self.most_bytes / 1e9:.3g} GB; "
                "reading.max_unpacked_gb=N allows more"
            )

    def check_room(self, path: Path, wanted: int) -> None:
        """Whether so many bytes more leave a twentieth of the disk free, or 1 GB where that is less."""
        disk = shutil.disk_usage(self.folder)
        if wanted + min(10**9, disk.total // 20) > disk.free:
            raise DataError(
                f"{path}: {max(wanted, self.bytes) / 1e9:.1f} GB unpacked, but {disk.free / 1e9:.1f} GB are free at "
                f"{self.folder.parent}, and some must stay free; XDG_CACHE_HOME can name another folder"
            )


def extract(path: Path, folder: Path, budget: Budget, *, alone: bool) -> None:
    """Write all members of the archive below `folder`; raises DataError for what is damaged, leads out or is too much.

    A link to a file of the archive becomes another name of that file; an archive with other links is refused. alone:
    whether no other archive is unpacked into the folder, for the words about a name that is there twice.
    """
    links, made = [], set()
    with members(path, partial(budget.check_bytes, path), bar=True) as found:
        for member in found:
            is_folder = member.kind == "folder"
            _make_folders(path, folder, member.parts if is_folder else member.parts[:-1], made, budget)
            if is_folder:
                continue
            budget.take(path, files=1)
            if member.kind == "link":
                links.append(member)
            else:
                _write(path, folder, member, budget, alone)
        for link in links:
            _write_link(path, folder, link, budget, alone)


def _make_folders(path, folder, parts, made, budget):
    for depth in range(len(parts) + 1):
        inner = parts[:depth]
        if inner not in made:
            budget.take(path, files=1)
            folder.joinpath(*inner).mkdir(exist_ok=True)
            made.add(inner)


def _write(path, folder, member, budget, alone):
    try:
        with open(folder.joinpath(*member.parts), "xb") as file:
            for piece in member.pieces:
                budget.take(path, len(piece))
                file.write(piece)
    except FileExistsError:
        what = "there twice" if alone else "and so does another archive beside it"
        raise DataError(f"{path}: holds {member.name}, {what}") from None


def _write_link(path, folder, link, budget, alone):
    """Another name of the file, or where the file system has no such thing, a copy."""
    target = folder.joinpath(*link.target)
    if not (os.path.lexists(target) and stat.S_ISREG(target.lstat().st_mode)):
        raise DataError(f"{path}: is not unpacked, for {quoted(link.name)} is a link, and not to a file that it holds")
    try:
        os.link(target, folder.joinpath(*link.parts))
    except OSError:
        _write(path, folder, link._replace(pieces=_pieces(target)), budget, alone)


def _pieces(path):
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece
