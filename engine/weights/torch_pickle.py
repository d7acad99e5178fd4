"""What torch.save writes, read without torch and without running anything: a pickle, and the numbers of its tensors.

A tensor in the pickle is a window (offset, sizes, strides) on a storage, whose bytes lie elsewhere: in a zip a member
each, in the older form behind the pickle.
"""

import math
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np

from data.errors import quoted
from data.pickle_machine import DIMENSIONS, Function, Machine, Pending, is_size
from data.pickles import pickle_errors, plain

# What the older form begins with: the pickle of a number of their choice.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# Of bfloat16 come the bits, as NumPy holds Paddle's.
STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1",
}
# Settings, places and counters that lie beside weights: as values, and as what is called to make values.
CONSTANTS = [("torch", name) for name in (
    "float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool", "strided",
    "contiguous_format", "channels_last", "preserve_format",
)]
MAKERS = [
    ("torch", "Size"), ("torch", "Tensor"), ("torch", "device"), ("argparse", "Namespace"), ("collections", "Counter"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    *(("pathlib", name) for name in ("Path", "PosixPath", "WindowsPath")),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "float", "set")),
]


class TorchMachine(Machine):
    """A Machine that also knows tensors. `storages`: the bytes of each, by key, which the file's reader puts there.

    Of what lies in two places the second is None, and so is every setting that is no plain value.
    """

    def __init__(self, file: BinaryIO, size: int, big_endian: bool = False):
        super().__init__(file, size, "latin1")
        self.bytes_left = 4 * size  # storages once, and once the tensors, some of which may share one
        self.order = ">" if big_endian else "<"
        self.storages, self.wanted = {}, {}

    def _fill(self, pairs):
        super()._fill((str(key) if type(key) is int else key, value) for key, value in pairs)

    def _push_name(self, module, name):
        try:
            super()._push_name(module, name)
        except ValueError as error:
            raise ValueError(f"{error}; save the state_dict() alone") from None

    def _recall(self, index):
        try:
            super()._recall(index)
        except ValueError:
            self._push(None)
        if isinstance(self.stack[-1], _Tensor):  # one more name for it: a network of both has its numbers twice
            self.account(self.stack[-1].bytes)

    def _build(self):
        if isinstance(self.stack[-2], dict) or self.stack[-2] is None:  # what hangs on a dictionary, or on a setting
            self._pop()
        else:
            super()._build()

    def _find_storage(self, _):
        """For a persistent id: ("storage", kind, key, device, number of elements)."""
        match self._pop():
            case ("storage", _Kind(code=code), str(key), str(), int(elements), *view) if not any(view):
                if not is_size(elements):
                    raise ValueError(f"a storage of {elements} elements")
                self.wanted[key] = _Storage(key, np.dtype(self.order + code), elements)
                self._push(self.wanted[key])
            case _:
                raise ValueError("a persistent id that is no plain storage's")

    def _tensor_of(self, storage=None, offset=None, sizes=None, strides=None, *more):
        if not isinstance(storage, _Storage) or not all(isinstance(each, tuple) for each in (sizes, strides)):
            raise ValueError("a tensor that is of no storage")
        if len(sizes) != len(strides) or len(sizes) > DIMENSIONS or not all(map(is_size, (offset, *sizes, *strides))):
            raise ValueError("a tensor's shape is none")
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if math.prod(sizes) and last >= storage.elements:
            raise ValueError(f"a tensor of shape {sizes} reaches out of its storage of {storage.elements} elements")
        tensor = _Tensor(self, storage, offset, sizes, strides)
        self.account(tensor.bytes)
        return tensor

    def _parameter(self, tensor=None, *more):
        return tensor

    def _of_type(self, function=None, _type=None, arguments=(), *more):
        """For a tensor of a class of its own, or with attributes: the tensor alone."""
        itself = isinstance(function, Function) and function.call is TorchMachine._of_type  # and again, without an end
        if itself or not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise ValueError("a tensor that nothing makes")
        return function.call(self, *arguments)

    def _filled_later(self, *arguments):
        return {}

    def _ignored(self, *arguments):
        return None

    ADMITTED = {
        **Machine.ADMITTED,
        **dict.fromkeys(CONSTANTS),
        **dict.fromkeys(MAKERS, Function(_ignored)),
        ("torch._utils", "_rebuild_tensor"): Function(_tensor_of),
        ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor_of),
        ("torch._utils", "_rebuild_parameter"): Function(_parameter),
        ("torch.nn.parameter", "Parameter"): Function(_parameter),
        ("torch._tensor", "_rebuild_from_type_v2"): Function(_of_type),
        ("collections", "defaultdict"): Function(_filled_later),
    }

    INSTRUCTIONS = {
        **Machine.INSTRUCTIONS,
        **dict.fromkeys(("BINGET", "LONG_BINGET"), _recall),
        "BINPERSID": _find_storage,
        "NEWOBJ": lambda self, _: self._call(),
    }


class _Kind:
    """What elements a storage has, as a code of NumPy's."""

    def __init__(self, code):
        self.code = code


TorchMachine.ADMITTED.update({("torch", name): _Kind(code) for name, code in STORAGES.items()})


class _Storage:
    def __init__(self, key, dtype, elements):
        self.key, self.dtype, self.elements = key, dtype, elements


class _Tensor(Pending):
    def __init__(self, machine, storage, offset, sizes, strides):
        self.machine, self.storage = machine, storage
        self.offset, self.sizes, self.strides = offset, sizes, strides
        self.bytes = math.prod(sizes) * storage.dtype.itemsize

    @cached_property  # one array, however many names it has
    def value(self):
        dtype, raw = self.storage.dtype, self.machine.storages[self.storage.key]
        if len(raw) != self.storage.elements * dtype.itemsize:
            raise ValueError(f"the storage {quoted(self.storage.key)} has {len(raw)} bytes, "
                             f"expected {self.storage.elements} times {dtype.itemsize}")
        elements = np.frombuffer(raw, dtype)[self.offset:]
        if not math.prod(self.sizes):
            return np.zeros(self.sizes, dtype.newbyteorder("="))
        steps = [stride * dtype.itemsize for stride in self.strides]
        window = np.lib.stride_tricks.as_strided(elements, self.sizes, steps, writeable=False)
        return np.ascontiguousarray(window, dtype.newbyteorder("=")).reshape(self.sizes)


def read_legacy(file: BinaryIO, size: int, path: str) -> Any:
    """What a file of so many bytes in torch.save's older form holds, which begins with LEGACY. Raises DataError."""
    with pickle_errors(path):
        for _ in range(2):  # a number of their choice, and the form's version
            Machine(file, size, "latin1").run()
        system = plain(Machine(file, size, "latin1").run())
        big_endian = isinstance(system, dict) and system.get("little_endian") is False
        machine = TorchMachine(file, size, big_endian)
        made = machine.run()
        keys = plain(Machine(file, size, "latin1").run())
        for key in keys if isinstance(keys, list) else ():
            storage = machine.wanted[str(key)]
            elements = int.from_bytes(file.read(8), "big" if big_endian else "little")
            if elements != storage.elements:
                raise ValueError(f"the storage {quoted(storage.key)} has {elements} elements, not {storage.elements}")
            raw = file.read(min(elements * storage.dtype.itemsize, size))
            machine.account(len(raw))
            machine.storages[storage.key] = raw
        return plain(made)
