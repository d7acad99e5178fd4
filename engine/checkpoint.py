"""Checkpoints: STEM.pdparams, .pdopt, .pdstates (and .pdema), written as one or not at all.

A save is committed by the appearance of STEM.pdstates.new, which is written last; the renames that follow are
finished by `recover` if a kill interrupts them. So at every moment there is one whole checkpoint under each stem.
"""

import builtins
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import paddle

from engine.errors import InputError

ENDINGS = (".pdparams", ".pdopt", ".pdema", ".pdstates")  # the last one commits


def save(stem: Path, contents: dict) -> None:
    """Write {ending: object} as one checkpoint in place of the one that stands at `stem`."""
    recover(stem)
    for ending in ENDINGS:
        if ending in contents:
            _write(Path(f"{stem}{ending}.new"), contents[ending])
    _finish(stem)


def recover(stem: Path) -> None:
    """Bring the files at `stem` into order after a kill: finish a committed save, drop one that was not."""
    if Path(f"{stem}{ENDINGS[-1]}.new").exists():
        _finish(stem)
    for ending in ENDINGS:
        Path(f"{stem}{ending}.new").unlink(missing_ok=True)
        Path(f"{stem}{ending}.part").unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Let `target` be the same checkpoint as `source`, by hard links where the file system has them."""
    recover(target)
    for ending in ENDINGS:
        if (file := Path(f"{source}{ending}")).exists():
            new = Path(f"{target}{ending}.new")
            try:
                os.link(file, new)
            except OSError:
                shutil.copyfile(file, part := Path(f"{target}{ending}.part"))
                os.replace(part, new)
    _finish(target)


def rotate(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints epoch_N of a folder."""
    found = {int(match[1]) for file in folder.glob("epoch_*.pd*") if (match := re.match(r"epoch_(\d+)\.", file.name))}
    for epoch in sorted(found)[: max(0, len(found) - keep)]:
        for ending in reversed(ENDINGS):
            (folder / f"epoch_{epoch}{ending}").unlink(missing_ok=True)


def stem_of(path: str | Path) -> Path:
    """A checkpoint's path without its ending; with or without one is accepted."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in ENDINGS else path


def load(stem: str | Path) -> dict:
    """The {ending: object} of a whole checkpoint. Raises InputError where there is none."""
    stem = stem_of(stem)
    recover(stem)
    if not Path(f"{stem}.pdstates").exists():
        raise InputError(f"{stem}: no checkpoint there; expected {stem}.pdparams, .pdopt and .pdstates")
    contents = {".pdparams": None, ".pdopt": None, ".pdstates": None}
    if Path(f"{stem}.pdema").exists():
        contents[".pdema"] = None
    return {ending: read(Path(f"{stem}{ending}")) for ending in contents}


def read_weights(path: str | Path) -> dict:
    """{name: array} of a .pdparams file, the file of averaged weights beside it where there is one."""
    stem = stem_of(path)
    recover(stem)
    averaged = Path(f"{stem}.pdema")
    state = read(averaged if averaged.exists() else Path(f"{stem}.pdparams"))
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise InputError(f"{stem}.pdparams: holds no weights")
    return arrays


def read(path: Path):
    """What `paddle.save` wrote to a file, with arrays for tensors.

    Such files are pickles, and a stranger's pickle can run code when it is loaded: this reader makes arrays,
    numbers, strings and containers, and refuses everything else. Raises InputError.
    """
    try:
        with open(path, "rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected one that paddle.save wrote") from None
    except _Forbidden as error:
        raise InputError(f"{path}: refused, it holds more than arrays ({error})") from None
    except Exception as error:  # a damaged pickle fails in any way that its bytes can spell
        raise InputError(f"{path}: damaged or not written by paddle.save ({type(error).__name__})") from None


class _Forbidden(pickle.UnpicklingError):
    pass


def _tensor(name_and_array):
    """Paddle pickles a tensor as tuple((name, array))."""
    is_tensor = len(name_and_array) == 2 and isinstance(name_and_array[1], np.ndarray)
    return name_and_array[1] if is_tensor else tuple(name_and_array)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("builtins", "tuple"):
            return _tensor
        if module == "builtins" and name in ("set", "frozenset", "complex", "bytearray"):
            return getattr(builtins, name)
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if re.fullmatch(r"numpy(\._?core\.(multiarray|numeric))?", module) and name in _NUMPY_NAMES:
            return super().find_class(re.sub(r"numpy\._?core", _NUMPY_CORE, module), name)
        raise _Forbidden(f"{module}.{name}")


_NUMPY_NAMES = {"_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer"}
_NUMPY_CORE = "numpy._core" if hasattr(np, "_core") else "numpy.core"  # NumPy 2 renamed it


def _write(path, value):
    """Write through a temporary name, so that `path` appears only when its bytes are on the disk."""
    part = path.with_suffix(".part")
    paddle.save(value, str(part))
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _finish(stem):
    """Rename the .new files of a committed save to their own names, the commit mark last."""
    for ending in ENDINGS:
        if (new := Path(f"{stem}{ending}.new")).exists():
            os.replace(new, f"{stem}{ending}")
