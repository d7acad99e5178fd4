"""Checkpoints: STEM.pdparams, .pdopt, .pdstates (and .pdema), written as one or not at all.

A save is committed by the appearance of STEM.pdstates.new, which is written last; the renames that follow are
finished by `recover` if a kill interrupts them. So at every moment there is one whole checkpoint under each stem.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import paddle

from data import read_pickle
from data.files import read_file
from engine.errors import InputError
from engine.files import writing, written_whole

ENDINGS = (".pdparams", ".pdopt", ".pdema", ".pdstates")  # the last one commits
PADDLES_NOTE = "StructuredToParameterName@@"  # lies beside the arrays of a state dict, and is none
LONGEST_NAME = 200
MOST_BYTES = 2 * 2**30  # of a file; ResNet-152 with two moments of each weight takes a third of it


def save(stem: Path, contents: dict) -> None:
    """Write {ending: object} as one checkpoint in place of the one that stands at `stem`. Raises DiskError.

    An object of bytes is a file that was saved elsewhere.
    """
    recover(stem)
    with _dropped_unless_whole(stem):
        for ending in ENDINGS:
            if ending in contents:
                _write(Path(f"{stem}{ending}.new"), contents[ending])
    _finish(stem)
    _remove(stem, [ending for ending in ENDINGS if ending not in contents])


def recover(stem: Path) -> None:
    """Bring the files at `stem` into order after a kill: finish a committed save, drop one that was not.

    Only for the process that writes there: a save that is under way would be taken for one that was killed.
    """
    if Path(f"{stem}{ENDINGS[-1]}.new").exists():
        _finish(stem)
    for ending in ENDINGS:
        for left in (".new", ".new.part"):
            Path(f"{stem}{ending}{left}").unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Let `target` be the same checkpoint as `source`, by hard links where the file system has them.

    Raises DiskError.
    """
    recover(target)
    missing = [ending for ending in ENDINGS if not Path(f"{source}{ending}").exists()]
    with _dropped_unless_whole(target):
        for ending in ENDINGS:
            if ending not in missing:
                _link(Path(f"{source}{ending}"), Path(f"{target}{ending}.new"))
    _finish(target)
    _remove(target, missing)


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
    """The file that a path of weights means: what lies there, or a checkpoint's, averaged weights before others."""
    path = Path(path)
    if path.suffix not in ENDINGS and path.is_file():
        return path
    averaged = _current(stem_of(path), ".pdema")
    return averaged if averaged.exists() else _current(stem_of(path), ".pdparams")


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
        content = read_file(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror.lower()}; expected a file that paddle.save wrote") from None
    value = read_pickle(content, path, encoding="latin1")
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
    """Write through a temporary name, so that `path` appears only when its bytes are on the disk."""
    with written_whole(path) as part:
        if isinstance(value, bytes):
            part.write_bytes(value)
        else:
            paddle.save(value, str(part))
        with open(part, "rb") as file:
            os.fsync(file.fileno())


def _finish(stem):
    """Rename the .new files of a committed save to their own names, the commit mark last."""
    for ending in ENDINGS:
        if (new := Path(f"{stem}{ending}.new")).exists():
            with writing(f"{stem}{ending}"):
                os.replace(new, f"{stem}{ending}")
                new.unlink(missing_ok=True)  # two links to one file are left alone by a rename


def _remove(stem, endings):
    for ending in endings:
        Path(f"{stem}{ending}").unlink(missing_ok=True)
