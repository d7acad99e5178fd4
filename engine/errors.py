"""The ends of a run that are no bugs."""


class InputError(ValueError):
    """What a user can mend: one line that names the thing, what was wanted and where."""


class Diverged(Exception):
    """The loss is not finite any more."""


class Stopped(Exception):
    """SIGTERM was obeyed: the work is saved."""
