"""Where the videos of a folder lie, and their labels: class folders, split or not, or the lists of other programs."""

import os
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from data.errors import DataError, quoted
from data.held_out import VALIDATION, held_out
from data.lists import below, check_names, lines, listed_classes
from data.video.decoding import VIDEO_ENDINGS
from data.walk import above, identity, is_picture, is_visible, visible_folders


class Part(NamedTuple):
    """The videos of training or of validation: files, or folders of pictures; their labels; where they were found.

    frames: how many pictures a list promises of each, 0 where none does.
    """

    paths: list[str]
    labels: list[int]
    frames: list[int]
    origin: str


class Wanted(NamedTuple):
    """What the settings of `video_folder` say about where to look."""

    root: Path
    train: str
    validation: str
    train_videos: str
    validation_videos: str
    validation_share: float
    split_seed: int
    split: str
    first_label: int


class Entry(NamedTuple):
    """A line of a list: its number, the path as it stands there, how many frames it promises or 0, the label from 0."""

    line: int
    path: str
    frames: int
    label: int


def find_videos(wanted: Wanted) -> tuple[list[str], Part, Part]:
    """(class names, training Part, validation Part) of a folder. Raises DataError."""
    root = wanted.root
    if not root.is_dir():
        came = "is a file" if root.exists() else "no such folder"
        said = f"wanted a folder of class folders, or of {wanted.train} and {wanted.validation}"
        raise DataError(f"data.root {root}: {came}; {said}")
    if _is_split(wanted):
        classes, *parts = _given(wanted)
    else:
        classes, *parts = _held_out(wanted)
    if len(classes) < 2:
        raise DataError(f"{root}: has videos of one class only, {classes[0]}; wanted two or more")
    check_names(classes, root)
    return classes, *parts


def videos_below(folder: str | Path) -> list[str]:
    """The videos below a folder, sorted: files by their endings, and folders of pictures; those beside video files are
    covers. Links are followed, each folder is searched once. Hidden ones do not count. Raises DataError where one may
    not look.
    """
    found, seen = [], set(above(folder))

    def stop(error):
        raise DataError(f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        if (own := identity(parent)) in seen:
            folders.clear()
            continue
        seen.add(own)
        folders[:] = sorted(filter(is_visible, folders))
        files = [os.path.join(parent, name) for name in names if is_visible(name) and is_video(name)]
        found += files or [parent] * any(map(is_picture, names))
    return sorted(found)


def is_video(name: str) -> bool:
    return name.lower().endswith(VIDEO_ENDINGS)


def read_list(path: Path, first_label: int) -> list[Entry]:
    """The lines of a list: `video label`, or `folder frames label` of pictures, as MMAction and PaddleVideo write them.

    Raises DataError, also for a path with a space, which no other program could read either.
    """
    entries = []
    for number, line in lines(path):
        file, *counts = fields = line.split()
        if len(fields) not in (2, 3) or not all(count.isdecimal() and len(count) < 10 for count in counts):
            spaced = "; a path with a space has to be renamed" if len(fields) > 2 else ""
            comma = "; a comma does not separate them, but a space or a tab" if "," in line else ""
            said = "wanted `video label`, or `folder frames label` for pictures"
            raise DataError(f"{path}, line {number}: got {quoted(line)}, {said}{comma or spaced}")
        *frames, label = map(int, counts)
        if label < first_label:
            raise DataError(f"{path}, line {number}: label {label}, wanted {first_label} (data.first_label) or more")
        if frames == [0]:
            raise DataError(f"{path}, line {number}: got {quoted(line)}, a folder of 0 frames")
        entries.append(Entry(number, file, frames[0] if frames else 0, label - first_label))
    return entries


def _is_split(wanted):
    """Whether root holds train and validation; else it should hold the class folders."""
    root, train = wanted.root, wanted.train
    if wanted.split != "auto":
        return wanted.split == "folders"
    named_so = (train, wanted.validation) != ("train", "val")
    return named_so or (root / train).exists() or any((root / name).exists() for name in VALIDATION)


def _given(wanted):
    """Classes and parts where there is a folder or a list of each."""
    root, validation = wanted.root, wanted.validation
    if validation == "val" and not (root / "val").exists():
        validation = next((name for name in VALIDATION if (root / name).exists()), validation)
    names = [(wanted.train, root / wanted.train_videos), (validation, root / wanted.validation_videos)]  # may be equal
    lists = {name: read_list(root / name, wanted.first_label) for name, _ in names if not (root / name).is_dir()}
    if wanted.train in lists:
        classes = listed_classes(root, wanted.train, lists, wanted.first_label)
    else:
        classes = visible_folders(root / wanted.train)
        if not classes:
            raise DataError(f"{root / wanted.train}: holds no class folders; wanted one of videos for each class")
    parts = [
        _of_list(root / name, videos, lists[name], classes, wanted.first_label) if name in lists
        else Part(*_of_folders(root / name, classes), str(root / name))
        for name, videos in names
    ]
    return classes, *parts


def _of_list(path, videos, entries, classes, first_label):
    for entry in entries:
        if entry.label >= len(classes):
            last = len(classes) - 1 + first_label
            said = f"label {entry.label + first_label}, wanted {first_label} to {last}"
            raise DataError(f"{path}, line {entry.line}: {said}")
    _, _, frames, labels = map(list, zip(*entries, strict=True))
    files = [os.path.join(videos, below(videos, entry.path, f"{path}, line {entry.line}")) for entry in entries]
    if not os.path.exists(files[0]):
        setting = "data.train_videos or data.validation_videos names the folder below data.root that its paths begin at"
        raise DataError(f"{path}, line {entries[0].line}: no such video: {files[0]}; {setting}")
    return Part(files, labels, frames, str(path))


def _of_folders(path, classes):
    """Paths, labels and no promises of class folders, in sorted order."""
    folders = visible_folders(path)
    if set(folders) != set(classes):
        odd = sorted(set(folders) ^ set(classes))[0]
        came = "lacks a folder for" if odd in classes else "has a folder for the unknown"
        raise DataError(f"{path}: {came} class {odd!r}; wanted the {len(classes)} classes of the training set")
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = videos_below(path / name)
        if not found:
            kinds = " ".join(VIDEO_ENDINGS)
            raise DataError(f"{path / name}: empty class folder; wanted videos ({kinds}) or folders of pictures")
        paths += found
        labels += [label] * len(found)
    return paths, labels, [0] * len(paths)


def _held_out(wanted):
    """Classes and parts out of class folders without a split."""
    root, percent = wanted.root, f"{100 * wanted.validation_share:g} % of every class"
    classes = visible_folders(root)
    if not classes:
        raise DataError(f"{root}: holds no folders; wanted one of videos for each class, or train and val with such")
    parts = Part([], [], [], f"{root} less {percent}"), Part([], [], [], f"{percent} in {root} (data.validation_share)")
    paths, labels, _ = _of_folders(root, classes)
    for label, own in groupby(zip(labels, paths, strict=True), key=lambda pair: pair[0]):
        files = [path for _, path in own]
        chosen = held_out(files, root, wanted.validation_share, wanted.split_seed, "video")
        for path in files:
            part = parts[path in chosen]
            part.paths.append(path)
            part.labels.append(label)
            part.frames.append(0)
    return classes, *parts
