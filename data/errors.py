"""The one error of this room, and how words that are not ours stand in messages: they show, and steer nothing."""

import re

# Above ASCII: controls (C1), what turns the direction of writing, ends of lines, halves of characters.
STEERING = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_STEERING = re.compile(f"[\x00-\x1f{STEERING}]")
LONGEST = 120  # characters of what came that a message shows


class DataError(ValueError):
    """Bad input: a missing, corrupt or contradictory file, or a value that does not fit the data.

    The message is one line that names the thing (a path, a setting), what came and what was wanted.
    """


def quoted(text: str) -> str:
    """A text that came from a file, as a message shows it: control characters escaped, the end of a long one cut."""
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r} …"


def printable(text: object) -> str:
    r"""A text in one line: what would steer a terminal is shown as \x1b, \n or \u202e."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], str(text))
