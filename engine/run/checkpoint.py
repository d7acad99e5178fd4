"""Checkpoints: STEM.pdparams, .pdopt, .pdstates (and .pdema), written as one or not at all.

A save is committed by the appearance of STEM.pdstates.new, which is written last; the renames that follow are
finished by `recover` if a kill interrupts them. So at every moment there is one whole checkpoint under each stem. A
power failure can undo renames of which the disk does not know yet, and earlier ones without later ones: what commits a
save waits until all else is on the disk, the renames until that is, and the last of them until the others are.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import paddle

from data import read_pickle
from data.files import open_file
from engine.errors import InputError
from engine.files import sync_names, writing, written_whole

ENDINGS = (".pdparams", ".pdopt", ".pdema", ".pdstates")  # the last one commits
PADDLES_NOTE = "StructuredToParameterName@@"  # lies beside the arrays of a state dict, and is none
LONGEST_NAME = 200
MOST_BYTES = 2 * 2**30  # of a file; ResNet-152 with two moments of each weight takes a third of it


def save(stem: Path, contents: dict) -> None:
    """Write {ending: object} as one checkpoint in place of the one that stands at `stem`. Raises DiskError.

    An object of bytes is a file that was saved elsewhere.
    """
    recover(stem)
    _put(stem, [ending for ending in ENDINGS if ending in contents], lambda ending, new: _write(new, contents[ending]))


def recover(stem: Path) -> None:
    """Bring the files at `stem` into order after a kill: finish a committed save, drop one that was not.

    Only for the process that writes there: a save that is under way would be taken for one that was killed.
    """
    if Path(f"{stem}{ENDINGS[-1]}.new").exists():
        _finish(stem)
    _remove(stem, [ending + left for ending in ENDINGS for left in (".new", ".new.part")])


def copy(source: Path, target: Path) -> None:
    """Let `target` be the same checkpoint as `source`, by hard links where the file system has them.

    Raises DiskError.
    """
    recover(target)
    there = [ending for ending in ENDINGS if Path(f"{source}{ending}").exists()]
    _put(target, there, lambda ending, new: _link(Path(f"{source}{ending}"), new))


def epochs_kept(folder: Path) -> list[int]:
    """The N of the checkpoints epoch_N in a folder, in order."""
    found = (re.fullmatch(r"epoch_(\d+)\.pdstates", file.name) for file in folder.glob("epoch_*.pdstates"))
    return sorted(int(match[1]) for match in found if match)


def remove(stem: Path) -> None:
    """Remove a checkpoint, what makes it one first."""
    _remove(stem, reversed(ENDINGS))


def stem_of(path: str | Path) -> Path:
    """A checkpoint's path without its ending; with or without one is accepted."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in ENDINGS else path


def load(stem: str | Path) -> dict:
    """The {ending: object} of a whole checkpoint. Raises InputError where there is none."""
    stem = stem_of(stem)
    if not exists(stem):
        raise InputError(f"{stem}: no checkpoint there; expected {stem}.pdparams, .pdopt and .pdstates")
    averaged = [".pdema"] if _current(stem, ".pdema").exists() else []
    return {ending: read(_current(stem, ending)) for ending in (".pdparams", ".pdopt", *averaged, ".pdstates")}


def load_states(stem: str | Path) -> dict:
    """The .pdstates of a whole checkpoint alone. Raises InputError where there is none."""
    return read(_current(stem_of(stem), ".pdstates"))


def exists(stem: Path) -> bool:
    return _current(stem, ".pdstates").exists()


def _current(stem, ending):
    """The file of the newest whole checkpoint: a save that is committed may not have its own names yet."""
    new = Path(f"{stem}{ending}.new")
    committed = Path(f"{stem}{ENDINGS[-1]}.new").exists() and new.exists()
    return new if committed else Path(f"{stem}{ending}")


def weights_file(path: str | Path) -> Path:
    """The file that a path of weights means: what lies there, or a checkpoint's, averaged weights before others.

    Where there is neither, the path itself, if it is a folder or such, for the words about it.
    """
    path = Path(path)
    if path.suffix not in ENDINGS and path.is_file():
        return path
    averaged = _current(stem_of(path), ".pdema")
    file = averaged if averaged.exists() else _current(stem_of(path), ".pdparams")
    return file if file.exists() or not os.path.lexists(path) else path


def read_weights(path: str | Path) -> dict:
    """{name: array} of a checkpoint's weights, the averaged ones where there are any."""
    file = weights_file(path)
    arrays = {name: value for name, value in read(file).items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise InputError(f"{file}: holds no weights")
    return arrays


def read(path: Path) -> dict:
    """What `paddle.save` wrote to a file, with arrays for tensors, read without running code of the file's.

    Raises InputError where there is no such file, DataError where it holds anything but arrays and plain values.
    """
    try:
        with open_file(path, MOST_BYTES) as file:
            value = read_pickle(file, path, encoding="latin1")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror.lower()}; expected a file that paddle.save wrote") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, expected a dictionary of arrays")
    value.pop(PADDLES_NOTE, None)
    check_names(value, path)
    return value


def check_names(names: Iterable, path: Path) -> None:
    """Raise InputError for what can be no array's name: they are told in messages and written to logs."""
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
            raise InputError(f"{path}: holds something by the name {ascii(name[:40])}, which is no name of an array")


def _put(stem: Path, endings: list[str], make: Callable[[str, Path], None]):
    """Let what make(ending, path) makes for each of the endings be the checkpoint at `stem`."""
    with _dropped_unless_whole(stem):
        for ending in endings:
            if ending == ENDINGS[-1]:
                sync_names(stem.parent)
            make(ending, Path(f"{stem}{ending}.new"))
    _finish(stem)
    _remove(stem, [ending for ending in ENDINGS if ending not in endings])


@contextlib.contextmanager
def _dropped_unless_whole(stem):
    """What is written within, as .new files, is gone after an error of the disk: it may lack the room."""
    try:
        yield
    except OSError:
        for ending in ENDINGS:
            with contextlib.suppress(OSError):
                Path(f"{stem}{ending}.new").unlink(missing_ok=True)
        raise


def _link(file, new):
    try:
        os.link(file, new)
    except OSError:
        with written_whole(new) as part:
            shutil.copyfile(file, part)


def _write(path, value):
    with written_whole(path) as part:
        if isinstance(value, bytes):
            part.write_bytes(value)
        else:
            paddle.save(value, str(part))


def _finish(stem):
    """Rename the .new files of a committed save to their own names, the commit mark last."""
    sync_names(stem.parent)  # else the disk could know the first of these names, and not the one that commits
    for ending in ENDINGS:
        if (new := Path(f"{stem}{ending}.new")).exists():
            if ending == ENDINGS[-1]:
                sync_names(stem.parent)
            with writing(f"{stem}{ending}"):
                os.replace(new, f"{stem}{ending}")
                new.unlink(missing_ok=True)  # two links to one file are left alone by a rename


def _remove(stem, endings):
    for ending in endings:
        with writing(f"{stem}{ending}"):
            Path(f"{stem}{ending}").unlink(missing_ok=True)
