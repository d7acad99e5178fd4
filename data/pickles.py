"""Pickles read as data: the CIFAR archives and what paddle.save writes are pickles, and a pickle can run code."""

import io
import pickle

import numpy as np

from data.errors import DataError


def read_pickle(content, name, encoding="bytes"):
    """Read the bytes of a pickle that holds dicts, lists, strings, numbers and NumPy arrays.

    A pickle can name any function of any module and have it called; here all names but the few that an array needs
    are refused, so nothing foreign is executed. Tensors that paddle.save wrote come back as arrays. `encoding` is what
    strings of Python 2 are read with; `name` is for errors. Raises DataError for anything else.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # a damaged pickle fails in whatever way its bytes happen to spell
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: is no pickle of plain arrays: {reason}") from error


def _empty_array(kind, shape, code):
    """Stand-in for numpy's _reconstruct, which moved between NumPy 1 and 2; shape and bytes follow in the pickle."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _latin1_bytes(text, encoding):
    """Stand-in for _codecs.encode, which is how Python 3 writes bytes into an old pickle."""
    return text.encode("latin1")


def _tensor(items):
    """Stand-in for tuple: paddle.save writes a tensor as tuple((name, array))."""
    is_tensor = len(items) == 2 and isinstance(items[1], np.ndarray)
    return items[1] if is_tensor else tuple(items)


class _ArrayUnpickler(pickle.Unpickler):
    ADMITTED = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct: there is nothing here to call
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1_bytes,
        ("builtins", "tuple"): _tensor,
        ("collections", "OrderedDict"): dict,
    }

    def find_class(self, module, name):
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is refused")
        return self.ADMITTED[module, name]
