"""The machine that a pickle is a program for, with few instructions: those that plain values are written with.

Every size is checked before the work is done. What other programs write besides, a subclass adds.
"""

import math
import pickletools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

MOST_INSTRUCTIONS = 2_000_000  # of a pickle; the largest file of CIFAR has some 250,000
LONGEST_LINE = 4096  # of the names and numbers that are written as text
DIMENSIONS = 9  # of an array: as many as Paddle's tensors have at most
DTYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")  # what Paddle's tensors become
PLAIN_DTYPE = (None, None, None, -1, -1, 0)  # a dtype's state behind version and byte order: no parts, no fields


class Pending:
    """An array on its way: the pickle names it before all that makes it is there; then `value` is it."""

    value = None


class _Array(Pending):
    """An array: shape, dtype and bytes come later."""


class _Dtype:
    """A dtype on its way: one of DTYPES, then its byte order."""

    def __init__(self, code):
        self.code, self.value = code, None


class Function:
    """A name that a pickle may call, and what is done instead. It is no value: no result can hold one."""

    def __init__(self, call: Callable):
        self.call = call


class Machine:
    """One run over the instructions of a pickle in a file of so many bytes, which it leaves behind the pickle's end.

    `stack` holds values, `marks` where groups of them begin.
    """

    def __init__(self, file: BinaryIO, size: int, encoding: str):
        self.encoding = encoding
        # A pickle may ask for any number of bytes, or a line without end; a file would make room for them first.
        self.file = SimpleNamespace(
            read=lambda wanted: file.read(min(wanted, size)), readline=lambda: file.readline(LONGEST_LINE),
            tell=file.tell,
        )
        self.stack, self.marks, self.memo = [], [], {}
        self.bytes_left = 2 * size  # that may be made of the file's: once as text's bytes, once as an array

    def run(self) -> Any:
        """What the pickle makes, for `plain` to look through. Raises ValueError and LookupError."""
        instructions = pickletools.genops(self.file)
        for count, (opcode, argument, _) in enumerate(instructions):
            if count >= MOST_INSTRUCTIONS:
                raise ValueError(f"has more than {MOST_INSTRUCTIONS:,} instructions")
            if opcode.name == "STOP":
                return self._pop()
            if opcode.name not in self.INSTRUCTIONS:
                raise ValueError(f"has the instruction {opcode.name}, which is refused")
            self.INSTRUCTIONS[opcode.name](self, argument)
        raise ValueError("it ends too early")

    def _pop(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError
        return self.stack.pop()

    def _group(self):
        """What was put on the stack since the last mark."""
        begin = self.marks.pop()
        group = self.stack[begin:]
        del self.stack[begin:]
        return group

    def _push(self, value):
        self.stack.append(value)

    def _push_old_text(self, text):
        raw = text.encode("latin1")
        self._push(raw if self.encoding == "bytes" else raw.decode(self.encoding))

    def _push_tuple(self, size):
        self._push(tuple(reversed([self._pop() for _ in range(size)])))

    def _push_name(self, module, name):
        if (module, name) not in self.ADMITTED:
            raise ValueError(f"asks for {module}.{name}, which is refused")
        self._push(self.ADMITTED[module, name])

    def _push_name_from_stack(self):
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name is no text")
        self._push_name(module, name)

    def _memorise(self, index):
        self.memo[index] = self.stack[-1]

    def _recall(self, index):
        value = self.memo[index]
        # What holds values lies in one place only, but for short tuples such as shapes: so nothing holds itself, or
        # doubles each time that it is named again.
        is_short = isinstance(value, tuple) and len(value) <= DIMENSIONS
        is_flat = is_short and not any(isinstance(part, (list, dict, tuple)) for part in value)
        if isinstance(value, (list, dict, tuple)) and not is_flat:
            raise ValueError(f"one {type(value).__name__} stands in two places")
        self._push(value)

    def _fill(self, pairs):
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError(f"keys for a {type(target).__name__}")
        for key, value in pairs:
            if not isinstance(key, (str, bytes)):  # their hashes are quick, and nobody can choose them
                raise ValueError("a key is no text")
            target[key] = value

    def _extend(self, values):
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError(f"elements for a {type(target).__name__}")
        target.extend(values)

    def _set_one(self):
        value, key = self._pop(), self._pop()
        self._fill([(key, value)])

    def _set_group(self):
        group = self._group()
        if len(group) % 2:
            raise ValueError("a key without a value")
        self._fill(zip(group[::2], group[1::2], strict=True))

    def _call(self):
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise ValueError("calls what is no function")
        self._push(function.call(self, *arguments))

    def _build(self):
        """The state of an array or a dtype that stands on the stack."""
        state, target = self._pop(), self.stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple) and len(state) == 8:
            version, order, *rest = state
            order = order.decode("latin1") if isinstance(order, bytes) else order
            if (version, *rest) != (3, *PLAIN_DTYPE) or order not in ("<", ">", "|", "="):
                raise ValueError("a dtype is of more than plain numbers")
            target.value = np.dtype(order + target.code)
        elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
            target.value = self._array(*state[1:])
        else:
            raise ValueError("a state that is neither a plain array's nor a plain dtype's")

    def _array(self, shape, dtype, by_columns, raw):
        if isinstance(raw, str):
            raw = self._bytes(raw, "latin1")
        if not isinstance(dtype, _Dtype) or dtype.value is None or not isinstance(raw, bytes):
            raise ValueError("an array is not of plain numbers")
        dtype = dtype.value
        if not isinstance(shape, tuple) or len(shape) > DIMENSIONS or not all(is_size(size) for size in shape):
            raise ValueError("an array's shape is none")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError(f"an array of shape {shape} and {dtype} has {len(raw)} bytes")
        self.account(len(raw))
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if by_columns else "C")
        return array.astype(dtype.newbyteorder("="))  # a copy: its own memory, in this machine's byte order

    def account(self, size: int) -> None:
        """ValueError where more bytes are made than the file accounts for."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ValueError("it makes more bytes than it has")

    def _bytes(self, *arguments):
        """For _codecs.encode, which is how Python 3 writes bytes into an old pickle."""
        if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
            raise ValueError("text is encoded in another way than bytes are")
        self.account(len(arguments[0]))
        return arguments[0].encode("latin1")

    def _no_bytes(self, *arguments):
        """For bytes, which is how Python 3 writes b"" into an old pickle."""
        if arguments:
            raise ValueError("bytes are made of other values")
        return b""

    def _begin_array(self, *arguments):
        """For numpy's _reconstruct, which moved between NumPy 1 and 2."""
        return _Array()

    def _begin_dtype(self, code=None, *options):
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if code not in DTYPES:
            raise ValueError(f"a dtype is {code!r}, expected one of {' '.join(DTYPES)}")
        return _Dtype(code)

    def _tensor(self, items=(), *more):
        """For tuple: paddle.save writes a tensor as tuple((name, array))."""
        if more or not isinstance(items, (tuple, list)):
            raise ValueError("a tuple of what is no list")
        is_tensor = len(items) == 2 and isinstance(items[1], _Array)
        return items[1] if is_tensor else tuple(items)

    def _dictionary(self, *arguments):
        if arguments:
            raise ValueError("a dictionary is filled while it is made")
        return {}

    ADMITTED = {
        ("numpy.core.multiarray", "_reconstruct"): Function(_begin_array),
        ("numpy._core.multiarray", "_reconstruct"): Function(_begin_array),
        ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct: there is nothing here to call
        ("numpy", "dtype"): Function(_begin_dtype),
        ("_codecs", "encode"): Function(_bytes),
        ("__builtin__", "bytes"): Function(_no_bytes),
        ("builtins", "tuple"): Function(_tensor),
        ("__builtin__", "tuple"): Function(_tensor),  # in protocol 2
        ("collections", "OrderedDict"): Function(_dictionary),
    }

    # The instructions that Python's pickler writes for such values from protocol 2 on, by pickletools' names.
    INSTRUCTIONS = {
        **dict.fromkeys(("PROTO", "FRAME"), lambda self, _: None),
        **dict.fromkeys(
            (
                "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
                "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
            ),
            _push,
        ),
        **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _push_old_text),
        "NONE": lambda self, _: self._push(None),
        "NEWTRUE": lambda self, _: self._push(True),
        "NEWFALSE": lambda self, _: self._push(False),
        "EMPTY_LIST": lambda self, _: self._push([]),
        "EMPTY_DICT": lambda self, _: self._push({}),
        "EMPTY_TUPLE": lambda self, _: self._push(()),
        "TUPLE1": lambda self, _: self._push_tuple(1),
        "TUPLE2": lambda self, _: self._push_tuple(2),
        "TUPLE3": lambda self, _: self._push_tuple(3),
        "TUPLE": lambda self, _: self._push(tuple(self._group())),
        "MARK": lambda self, _: self.marks.append(len(self.stack)),
        "APPEND": lambda self, _: self._extend([self._pop()]),
        "APPENDS": lambda self, _: self._extend(self._group()),
        "SETITEM": lambda self, _: self._set_one(),
        "SETITEMS": lambda self, _: self._set_group(),
        "GLOBAL": lambda self, names: self._push_name(*names.split(" ", 1)),
        "STACK_GLOBAL": lambda self, _: self._push_name_from_stack(),
        "REDUCE": lambda self, _: self._call(),
        "BUILD": lambda self, _: self._build(),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _memorise),
        "MEMOIZE": lambda self, _: self._memorise(len(self.memo)),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), _recall),
    }


def is_size(value: Any) -> bool:
    """Whether a value of a file can be the size of an array's axis."""
    return type(value) is int and 0 <= value < 2**31
