"""The ends of a run that are no bugs."""

import signal


class InputError(ValueError):
    """What a user can mend: one line that names the thing, what was wanted and where."""


class Diverged(Exception):
    """The loss is not finite any more."""


class Stopped(Exception):
    """A signal was obeyed: the work is saved."""

    def __init__(self, number, where):
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.status = 128 + number
