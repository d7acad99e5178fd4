"""The one error of this room."""


class DataError(ValueError):
    """Bad input: a missing, corrupt or contradictory file, or a value that does not fit the data.

    The message is one line that names the thing (a path, a setting), what came and what was wanted.
    """
