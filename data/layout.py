"""Where the pictures of a folder lie, and their labels: class folders, split or not, or lists of `path label`."""

import os
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from data.errors import DataError
from data.held_out import VALIDATION, held_out
from data.lists import check_names, listed_classes, read_list
from data.preparation import PICTURE_ENDINGS
from data.walk import UNLISTED, count_beside, picture_files, pictures_in, visible_folders


class Part(NamedTuple):
    """The files of training or of validation: paths below root, their labels, and in words where they were found."""

    paths: list[str]
    labels: list[int]
    origin: str


class Wanted(NamedTuple):
    """What the settings of `image_folder` say about where to look."""

    root: Path
    train: str
    validation: str
    split: str
    first_label: int
    validation_share: float
    split_seed: int


def find_parts(wanted: Wanted) -> tuple[list[str], Part, Part, Counter]:
    """(class names, training Part, validation Part, Counter of what is not taken, as walk.py has it) of a folder.

    Raises DataError.
    """
    root, train, validation = wanted.root, wanted.train, wanted.validation
    if not root.is_dir():
        came = "is a file" if root.exists() else "no such folder"
        raise DataError(f"data.root {root}: {came}; wanted a folder of class folders, or of {train} and {validation}")
    unused = Counter()
    if _is_split(wanted):
        classes, *parts = _given(wanted, unused)
    else:
        classes = _unsplit_class_names(root)
        parts = _held_out(wanted, classes, unused)
        count_beside(root, unused)
    check_names(classes, root)
    return classes, *parts, unused


def _is_split(wanted):
    """Whether root holds train and validation; else it should hold the class folders."""
    root, train = wanted.root, wanted.train
    named_so = (train, wanted.validation) != ("train", "val")
    if wanted.split == "none" and named_so:
        raise DataError(f"data.split none: takes no data.train ({train}) and no data.validation ({wanted.validation})")
    if wanted.split != "auto":
        return wanted.split == "folders"
    if named_so or (root / train).is_file():
        return True
    named = [name for name in (*VALIDATION, "test") if (root / name).exists()]
    if named and not (root / train).exists():
        raise DataError(
            f"{root}: has {named[0]}, but no {train}; wanted both, data.train=NAME where it is called otherwise, or "
            "data.split=none where all folders are classes"
        )
    return bool(named) or ((root / train).is_dir() and bool(visible_folders(root / train)))


def _validation_name(wanted):
    root, train = wanted.root, wanted.train
    if wanted.validation != "val" or not (root / train).is_dir():
        return wanted.validation
    found = [name for name in VALIDATION if (root / name).exists()]
    if not found:
        others = [name for name in visible_folders(root) if name != train]
        advice = f"data.validation={others[0]} validates on {others[0]}, " if others else ""
        raise DataError(
            f"{root}: has {train}, but none of {', '.join(VALIDATION)}; {advice}"
            f"data.root={root / train} holds out a share of {train}, data.split=none where all folders are classes"
        )
    return found[0]


def _given(wanted, unused):
    """Classes and parts where there is a folder or a list of each."""
    root, names = wanted.root, (wanted.train, _validation_name(wanted))
    classes = _folder_classes(root, wanted.train) if (root / wanted.train).is_dir() else None
    lists = {name: read_list(root / name, root, wanted.first_label) for name in names if not (root / name).is_dir()}
    classes = classes or listed_classes(root, wanted.train, lists, wanted.first_label)
    parts = []
    for name in names:
        listed = lists.get(name)
        found = _folder_files(root / name, classes, unused) if listed is None else _listed_files(
            root, name, listed, classes, wanted.first_label
        )
        parts.append(Part(*found, str(root / name)))
        if listed is None and root / name != root:
            count_beside(root / name, unused)
    tops = {Path(name).parts[0] for name in names if Path(name).parts}
    if lists:
        count_unlisted(root, [path for part in parts for path in part.paths], unused)
    elif tops:
        count_beside(root, unused, folders=[name for name in visible_folders(root) if name not in tops])
    return classes, *parts


def _listed_files(root, name, entries, classes, first_label):
    """Paths and labels of a list, in its order."""
    for entry in entries:
        if entry.label >= len(classes):
            last = len(classes) - 1 + first_label
            raise DataError(
                f"{root / name}, line {entry.line}: label {entry.label + first_label}, wanted {first_label} to {last}"
            )
    return [os.path.join(root, entry.path) for entry in entries], [entry.label for entry in entries]


def count_unlisted(root: str | Path, paths: Iterable[str], unused: Counter) -> None:
    """Count the pictures that are not among `paths`, in the folder below root that holds all of these."""
    listed = {os.path.abspath(path) for path in paths}
    common = os.path.commonpath({os.path.dirname(path) for path in listed})
    root = os.path.abspath(root)
    if os.path.commonpath([common, root]) == root:
        try:
            unused.update((UNLISTED, os.path.dirname(path)) for path in picture_files(common) if path not in listed)
        except DataError:  # a folder that may not be read, and need not be
            pass


def _unsplit_class_names(root):
    names = visible_folders(root)
    wanted = "wanted a folder of pictures for each class, or train and val with such folders"
    if not names:
        raise DataError(f"{root}: holds no folders; {wanted}")
    nested = [name for name in names if visible_folders(root / name) and not pictures_in(root / name)]
    if len(names) == 1:
        advice = f"; try data.root={root / names[0]}" if nested else ""
        raise DataError(f"{root}: holds one folder only, {names[0]}; {wanted}{advice}")
    if nested:
        raise DataError(
            f"{root / nested[0]}: holds folders and no pictures; {wanted}; if these are called otherwise, "
            "data.train=NAME data.validation=NAME"
        )
    return names


def _held_out(wanted, classes, unused):
    """The parts for training and for validation, out of class folders without a split."""
    root, percent = wanted.root, f"{100 * wanted.validation_share:g} % of every class"
    parts = Part([], [], f"{root} less {percent}"), Part([], [], f"{percent} in {root} (data.validation_share)")
    files_and_labels = zip(*_folder_files(root, classes, unused), strict=True)
    for label, own in groupby(files_and_labels, key=lambda pair: pair[1]):
        files = [file for file, _ in own]
        chosen = held_out(files, root, wanted.validation_share, wanted.split_seed)
        for file in files:
            part = parts[file in chosen]
            part.paths.append(file)
            part.labels.append(label)
    return parts


def _folder_classes(root, train):
    names = visible_folders(root / train)
    if not names:
        raise DataError(f"{root / train}: holds no class folders; wanted one folder of images for each class")
    if len(names) == 1:
        inner = f"{train}/{names[0]}"
        advice = f"; try data.train={inner} and data.validation likewise" if visible_folders(root / inner) else ""
        raise DataError(f"{root / train}: holds one class folder only, {names[0]}; wanted two or more{advice}")
    return names


def _folder_files(path, classes, unused):
    """Paths and labels of class folders, in sorted order."""
    folders = visible_folders(path)
    if set(folders) != set(classes):
        odd = sorted(set(folders) ^ set(classes))[0]
        raise DataError(
            f"{path}: {'lacks a folder for' if odd in classes else 'has a folder for the unknown'} class {odd!r}; "
            f"wanted the {len(classes)} classes of the training set"
        )
    files, labels = [], []
    for label, name in enumerate(classes):
        found = picture_files(path / name, unused)
        if not found:
            raise DataError(f"{path / name}: empty class folder; wanted images ({' '.join(PICTURE_ENDINGS)})")
        files += found
        labels += [label] * len(found)
    return files, labels
