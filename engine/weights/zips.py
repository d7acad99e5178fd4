"""The zips among files of weights: torch.save's and NumPy's .npz, read in bounded memory whatever they claim."""

import io
import math
import re
import struct
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np

from data.errors import DataError, quoted
from data.pickle_machine import DIMENSIONS, DTYPES
from data.pickles import pickle_errors, plain
from engine.weights.torch_pickle import TorchMachine

# How zipfile and what it is made of say it; RuntimeError that a member is encrypted or strangely packed.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, ValueError, LookupError,
    RuntimeError,
)
MOST_AT_ONCE = 16 * 2**20  # bytes; the list of members is read at once, however long it says that it is
LARGEST_PICKLE = 64 * 2**20
MOST_UNPACKED = 20  # times an .npz's own size: weights hardly shrink, but fresh moments are zeros
ALWAYS_UNPACKED = 64 * 2**20  # bytes
LONGEST_HEADER = 4096
HEADER = re.compile(
    r"\{'descr': '([<>|=])(\w\d)', 'fortran_order': (True|False), 'shape': \(((?:\d+L?(?:, ?|(?=\))))*)\), \} *\n"
)


def read_zip(file: BinaryIO, size: int, path: str) -> Any:
    """What a zip of so many bytes holds. Raises DataError, one line."""
    try:
        with zipfile.ZipFile(_Bounded(file)) as archive:
            members = {member.filename: member for member in archive.infolist()}
            pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
            if len(pickles) == 1:
                return _torch(archive, members, pickles[0].removesuffix("data.pkl"), size, path)
            if members and all(name.endswith(".npy") for name in members):
                return _arrays(archive, members, size)
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{path}: is a damaged zip: {' '.join(str(error).split())}") from error
    raise DataError(f"{path}: is a zip, but neither of torch.save nor of numpy.savez")


class _Bounded:
    """A file of which nobody gets much at once."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, size=-1):
        wanted = MOST_AT_ONCE + 1 if size < 0 else min(size, MOST_AT_ONCE + 1)
        content = self.file.read(wanted)
        if len(content) > MOST_AT_ONCE:
            raise ValueError("its list of members is too long")
        return content


def _content(archive, member):
    """The bytes of a member, as many as it says."""
    with archive.open(member) as file:
        content = b"".join(iter(lambda: file.read(MOST_AT_ONCE // 2), b""))
    if len(content) != member.file_size:
        raise ValueError(f"{quoted(member.filename)} is cut short")
    return content


def _torch(archive, members, root, size, path):
    """What torch.save has written: ROOT/data.pkl, and each storage, not packed, as ROOT/data/KEY."""
    wanted = (f"{root}data.pkl", f"{root}byteorder", f"{root}data/")
    used = {name: member for name, member in members.items() if name.startswith(wanted)}
    for name, member in used.items():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{quoted(name)} is packed, which torch.save never does")
    if sum(member.file_size for member in used.values()) > size or used[f"{root}data.pkl"].file_size > LARGEST_PICKLE:
        raise ValueError("its members say that they have more bytes than the file")
    order = used.get(f"{root}byteorder")
    with pickle_errors(path):
        pickle = io.BytesIO(_content(archive, used[f"{root}data.pkl"]))
        machine = TorchMachine(pickle, size, big_endian=order is not None and _content(archive, order) == b"big")
        made = machine.run()
        for key in machine.wanted:
            machine.storages[key] = _content(archive, used[f"{root}data/{key}"])
        return plain(made)


def _arrays(archive, members, size):
    most = MOST_UNPACKED * size + ALWAYS_UNPACKED
    if (unpacked := sum(member.file_size for member in members.values())) > most:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, more than the {most:,} that weights of its size take")
    for name, member in members.items():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{quoted(name)} is neither stored nor deflated")
    return {name.removesuffix(".npy"): _array(name, _content(archive, member)) for name, member in members.items()}


def _array(name, content):
    """The array in the bytes of an .npy file; NumPy's own reader evaluates the header as Python."""
    start = 12 if content[6:7] > b"\1" else 10
    length = int.from_bytes(content[8:start], "little")
    header = length <= LONGEST_HEADER and HEADER.fullmatch(content[start:start + length].decode("latin1"))
    if content[:6] != b"\x93NUMPY" or not header:
        raise ValueError(f"{quoted(name)} is no array of plain numbers")
    order, code, by_columns, sizes = header.groups()
    shape = tuple(int(size) for size in re.findall(r"\d+", sizes))
    numbers = content[start + length:]
    if code not in DTYPES or len(shape) > DIMENSIONS:
        raise ValueError(f"{quoted(name)} has {len(shape)} axes of {code}; expected one of {' '.join(DTYPES)}")
    dtype = np.dtype(order + code)
    if math.prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"{quoted(name)} has {len(numbers)} bytes, its shape {shape} and {dtype} say otherwise")
    array = np.frombuffer(numbers, dtype).reshape(shape, order="F" if by_columns == "True" else "C")
    return array.astype(dtype.newbyteorder("="), order="C", copy=False)
