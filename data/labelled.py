"""New pictures with labels, whole, for a model that is already there: its classes are found by their names."""

import difflib
import logging
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal

from data.errors import DataError, printable, quoted
from data.image_folder import ImageDataset
from data.layout import Part
from data.lists import class_names, read_list
from data.preparation import MAX_PIXELS, PICTURE_ENDINGS, Preparation
from data.video.decoding import VIDEO_ENDINGS
from data.video.layout import Part as VideoPart
from data.video.layout import read_list as read_video_list
from data.video.layout import videos_below
from data.video.preparation import ClipPreparation
from data.video_folder import VideoDataset
from data.walk import count_beside, picture_files, unused_text, visible_folders

LISTED = 20  # names in a message
log = logging.getLogger("data")


def labelled_pictures(
    root: str | Path,
    preparation: Preparation,
    on_corrupt_image: Literal["stop", "skip"] = "stop",
    first_label: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> ImageDataset:
    """All pictures of the class folders in `root`, or of a list file, as the model of `preparation` wants to see them.

    A class folder has the name of one of preparation.classes, with _ for a /; not every class needs a folder, and an
    empty one counts for nothing. A list is `path label` on each line, the paths relative to its folder; its labels
    have the names that classes.txt, labels.txt or label_list.txt beside it gives them, and without these are the
    model's own. The other settings: as of image_folder. Logs what is left unused. Raises DataError: no pictures, or a
    class that the model does not know.
    """
    root, unused = Path(root), Counter()
    try:
        if root.is_dir():
            paths, labels = _of_class_folders(root, preparation.classes, partial(picture_files, unused=unused))
            count_beside(root, unused)
        else:
            entries = read_list(_list_file(root), root.parent, first_label)
            paths, labels = _of_list(root, entries, preparation.classes, first_label, root.parent)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    if not paths:
        raise DataError(f"{root}: its class folders hold no pictures ({' '.join(PICTURE_ENDINGS)})")
    if unused:
        log.warning("%s", printable(f"{root}: {unused_text(unused)}"))
    part = Part(paths, labels, str(root))
    return ImageDataset(part, preparation, on_corrupt_image, max_pixels=max_pixels, unused=unused)


def labelled_videos(
    root: str | Path, preparation: ClipPreparation, first_label: int = 0, validation_videos: str = "",
    test_clips: int = 1, test_crops: Literal[1, 3] = 1, max_pixels: int = MAX_PIXELS,
) -> VideoDataset:
    """`labelled_pictures` of videos: of class folders of them, or a list as of video_folder, whose paths begin at
    validation_videos below its own folder. Raises DataError, also where the first video of a list is not there.
    """
    root = Path(root)
    try:
        if root.is_dir():
            paths, labels = _of_class_folders(root, preparation.classes, videos_below)
            frames = [0] * len(paths)
        else:
            entries = read_video_list(_list_file(root), first_label)
            paths, labels = _of_list(root, entries, preparation.classes, first_label, root.parent / validation_videos)
            frames = [entry.frames for entry in entries]
            if not Path(paths[0]).exists():
                setting = "data.validation_videos names the folder below the list's own that its paths begin at"
                raise DataError(f"{root}, line {entries[0].line}: no such video: {paths[0]}; {setting}")
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    if not paths:
        kinds = " ".join(VIDEO_ENDINGS)
        raise DataError(f"{root}: its class folders hold no videos ({kinds}) and no folders of pictures")
    part = VideoPart(paths, labels, frames, str(root))
    return VideoDataset(part, preparation, views=(test_clips, test_crops), max_pixels=max_pixels)


def _list_file(root):
    if not root.is_file():
        came = "is neither folder nor file" if root.exists() else "no such folder"
        raise DataError(f"{root}: {came}; wanted a folder of class folders, or a list of `path label`")
    return root


def _of_class_folders(root, classes, files_below):
    names = visible_folders(root)
    if not names:
        advice = f"; try {root.parent}" if root.resolve().name in map(_as_folder, classes) else ""
        raise DataError(f"{root}: holds no folders; wanted one for each class{advice}")
    for name in names:
        if _label(name, classes) is None and any(_label(n, classes) is not None for n in visible_folders(root / name)):
            raise DataError(f"{root}: its folder {name} is no class of the model, but holds such; try {root / name}")
    paths, labels, empty = [], [], []
    for name, label in zip(names, _labels(names, classes, root), strict=True):
        found = files_below(root / name)
        paths += found
        labels += [label] * len(found)
        empty += [] if found else [name]
    if empty:
        log.warning("%s", printable(f"{root}: nothing in {_listed(empty)}"))
    return paths, labels


def _of_list(path, entries, classes, first_label, below):
    names = tuple(class_names(path.parent, {path.name}, len(classes), first_label) or classes)
    for entry in entries:
        if entry.label >= len(names):
            wanted = f"wanted {first_label} to {len(names) - 1 + first_label}"
            raise DataError(f"{path}, line {entry.line}: label {entry.label + first_label}, {wanted}")
    used = sorted({entry.label for entry in entries})
    own = used if names == classes else _labels([names[label] for label in used], classes, path)
    label_of = dict(zip(used, own, strict=True))
    return [str(below / entry.path) for entry in entries], [label_of[entry.label] for entry in entries]


def _labels(names, classes, where):
    """The label of each name. Raises DataError for one that is no class."""
    labels = [_label(name, classes) for name in names]
    unknown = [name for name, label in zip(names, labels, strict=True) if label is None]
    if unknown:
        folded = {_as_folder(name).casefold(): name for name in classes}
        alike = difflib.get_close_matches(_as_folder(unknown[0]).casefold(), folded, n=1)
        advice = f"did you mean {folded[alike[0]]}? It" if alike else "it"
        raise DataError(f"{where}: {quoted(unknown[0])} is no class of the model; {advice} knows {_listed(classes)}")
    return labels


def _label(name, classes):
    """The label of the class of this name; macOS writes an accent apart from its letter, others write both as one."""
    for form in (str, _as_folder, lambda text: unicodedata.normalize("NFC", _as_folder(text))):
        known = [form(each) for each in classes]
        if known.count(form(name)) > 1:
            raise DataError(f"{quoted(name)} is the name of several classes of the model; wanted a list, by labels")
        if form(name) in known:
            return known.index(form(name))
    return None


def _listed(names):
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _as_folder(name):
    """A class's name as a folder can have it."""
    return name.replace("/", "_")
