"""Words that are not ours, on a terminal: names of files, classes, arrays and keys show there and steer nothing."""

import json
import re
import sys

# Controls (C0, DEL, C1), what turns the direction of writing, ends of lines, halves of characters.
_ABOVE_ASCII = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_STEERING = re.compile(f"[\x00-\x1f{_ABOVE_ASCII}]")
_STEERING_IN_JSON = re.compile(f"[{_ABOVE_ASCII}]")  # the others are escaped there already
LONGEST_LINE = 2000  # characters of an error


def printable(text: object) -> str:
    r"""A text in one line: what would steer a terminal is shown as \x1b, \n or \u202e."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], str(text))


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
