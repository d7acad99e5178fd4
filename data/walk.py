"""The pictures below a folder, wherever they lie in it, and what lies there and is not taken, with the reason."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.errors import DataError
from data.files import open_file
from data.preparation import PICTURE_ENDINGS

# Formats of pictures that are not read, or of more than pictures.
OTHER_PICTURES = (
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".psd", ".svg", ".tga", ".ico", ".eps", ".dcm", ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".raw",
)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".rar", ".7z")
NO_PICTURES = (".txt", ".csv", ".json", ".xml", ".md", ".html", ".yaml", ".yml", ".ini", ".db", ".npy", ".mat", ".py")
# How a picture begins.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
# Why something is not taken; a folder behind a link that is left out counts as one.
CIRCLE, BROKEN_LINK, TWICE = "into a circle", "to nowhere", "to what is counted already"
PACKED = "not unpacked, for other data lie beside"
NOUNS = {CIRCLE: "link", BROKEN_LINK: "link", TWICE: "link", PACKED: "archive"}  # of what is counted: else pictures
HIDDEN, BESIDE, UNLISTED = "hidden", "beside the class folders", "in no list"
SIBLINGS = 1000  # folders of another folder that are looked into


def picture_files(folder: str | Path, unused: Counter | None = None) -> list[str]:
    """Paths of the pictures below a folder, sorted, but for hidden ones. Raises DataError where one may not look.

    Linked folders are searched after the others, and each folder once. A file that a link leads to counts once where it
    is there itself. `unused` learns how many there are of (reason, folder) for pictures and links that are left out.
    """
    unused = Counter() if unused is None else unused
    found, links = [], []
    for path, is_link in _walk(os.fspath(folder), unused):
        (links if is_link else found).append(path)
    if links:
        there = set(map(identity, found))
        for path in sorted(links):
            own = identity(path)
            if own in there:
                unused[TWICE, os.path.dirname(path)] += 1
            else:
                there.add(own)
                found.append(path)
    return sorted(found)


def unused_text(unused: Counter) -> str:
    """How many pictures and links are there and not taken, by reason."""
    reasons = Counter()
    for (reason, _), number in unused.items():
        reasons[reason] += number
    return f"not taken: {', '.join(counted(*pair) for pair in sorted(reasons.items()))}"


def counted(reason: str, number: int) -> str:
    """A number with the word for what it counts: 2 links to nowhere."""
    return f"{number:,} {NOUNS.get(reason, 'picture')}{'s' * (number > 1)} {reason}"


def _walk(top, unused) -> Iterator[tuple[str, bool]]:
    """(path, whether a link has led there) of each picture; folders behind links come last."""
    seen = set(above(top))
    waiting, linked = [(top, False)], []
    while waiting or linked:
        linked.sort(reverse=True)
        folder, by_link = (waiting or linked).pop()
        own = identity(folder)
        if own in seen:
            parent = os.path.dirname(folder)
            lies_in = {identity(parent), *above(parent)}
            unused[CIRCLE if own in lies_in else TWICE, parent] += 1
            continue
        seen.add(own)
        for entry in _entries(folder):
            if _is_folder(entry):
                if not is_visible(entry.name):
                    _count_hidden(entry.path, unused)
                elif entry.is_symlink():
                    linked.append((entry.path, True))
                else:
                    waiting.append((entry.path, by_link))
            elif is_picture(entry.name):
                yield entry.path, by_link or entry.is_symlink()
            elif reason := _why_not(entry):
                unused[reason, folder] += 1


def above(folder: str) -> Iterator[tuple | str]:
    """The identities of the folders that this one lies in: those of its name, and where links lead, those there."""
    for path in {os.path.abspath(folder), os.path.realpath(folder)}:
        while (parent := os.path.dirname(path)) != path:
            path = parent
            yield identity(path)


def identity(path: str) -> tuple | str:
    """The same for two paths that lead to one file or folder; a broken link is itself."""
    try:
        status = os.stat(path)
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _count_hidden(folder, unused):
    """Pictures below a hidden folder; what may not be read there does not matter."""
    for parent, _, names in os.walk(folder):
        if count := sum(_looks_like_picture(os.path.join(parent, name)) for name in filter(_has_ending, names)):
            unused[HIDDEN, folder] += count


def _why_not(entry):
    """Why a file is not taken, where it is or holds a picture; None where it is none."""
    ending = os.path.splitext(entry.name)[1].lower()
    if not is_visible(entry.name):
        return HIDDEN if _looks_like_picture(entry.path) else None
    if entry.is_symlink() and not os.path.exists(entry.path):
        return BROKEN_LINK
    if ending in OTHER_PICTURES:
        return f"of the format {ending}"
    if ending in ARCHIVES:
        return PACKED
    if ending not in NO_PICTURES and _looks_like_picture(entry.path):
        return f"called {ending}" if ending else "without an ending"
    return None


def _looks_like_picture(path):
    try:
        with open_file(path) as file:
            start = file.read(12)
    except (OSError, DataError):
        return False
    return start.startswith(SIGNATURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def count_beside(folder: str | Path, unused: Counter, folders: Iterable[str] = ()) -> None:
    """Count the pictures that lie in a folder itself, of which only folders are taken, and in those `folders` of it."""
    for entry in _entries(folder):
        if not _is_folder(entry):
            if is_picture(entry.name):
                unused[BESIDE, folder] += 1
            elif why := _why_not(entry):
                unused[why, folder] += 1
        elif not is_visible(entry.name):
            _count_hidden(entry.path, unused)
    for name in folders:
        other = os.path.join(folder, name)
        try:
            inner = [other, *(os.path.join(other, name) for name in visible_folders(other)[:SIBLINGS])]
            if pictures := sum(map(pictures_in, inner)):
                unused[BESIDE, other] += pictures
        except (OSError, DataError):  # it may not be read, and need not be
            pass


def pictures_in(folder: str | Path) -> int:
    """How many files that are called like pictures lie in the folder itself."""
    return sum(is_picture(entry.name) and not _is_folder(entry) for entry in _entries(folder))


def visible_folders(path: str | Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones. Raises OSError, and DataError for no text."""
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if _is_folder(entry) and is_visible(entry.name))
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8: no file could hold it
            raise DataError(f"{path}: folder {os.fsencode(name)!r}: its name is no UTF-8 text; rename it (convmv, say)")
    return names


def is_picture(name: str) -> bool:
    return is_visible(name) and _has_ending(name)


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name counts; zip archives from a Mac hold a second tree in __MACOSX."""
    return not name.startswith(".") and name != "__MACOSX"


def _has_ending(name):
    return name.lower().endswith(PICTURE_ENDINGS)
