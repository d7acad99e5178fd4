"""JSON files that anybody can have made: what is read of one, and one line where a value is not what it should be."""

import json
import os
from collections.abc import Iterable
from typing import Any

from data.errors import DataError, quoted
from data.files import read_file

LARGEST_FILE = 4 << 30  # bytes
LARGEST = 2**53  # of a number of which nothing is lost


def read_json(path: str | os.PathLike) -> Any:
    """The value of a JSON file in UTF-8. Raises DataError."""
    try:
        return json.loads(read_file(path, LARGEST_FILE).decode("utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no JSON in UTF-8: byte {error.start:,} is no text") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is no JSON: {error}") from None
    except DataError:
        raise
    except (RecursionError, ValueError) as error:  # nested without end, or a number of more digits than Python reads
        raise DataError(f"{path}: is no JSON that can be read: {type(error).__name__}") from None


def wrong(place: str, came: Any, wanted: str) -> DataError:
    """A value that came from a file, and what was wanted in its place."""
    return DataError(f"{place}: {_shown(came)}, wanted {wanted}")


def mapping(value: Any, place: str) -> dict:
    if not isinstance(value, dict):
        raise wrong(place, value, "an object")
    return value


def entries(values: dict, key: str, place: str) -> list[dict]:
    """The list of objects that stands at `key`."""
    if key not in values:
        there = ", ".join(map(quoted, list(values)[:8])) or "nothing"
        raise DataError(f"{place}: has no {quoted(key)}; it has {there}")
    if not isinstance(values[key], list):
        raise wrong(f"{place}: {key}", values[key], "a list")
    for number, entry in enumerate(values[key]):
        if not isinstance(entry, dict):
            raise wrong(f"{place}: {key}[{number}]", entry, "an object")
    return values[key]


def whole(value: Any, place: str, least: int | None = None) -> int:
    if type(value) is not int or abs(value) > LARGEST or (least is not None and value < least):
        raise wrong(place, value, "a whole number" + (f" of {least} or more" if least is not None else ""))
    return value


def text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise wrong(place, value, "a text")
    return value


def are_finite(values: Iterable) -> bool:
    """Whether all are numbers, of a size that can be drawn."""
    return all(type(value) in (int, float) and abs(value) < LARGEST for value in values)  # NaN is not


def _shown(value):
    if value is None:
        return "is missing or null"
    if isinstance(value, (dict, list)) and len(value) > 8:
        return f"got {'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    shown = json.dumps(value, ensure_ascii=False)
    return f"got {quoted(value) if isinstance(value, str) else shown if len(shown) < 80 else shown[:80] + ' …'}"
