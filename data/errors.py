"""The one error of this room, and how its messages quote what came."""

LONGEST = 120  # characters of what came that a message shows


class DataError(ValueError):
    """Bad input: a missing, corrupt or contradictory file, or a value that does not fit the data.

    The message is one line that names the thing (a path, a setting), what came and what was wanted.
    """


def quoted(text: str) -> str:
    """A text that came from a file, as a message shows it: control characters escaped, the end of a long one cut."""
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r} …"


def escaped(text: str) -> str:
    """The text on one line: what is no printable character, a newline or a terminal's escape for one, as in `repr`."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
