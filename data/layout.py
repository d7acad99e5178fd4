"""Where the pictures of a folder lie, and their labels: class folders, split or not, or lists of `path label`."""

import os
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import DataError
from data.held_out import held_out
from data.preparation import PICTURE_ENDINGS

VALIDATION = ("val", "valid", "validation")  # the first that is there, where the setting is left at val


class Part(NamedTuple):
    """The files of training or of validation: paths below root, their labels, and in words where they were found."""

    paths: list[str]
    labels: list[int]
    origin: str


def find_parts(root, train, validation, validation_share, split_seed):
    """(class names, training Part, validation Part) of a folder, as `image_folder` says. Raises DataError."""
    root = Path(os.path.expanduser(root))
    if not root.is_dir():
        came = "is a file" if root.exists() else "no such folder"
        raise DataError(f"data.root {root}: {came}; wanted a folder of class folders, or of {train} and {validation}")
    if not _is_split(root, train, validation):
        classes = _unsplit_class_names(root)
        return classes, *_held_out(root, classes, validation_share, split_seed)
    validation = _validation_name(root, train, validation)
    classes = _class_names(root, train)
    parts = [Part(*_files_and_labels(root, name, classes), str(root / name)) for name in (train, validation)]
    counts = np.bincount(parts[0].labels, minlength=len(classes))
    if not counts.all():
        label = int(counts.argmin())
        raise DataError(f"{root / train}: no image of class {label} ({classes[label]}); wanted one of each or more")
    return classes, *parts


def _is_split(root, train, validation):
    """Whether root holds train and validation; else it should hold the class folders."""
    if (train, validation) != ("train", "val") or (root / train).is_file():
        return True
    named = any((root / name).exists() for name in (*VALIDATION, "test"))
    return named or ((root / train).is_dir() and bool(_visible_folders(root / train)))


def _validation_name(root, train, validation):
    if validation != "val" or not (root / train).is_dir():
        return validation
    found = [name for name in VALIDATION if (root / name).exists()]
    if not found:
        others = [name for name in _visible_folders(root) if name != train]
        advice = f"data.validation={others[0]} validates on {others[0]}, " if others else ""
        raise DataError(
            f"{root}: has {train}, but none of {', '.join(VALIDATION)}; {advice}"
            f"data.root={root / train} holds out a share of {train}"
        )
    return found[0]


def _unsplit_class_names(root):
    names = _visible_folders(root)
    wanted = "wanted a folder of pictures for each class, or train and val with such folders"
    if not names:
        raise DataError(f"{root}: holds no folders; {wanted}")
    nested = [name for name in names if _visible_folders(root / name) and not _holds_pictures(root / name)]
    if len(names) == 1:
        advice = f"; try data.root={root / names[0]}" if nested else ""
        raise DataError(f"{root}: holds one folder only, {names[0]}; {wanted}{advice}")
    if nested:
        raise DataError(
            f"{root / nested[0]}: holds folders and no pictures; {wanted}; if these are called otherwise, "
            "data.train=NAME data.validation=NAME"
        )
    return names


def _held_out(root, classes, share, seed):
    """The parts for training and for validation, out of class folders without a split."""
    percent = f"{100 * share:g} % of every class"
    parts = Part([], [], f"{root} less {percent}"), Part([], [], f"{percent} in {root} (data.validation_share)")
    for label, own in groupby(zip(*_files_and_labels(root, "", classes), strict=True), key=lambda pair: pair[1]):
        files = [file for file, _ in own]
        chosen = held_out(files, root, share, seed)
        for file in files:
            part = parts[file in chosen]
            part.paths.append(file)
            part.labels.append(label)
    return parts


def _class_names(root, train):
    if (root / train).is_dir():
        names = _visible_folders(root / train)
        if not names:
            raise DataError(f"{root / train}: holds no class folders; wanted one folder of images for each class")
        if len(names) == 1:
            inner = f"{train}/{names[0]}"
            advice = f"; try data.train={inner} and data.validation likewise" if _visible_folders(root / inner) else ""
            raise DataError(f"{root / train}: holds one class folder only, {names[0]}; wanted two or more{advice}")
        return names
    if (root / "classes.txt").is_file():
        return [line.strip() for _, line in _lines(root / "classes.txt")]
    if (root / "label_list.txt").is_file():
        path = root / "label_list.txt"
        names = {}
        for number, line in _lines(path):
            label, _, name = line.strip().partition(" ")
            if not label.isdecimal():
                raise DataError(f"{path}, line {number}: got {line!r}, wanted `label name`")
            names[int(label)] = name.strip() or label
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: labels are not 0 to {len(names) - 1}, each once")
        return [names[label] for label in range(len(names))]
    highest = max(label for _, _, label in _read_list(root / train))
    return [str(label) for label in range(highest + 1)]


def _files_and_labels(root, split, classes):
    """Paths and labels of one split; in sorted order for class folders, else in the list's order."""
    path = root / split
    if not path.is_dir():
        entries = _read_list(path)
        for number, _, label in entries:
            if label >= len(classes):
                raise DataError(f"{path}, line {number}: label {label}, wanted 0 to {len(classes) - 1}")
        return [os.path.join(root, file) for _, file, _ in entries], [label for _, _, label in entries]
    folders = _visible_folders(path)
    if set(folders) != set(classes):
        odd = sorted(set(folders) ^ set(classes))[0]
        raise DataError(
            f"{path}: {'lacks a folder for' if odd in classes else 'has a folder for the unknown'} class {odd!r}; "
            f"wanted the {len(classes)} classes of the training set"
        )
    files, labels = [], []
    for label, name in enumerate(classes):
        found = picture_files(path / name)
        if not found:
            raise DataError(f"{path / name}: empty class folder; wanted images ({' '.join(PICTURE_ENDINGS)})")
        files += found
        labels += [label] * len(found)
    return files, labels


def _visible_folders(path):
    names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and is_visible(entry.name))
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8: no file could hold it
            raise DataError(f"{path}: folder {os.fsencode(name)!r}: its name is no UTF-8 text; rename it (convmv, say)")
    return names


def picture_files(folder) -> list[str]:
    """Paths of the pictures below a folder, sorted, but for hidden ones. Raises DataError where one may not look."""

    def refuse(error):
        raise DataError(f"{error.filename}: {error.strerror}") from error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = filter(is_visible, folders)
        found += [os.path.join(parent, name) for name in filter(_is_picture, names)]
    return sorted(found)


def _holds_pictures(folder):
    return any(map(_is_picture, os.listdir(folder)))


def _is_picture(name):
    return is_visible(name) and name.lower().endswith(PICTURE_ENDINGS)


def is_visible(name):
    """Whether a file or folder of this name counts; zip archives from a Mac hold a second tree in __MACOSX."""
    return not name.startswith(".") and name != "__MACOSX"


def _read_list(path):
    """(line number, path, label) of each line of a `path label` list, split from the right."""
    entries = []
    for number, line in _lines(path):
        parts = line.rsplit(maxsplit=1)
        if len(parts) != 2 or not parts[1].isdecimal():
            raise DataError(f"{path}, line {number}: got {line!r}, wanted `path label` with a label of 0 or more")
        entries.append((number, parts[0].strip(), int(parts[1])))
    return entries


def _lines(path):
    """(number from 1, text) of the lines of a text file that are not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows puts a mark before it
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; wanted a folder of class folders or a list of `path label`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    lines = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: is empty")
    return lines
