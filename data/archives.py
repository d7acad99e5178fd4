"""Archives in the place of folders: a data set that lies there as zip or tar is unpacked once, to another place."""

import hashlib
import itertools
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from data.errors import DataError, printable
from data.extraction import Budget, extract
from data.layout import VALIDATION
from data.members import members
from data.preparation import PICTURE_ENDINGS
from data.sources import SOURCES
from data.walk import is_visible

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SPLITS = ("train", "test", *VALIDATION)
MOST_FILES = 5_000_000
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
# What its reader takes as it is: cifar-10-python.tar.gz, train-images-idx3-ubyte.gz …
PUBLISHED = {address.rsplit("/", 1)[1] for files in SOURCES.values() for address, _ in files}


def find_archives(root: str | Path) -> list[Path]:
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


def unpack(root: str | Path, cache: Path, max_gb: float | None = None, max_files: int = MOST_FILES) -> Path:
    """Unpack the archives that `find_archives` finds, below the folder `cache`; returns the folder that has the data.

    An archive is unpacked as it is; of several, one with more than one thing at its top gets a folder of its name.
    Other files beside them, lists for one, are linked. Where all lies in one folder in the end, that is returned.

    Nothing is written to `root`. The files go to a temporary folder, which is renamed when all is there; of processes
    that start together one does it and the others wait. It is done again only where the names of what lies in root, or
    an archive's size or time, have changed; what came of it before is removed then.

    max_gb, max_files: what all may take at most, files and folders together; None is 100 times what the archives have,
    1 GB at least. Raises DataError: an archive that is damaged, encrypted, leads out of its folder or takes more, no
    room on the disk, no place to write.
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
                    _fill(folder, archives, [file for file in files if file not in archives], max_gb, max_files)
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
        print(printable(f"Another process is unpacking {root}; waiting for it"), file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        pass


def _fill(folder, archives, others, gigabytes, most_files):
    """Make `folder`: what exists is finished. The caller keeps other processes away."""
    for before in _visible(folder.parent):  # from files that have changed since, or from a process that was killed
        shutil.rmtree(before)
    unfinished = folder.with_name("unfinished")
    unfinished.mkdir()
    try:
        budget = Budget(archives, unfinished, gigabytes, most_files)
        alone = len(archives) == 1
        tops = {path: _tops(path, budget, alone) for path in archives}
        print(printable(f"Unpacking {', '.join(map(str, archives))} into {folder}"), file=sys.stderr, flush=True)
        _check_apart(tops, [file for file in others if not _is_about(file)])
        for path in archives:
            into = unfinished if alone or len(tops[path]) == 1 else unfinished / _stem(path)
            extract(path, into, budget, alone=alone)
        for file in others:
            if not (unfinished / file.name).exists():
                (unfinished / file.name).symlink_to(file)
        if hasattr(os, "sync"):
            os.sync()  # a power failure would keep the name and lose what is in the files
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _tops(path, budget, alone):
    """What lies at the top of an archive, of the things that count; where there are others, for it takes a while."""
    with members(path, partial(budget.check, path)) as found:
        return set() if alone else {top for member in found for top in member.parts[:1] if is_visible(top)}


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
