"""Packages that only an export needs: imported where they are used."""

import importlib
from types import ModuleType

from engine.errors import InputError


def extra(name: str) -> ModuleType:
    """The module of an optional package. Raises InputError, which says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:  # one of another NumPy or protobuf too
        package = name.partition(".")[0]
        raise InputError(
            f"{package} cannot be imported ({error}); install it with: pip install -r requirements-export.txt"
        ) from None
