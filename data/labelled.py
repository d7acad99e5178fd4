"""New pictures with labels, whole, for a model that is already there: its classes are found by their names."""

import difflib
import logging
import os
import unicodedata
from pathlib import Path

from data.check import passed_over
from data.errors import DataError
from data.image_folder import ImageDataset
from data.layout import Part, _class_names, _files_and_labels, _is_picture, _visible_folders, picture_files
from data.preparation import PICTURE_ENDINGS, Preparation

LISTED = 20  # names in a message
log = logging.getLogger("data")


def labelled_pictures(root: str | Path, preparation: Preparation, on_corrupt_image="stop") -> ImageDataset:
    """All pictures of the class folders in `root`, or of a list file, as the model of `preparation` wants to see them.

    A class folder has the name of one of preparation.classes, with _ for a /; not every class needs a folder, and an
    empty one counts for nothing. A list is `path label` on each line, the paths relative to its folder; its labels
    have the names that classes.txt or label_list.txt beside it gives them, and without these are the model's own.
    on_corrupt_image: as of image_folder. Logs what is left unused. Raises DataError: no pictures, or a class that the
    model does not know.
    """
    root = Path(root).expanduser()
    try:
        if root.is_dir():
            paths, labels = _of_class_folders(root, preparation.classes)
        elif root.is_file():
            paths, labels = _of_list(root, preparation.classes)
        else:
            came = "is neither folder nor file" if root.exists() else "no such folder"
            raise DataError(f"{root}: {came}; wanted a folder of class folders, or a list of `path label`")
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    if not paths:
        raise DataError(f"{root}: its class folders hold no pictures ({' '.join(PICTURE_ENDINGS)})")
    dataset = ImageDataset(Part(paths, labels, str(root)), preparation, on_corrupt_image)
    if root.is_dir() and (others := passed_over([dataset])):
        log.warning("%s: passed over %s", root, ", ".join(f"{count:,} {ending}" for ending, count in others.items()))
    return dataset


def _of_class_folders(root, classes):
    names = _visible_folders(root)
    if not names:
        advice = f"; try {root.parent}" if root.resolve().name in map(_as_folder, classes) else ""
        raise DataError(f"{root}: holds no folders; wanted one of pictures for each class{advice}")
    for name in names:
        if _label(name, classes) is None and any(_label(n, classes) is not None for n in _visible_folders(root / name)):
            raise DataError(f"{root}: its folder {name} is no class of the model, but holds such; try {root / name}")
    paths, labels, empty = [], [], []
    for name, label in zip(names, _labels(names, classes, root), strict=True):
        found = picture_files(root / name)
        paths += found
        labels += [label] * len(found)
        empty += [] if found else [name]
    if empty:
        log.warning("%s: no pictures (%s) in %s", root, " ".join(PICTURE_ENDINGS), _listed(empty))
    if beside := sum(map(_is_picture, os.listdir(root))):
        log.warning("%s: %d picture(s) beside the class folders are not used", root, beside)
    return paths, labels


def _of_list(path, classes):
    named = any((path.parent / file).is_file() for file in ("classes.txt", "label_list.txt"))
    names = tuple(_class_names(path.parent, path.name)) if named else classes
    paths, labels = _files_and_labels(path.parent, path.name, names)
    if names == classes:
        return paths, labels
    used = sorted(set(labels))
    label_of = dict(zip(used, _labels([names[label] for label in used], classes, path), strict=True))
    return paths, [label_of[label] for label in labels]


def _labels(names, classes, where):
    """The label of each name. Raises DataError for one that is no class."""
    labels = [_label(name, classes) for name in names]
    unknown = [name for name, label in zip(names, labels, strict=True) if label is None]
    if unknown:
        folded = {_as_folder(name).casefold(): name for name in classes}
        alike = difflib.get_close_matches(_as_folder(unknown[0]).casefold(), folded, n=1)
        advice = f"did you mean {folded[alike[0]]}? It" if alike else "it"
        raise DataError(f"{where}: {unknown[0]!r} is no class of the model; {advice} knows {_listed(classes)}")
    return labels


def _label(name, classes):
    """The label of the class of this name; macOS writes an accent apart from its letter, others write both as one."""
    for form in (str, _as_folder, lambda text: unicodedata.normalize("NFC", _as_folder(text))):
        known = [form(each) for each in classes]
        if known.count(form(name)) > 1:
            raise DataError(f"{name!r} is the name of several classes of the model: which one is meant, it cannot say")
        if form(name) in known:
            return known.index(form(name))
    return None


def _listed(names):
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _as_folder(name):
    """A class's name as a folder can have it."""
    return name.replace("/", "_")
