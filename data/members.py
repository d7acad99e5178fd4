"""What a zip or tar holds, one member after the other: under names that lead nowhere else, in pieces of bounded size.

Names, kinds and links are judged here, not by the filters of whatever tarfile or zipfile the interpreter has.
"""

import contextlib
import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from tqdm.auto import tqdm

from data.errors import DataError, printable, quoted
from data.files import open_file

PIECE = 1 << 18  # bytes read at once; a tar's extended header, which tarfile reads whole, may have no more
DRIVE = re.compile(r"[A-Za-z]:")
DEEPEST = 64  # folders in each other
LINK_BYTES = 4096  # of a zip's member that says where a link leads


class Member(NamedTuple):
    """One thing in an archive: the parts of its name, and what is written there, once, before the next is asked for.

    kind: "file", "folder" or "link". pieces: a file's content. target: the parts of the name that a link leads to.
    """

    name: str
    parts: tuple[str, ...]
    kind: str
    pieces: Iterable[bytes] = ()
    target: tuple[str, ...] = ()


@contextlib.contextmanager
def members(path: Path, check: Callable[[int], None], bar: bool = False) -> Iterator[Iterator[Member]]:
    """The Members of an archive, one after the other; whatever goes wrong with it becomes a DataError.

    `check` is told, before any work where that is known, how many bytes the archive has unpacked, and may raise.
    """
    watched = {"total": path.stat().st_size, "desc": printable(path.name), "leave": False}
    watched["disable"] = None if bar else True  # None: where nobody looks
    try:
        with open_file(path) as raw, tqdm.wrapattr(raw, "read", **watched) as file:
            if path.name.lower().endswith(".zip"):
                with zipfile.ZipFile(file) as archive:
                    check(sum(member.file_size for member in archive.infolist()))
                    yield _zip_members(path, archive)
            else:
                yield _tar_members(path, file, check)
    except DataError:
        raise
    except Exception as error:  # zipfile, tarfile, gzip and zlib each have their own ways to say that it is damaged
        raise DataError(f"{path}: cannot be unpacked: {' '.join(str(error).split())}") from error


def _parts(path, name):
    """The parts of a member's name; DataError where it could lead out of the folder on any system."""
    parts = PurePosixPath(name).parts
    if "\0" in name:
        raise DataError(f"{path}: is not unpacked, for it holds {quoted(name)}, which is no name")
    if name.startswith("/") or ".." in parts or any(map(DRIVE.match, parts)):
        raise DataError(f"{path}: is not unpacked, for it holds {quoted(name)}, which leads out of its folder")
    if len(parts) > DEEPEST:
        raise DataError(f"{path}: is not unpacked, for {quoted(name)} lies deeper than {DEEPEST} folders")
    return parts


def _target(path, name, folder, target):
    """The parts of what a link leads to, without a look at any disk; `folder` has the parts that it starts from."""
    parts = list(folder)
    for part in PurePosixPath(target).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            parts = ["/"]
            break
    if "/" in parts or "\0" in target:
        raise DataError(f"{path}: is not unpacked, for {quoted(name)} is a link that leads out of its folder")
    return tuple(parts)


def _named(path, name, kind, pieces=(), link="", from_top=False):
    """The Member of this name, or a DataError."""
    parts = _parts(path, name)
    if not parts and kind != "folder":
        raise DataError(f"{path}: is not unpacked, for it holds {quoted(name)}, which is no name")
    target = _target(path, name, () if from_top else parts[:-1], link.replace("\\", "/")) if kind == "link" else ()
    return Member(name, parts, kind, pieces, target)


def _zip_members(path, archive):
    for member in archive.infolist():
        name, kind = _zip_name(member), stat.S_IFMT(member.external_attr >> 16)  # 0 where no Unix has packed it
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise DataError(f"{path}: is not unpacked, for {quoted(name)} is no file, folder or link")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{path}: {quoted(name)} is neither stored nor deflated; pack it as an ordinary zip")
        if kind == stat.S_IFLNK:
            with archive.open(member) as file:
                target = file.read(LINK_BYTES).decode("utf-8", "surrogateescape")
            yield _named(path, name, "link", link=target)
        elif name.endswith("/"):
            yield _named(path, name, "folder")
        else:
            yield _named(path, name, "file", _zip_pieces(archive, member))


def _zip_pieces(archive, member):
    with archive.open(member) as file:
        while piece := file.read(PIECE):
            yield piece


def _zip_name(member):
    """A zip says that a name is UTF-8, or nothing: then macOS writes UTF-8, and Windows in China GBK."""
    if not member.flag_bits & 0x800:
        for encoding in ("utf-8", "gbk"):
            with contextlib.suppress(UnicodeError):
                return member.filename.encode("cp437").decode(encoding).replace("\\", "/")
    return member.filename.replace("\\", "/")


def _tar_members(path, file, check):
    with open_tar(file, check) as archive:
        while (member := next_member(archive)) is not None:
            name = member.name.replace("\\", "/")
            if member.isdir():
                yield _named(path, name, "folder")
            elif member.issym() or member.islnk():
                yield _named(path, name, "link", link=member.linkname, from_top=member.islnk())
            elif member.isreg():
                yield _named(path, name, "file", tar_pieces(archive, member))
            else:
                raise DataError(f"{path}: is not unpacked, for {quoted(name)} is no file, folder or link")
        while archive.fileobj.read(PIECE):  # to the checksum behind the end, which tarfile leaves unread
            pass


def tar_pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """The content of the file that is the archive's current member."""
    file = archive.extractfile(member)
    while piece := file.read(PIECE):
        yield piece


def open_tar(file: BinaryIO, check: Callable[[int], None]) -> tarfile.TarFile:
    """A tar, plain or gzipped, that is read forwards only; `check` is told each place in it before it is gone to.

    What tarfile reads at once and where it seeks is bounded here: a header can ask for any number of bytes.
    """
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return tarfile.TarFile(fileobj=_Forwards(gzip.GzipFile(fileobj=file) if packed else file, check))


def next_member(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next TarInfo, or None at the end; EOFError where what is there is no end."""
    member = archive.next()
    archive.members.clear()  # they would be kept, a million objects for a million files
    if member is None and archive.fileobj.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a damaged header for it
        raise EOFError("it is damaged or cut short")
    return member


class _Forwards:
    """A file as tarfile reads it: in small pieces and forwards. `last` is the piece that was read last."""

    def __init__(self, file, check):
        self.file, self.check, self.position, self.last = file, check, 0, b""

    def read(self, size):
        if not 0 <= size <= PIECE:
            raise ValueError(f"a header of {size:,} bytes")
        self.check(self.position + size)
        self.last = self.file.read(size)
        self.position += len(self.last)
        return self.last

    def seek(self, position):
        if position < self.position:
            raise ValueError("a member of a size below 0")
        self.check(position)
        self.position = self.file.seek(position)

    def tell(self):
        return self.position
