"""Files of weights by what they hold, whatever they are called: each is read as data, and none can run code."""

from pathlib import Path
from typing import Any, BinaryIO

from data import DataError, read_pickle
from data.errors import quoted
from data.files import open_file
from engine.errors import InputError
from engine.run.checkpoint import MOST_BYTES
from engine.weights.safetensors import is_safetensors, read_safetensors
from engine.weights.torch_pickle import LEGACY, read_legacy
from engine.weights.zips import read_zip

KNOWN = "Paddle's .pdparams, PyTorch's .pth, .safetensors, Detectron's .pkl or tensorpack's .npz"
SHOWN = 12  # bytes of a file of another kind


def read_tree(path: Path) -> tuple[Any, dict[str, str]]:
    """What a file holds, and texts about it: arrays and other values by name, with dictionaries in it.

    The texts are those that stand beside the arrays, or where a kind of file has a place for them. Raises InputError
    and DataError, one line.
    """
    try:
        with open_file(path, MOST_BYTES) as file:
            tree, notes = _read(file, str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror.lower()}; expected {KNOWN}") from None
    beside = {name: value for name, value in tree.items() if isinstance(value, str)} if isinstance(tree, dict) else {}
    return tree, {**beside, **notes}


def _read(file: BinaryIO, path: str):
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(len(LEGACY))
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return read_zip(file, size, path), {}
    if is_safetensors(head, size):
        return read_safetensors(file, size, path)
    if head == LEGACY:
        return read_legacy(file, size, path), {}
    if head.startswith(b"\x80"):
        return read_pickle(file, path, encoding="latin1"), {}
    begins = quoted(head[:SHOWN].decode("latin1"))
    raise DataError(f"{path}: begins with {begins}, as no file of weights that is known; expected {KNOWN}")
