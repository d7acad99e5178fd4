"""The ends of a run that are no bugs."""

import signal


class InputError(ValueError):
    """What a user can mend: one line that names the thing, what was wanted and where."""


class Diverged(Exception):
    """The loss, of training or of an evaluation, or the weights are not finite any more."""


class PeerLost(Exception):
    """Another process of the same run, on this machine or another, is gone: this one cannot go on alone."""


DISK_REFUSED = "what was saved before is whole"  # how the line of a DiskError ends


class DiskError(OSError):
    """A file could not be written: the disk is full, read-only or gone. No bug, and what was saved before stays.

    Made of (errno, strerror, path).
    """

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror}); {DISK_REFUSED}"


class Stopped(Exception):
    """A signal was obeyed: the work is saved."""

    def __init__(self, number: int, where: str):
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.status = 128 + number
