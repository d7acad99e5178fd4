"""Where the pictures lie that an annotation file names."""

import os
from pathlib import Path

import numpy as np

from data.detection.annotations import Annotations
from data.errors import DataError, quoted
from data.lists import below


def find_pictures(annotations: Annotations, root: Path, source: Path, folder: str | None) -> np.ndarray:
    """The path of each picture, bytes [N]. Raises DataError for the first that is not there.

    folder: below root, where file_name starts from; None: the first of some that has the first picture. Of
    annotations/instances_train2017.json these are train2017 and images/train2017; then images, the folder of the
    annotations, and root.
    """
    names = [
        below(root, os.fsdecode(name), annotations.place("images", number))
        for number, name in enumerate(annotations.file_names)
    ]
    part = source.stem.rsplit("_", 1)[-1]
    own = source if source.is_dir() else source.parent
    guesses = [root / part, root / "images" / part, root / "images", own, root] if folder is None else [root / folder]
    if source.is_dir() and folder is None:
        guesses.insert(0, own)
    place = next((guess for guess in guesses if os.path.lexists(guess / names[0])), None)
    if place is None:
        where = ", ".join(dict.fromkeys(map(str, guesses)))
        raise DataError(
            f"{annotations.place('images', 0)}: no picture {quoted(names[0])} in {where}; data.train_pictures and "
            "data.validation_pictures name other folders"
        )
    _check_there(place, names, annotations)
    return np.array([os.fsencode(place / name) for name in names])


def _check_there(place, names, annotations):
    """Folders are listed, which is faster than to ask for each file."""
    there = {}
    missing = []
    for number, name in enumerate(names):
        parent, file = os.path.split(os.path.join(place, name))
        if parent not in there:
            try:
                there[parent] = set(os.listdir(parent))
            except OSError:
                there[parent] = set()
        if file not in there[parent]:
            missing.append(number)
    if missing:
        more = f"; {len(missing) - 1:,} more are missing" if len(missing) > 1 else ""
        first = missing[0]
        raise DataError(f"{annotations.place('images', first)}: no picture {place / names[first]}{more}")
