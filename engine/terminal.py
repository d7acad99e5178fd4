"""Words that are not ours, on a terminal: names of files, classes, arrays and keys show there and steer nothing."""

import json
import re
import sys

from data.errors import STEERING, printable

_STEERING_IN_JSON = re.compile(f"[{STEERING}]")  # the others are escaped there already
LONGEST_LINE = 2000  # characters of an error


def one_line(error: object) -> str:
    """An error as it is printed: a line of bounded length."""
    return shortened(printable(error), LONGEST_LINE)


def shortened(text: str, longest: int) -> str:
    """The text, its middle left out where it is longer than that."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def json_text(value: object, indent: int | None = None) -> str:
    """JSON for standard output: names as they are where the terminal can show them, and valid where it cannot."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    text = _STEERING_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
