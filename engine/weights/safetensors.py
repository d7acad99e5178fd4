"""Safetensors: the length of a header, the header in JSON, and behind it the numbers."""

import json
import math
from typing import BinaryIO, NamedTuple

import numpy as np

from data.errors import DataError, quoted
from data.pickle_machine import DIMENSIONS, is_size

LONGEST_HEADER = 8 * 2**20  # bytes; that of ResNet-152 has 100,000
# Of bfloat16 come the bits, as NumPy holds Paddle's.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U8": "|u1", "BOOL": "|b1",
}


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file that begins with these 9 bytes, and has so many, begins as safetensors do."""
    return head[8:9] == b"{" and 8 < size and not any(head[5:8])


def read_safetensors(file: BinaryIO, size: int, path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """({name: array}, its metadata) of a file of so many bytes. Raises DataError, one line."""
    try:
        return _read(file, size)
    except (ValueError, RecursionError) as error:
        reason = "its header lies in itself too deep" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: is a damaged safetensors file: {' '.join(reason.split())}") from None


def _read(file, size):
    length = int.from_bytes(file.read(8), "little")
    if length > min(LONGEST_HEADER, size - 8):
        raise ValueError(f"its header says that it has {length:,} bytes; the file has {size:,}")
    header = json.loads(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    metadata = header.pop("__metadata__", {})
    # All entries before any number: what is wrong is told at once, and a good file is in memory once.
    windows, first = {name: _window(name, entry, size - 8 - length) for name, entry in header.items()}, file.tell()
    if sum(window.bytes for window in windows.values()) > size - first:
        raise ValueError("its arrays lie in each other")
    arrays = {}
    for name, window in windows.items():
        file.seek(first + window.begin)
        array = np.empty(window.shape, window.dtype)
        if file.readinto(array.reshape(-1).view(np.uint8)) != window.bytes:
            raise ValueError(f"{quoted(name)} is cut short")
        arrays[name] = array.astype(window.dtype.newbyteorder("="), copy=False)
    words = metadata.items() if isinstance(metadata, dict) else ()
    return arrays, {key: value for key, value in words if isinstance(value, str)}


class _Window(NamedTuple):
    """Where the numbers of an array lie, from the first of all on."""

    begin: int
    bytes: int
    shape: list[int]
    dtype: np.dtype


def _window(name, entry, there):
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ValueError(f"{quoted(name)} has no dtype, shape and data_offsets")
    if code not in DTYPES:
        raise ValueError(f"{quoted(name)} is of {quoted(code)}, expected one of {' '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[code])
    if len(shape) > DIMENSIONS or not all(map(is_size, shape)):
        raise ValueError(f"the shape of {quoted(name)} is none")
    if not 0 <= begin <= end <= there or math.prod(shape) * dtype.itemsize != end - begin:
        lies = f"from {begin} to {end} of {there} bytes"
        raise ValueError(f"{quoted(name)} lies {lies}, which its shape and {code} contradict")
    return _Window(begin, end - begin, shape, dtype)
