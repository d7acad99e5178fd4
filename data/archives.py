"""Archives in the place of folders: a data set that lies there as zip or tar is unpacked once, to another place."""

import contextlib
import hashlib
import itertools
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from data.errors import DataError
from data.layout import VALIDATION, is_visible
from data.preparation import PICTURE_ENDINGS
from data.sources import SOURCES

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SPLITS = ("train", "test", *VALIDATION)
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
# What its reader takes as it is: cifar-10-python.tar.gz, train-images-idx3-ubyte.gz …
PUBLISHED = {address.rsplit("/", 1)[1] for files in SOURCES.values() for address, _ in files}
# Refuses links that lead outside. Pythons before 3.10.12 and 3.11.4 lack it; there all links are refused.
SAFE_LINKS = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def find_archives(root) -> list[Path]:
    """The archives (.zip .tar .tar.gz .tgz) that lie where data should: `root` itself, or those in the folder `root`.

    There are none where nothing is, nor in a folder that holds data: a folder, a picture, or a file that its reader
    takes as it is, such as cifar-10-python.tar.gz.
    """
    root = Path(root)
    try:
        entries = _visible(root) if root.is_dir() else [root]
        return [] if any(map(_is_data, entries)) else list(filter(_is_archive, entries))
    except OSError:  # the data set's reader will say what is wrong
        return []


def unpack(root, cache: Path) -> Path:
    """Unpack the archives that `find_archives` finds, below the folder `cache`; returns the folder that has the data.

    An archive is unpacked as it is; of several, one with more than one thing at its top gets a folder of its name.
    Other files beside them, lists for one, are linked. Where all lies in one folder in the end, that is returned.

    Nothing is written to `root`. The files go to a temporary folder, which is renamed when all is there; of processes
    that start together one does it and the others wait. It is done again only where the names of what lies in root, or
    an archive's size or time, have changed; what came of it before is removed then. Raises DataError: an archive that
    is damaged, encrypted or leads out of its folder, no room on the disk, no place to write.
    """
    root = Path(os.path.abspath(root))
    archives = find_archives(root)
    files = list(filter(Path.is_file, _visible(root))) if root.is_dir() else archives
    place = cache / f"{root.name}-{_digest(root)}"
    folder = place / _digest([(file.name, _version(file) if file in archives else None) for file in files])
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            with open(place / ".lock", "w") as lock:
                _wait_for_turn(lock, root)
                if not folder.exists():
                    _fill(folder, archives, [file for file in files if file not in archives])
    except OSError as error:
        raise DataError(f"{place}: {error.strerror}; XDG_CACHE_HOME can name another folder") from error
    return _with_the_data(folder)


def _visible(folder):
    return sorted(path for path in folder.iterdir() if is_visible(path.name))


def _is_data(path):
    known = path.name in PUBLISHED or f"{path.name}.gz" in PUBLISHED
    return known or path.name.lower().endswith(PICTURE_ENDINGS) or path.is_dir()


def _is_archive(path):
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def _version(file):
    return file.stat().st_size, file.stat().st_mtime_ns


def _digest(value):
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _with_the_data(folder):
    """The folder, or that in it in which all lies."""
    while len(entries := [path for path in _visible(folder) if not _is_about(path)]) == 1 and entries[0].is_dir():
        (folder,) = entries
    return folder


def _is_about(path):
    return path.is_file() and path.name.lower().startswith(("readme", "license", "desktop.ini", "thumbs.db"))


def _wait_for_turn(lock, root):
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another process is unpacking {root}; waiting for it", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        pass


def _fill(folder, archives, others):
    """Make `folder`: what exists is finished. The caller keeps other processes away."""
    for before in _visible(folder.parent):  # from files that have changed since, or from a process that was killed
        shutil.rmtree(before)
    unfinished = folder.with_name("unfinished")
    unfinished.mkdir()
    try:
        _check_room(archives, unfinished)
        print(f"Unpacking {', '.join(map(str, archives))} into {folder}", file=sys.stderr, flush=True)
        alone = len(archives) == 1
        tops = {path: set() if alone else _tops(path) for path in archives}
        _check_apart(tops, [file for file in others if not _is_about(file)])
        for path in archives:
            into = unfinished if alone or len(tops[path]) == 1 else unfinished / _stem(path)
            _extract(path, into, overwrite=alone)
        for file in others:
            if not (unfinished / file.name).exists():
                (unfinished / file.name).symlink_to(file)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_room(archives, folder):
    wanted, free = sum(map(_unpacked_bytes, archives)), shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"{', '.join(map(str, archives))}: {wanted / 1e9:.1f} GB unpacked, but {free / 1e9:.1f} GB are free at "
            f"{folder.parent}; XDG_CACHE_HOME can name another folder"
        )


def _unpacked_bytes(path):
    with _opened(path) as archive:
        if isinstance(archive, zipfile.ZipFile):
            return sum(member.file_size for member in archive.infolist())
    return path.stat().st_size  # how much a compressed tar holds is known at its end only; pictures hardly shrink


def _tops(path):
    with _opened(path) as archive:
        names = archive.namelist() if isinstance(archive, zipfile.ZipFile) else archive.getnames()
    return {top for name in names for top in PurePosixPath(name).parts[:1] if is_visible(top)}


def _check_apart(tops, others):
    """Parts of one folder come together, but not those of train and test; where there are lists, they tell."""
    splits = [path for path in tops if _stem(path).lower() in SPLITS and len(tops[path]) == 1]
    for first, second in itertools.combinations(splits, 2):
        if tops[first] == tops[second] and not others:
            raise DataError(
                f"{first}: and {second.name} both hold the folder {min(tops[first])}, in which they would be mixed; "
                f"unpack them by hand, or data.root={first} holds out a share of it"
            )


def _stem(path):
    return next(path.name[: -len(ending)] for ending in ENDINGS if path.name.lower().endswith(ending))


def _extract(path, folder, *, overwrite):
    with _opened(path, bar=True) as archive:
        is_zip = isinstance(archive, zipfile.ZipFile)
        for member in archive.infolist() if is_zip else archive:
            name = member.filename if is_zip else member.name
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/"):
                raise DataError(f"{path}: is not unpacked, for it holds {name!r}, which leads out of its folder")
            if not overwrite and (folder / name).is_file():
                raise DataError(f"{path}: holds {name}, and so does another archive beside it")
            if is_zip:
                archive.extract(member, folder)  # a link in a zip becomes a file
            elif SAFE_LINKS or member.isfile() or member.isdir():
                archive.extract(member, folder, set_attrs=False, **SAFE_LINKS)
            else:
                raise DataError(f"{path}: is not unpacked, for {name!r} is a link; a newer Python can tell safe ones")
        if not is_zip:
            _check_end(archive)


def _check_end(archive):
    """tarfile takes a damaged header for the end, and leaves the checksum behind the end unread."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError("it is damaged or cut short")
    while archive.fileobj.read(1 << 20):
        pass


@contextlib.contextmanager
def _opened(path, bar=False):
    """The ZipFile or TarFile; whatever goes wrong with it becomes a DataError."""
    watched = {"total": path.stat().st_size, "desc": path.name, "leave": False, "disable": None if bar else True}
    try:
        with open(path, "rb") as raw, tqdm.wrapattr(raw, "read", **watched) as file:
            if path.name.lower().endswith(".zip"):
                with zipfile.ZipFile(file) as archive:
                    for member in archive.infolist():
                        member.filename = _name(member)
                    yield archive
            else:
                with tarfile.open(fileobj=file) as archive:
                    yield archive
    except DataError:
        raise
    except Exception as error:  # zipfile, tarfile, gzip and zlib each have their own ways to say that it is damaged
        raise DataError(f"{path}: cannot be unpacked: {' '.join(str(error).split())}") from error


def _name(member):
    """A zip says that a name is UTF-8, or nothing: then macOS writes UTF-8, and Windows in China GBK."""
    if not member.flag_bits & 0x800:
        for encoding in ("utf-8", "gbk"):
            with contextlib.suppress(UnicodeError):
                return member.filename.encode("cp437").decode(encoding).replace("\\", "/")
    return member.filename.replace("\\", "/")
