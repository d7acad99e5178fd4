"""No orphans: a process that was started here ends when the one that started it does, however that ends."""

import ctypes
import os

PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
try:
    PRCTL = ctypes.CDLL(None).prctl  # looked up here: a process that was just forked had better load nothing
except (OSError, TypeError, AttributeError):  # elsewhere than on Linux
    PRCTL = None


def end_with_parent(parent: int, number: int) -> None:
    """Have this process sent the signal `number` when its parent, of process id `parent`, ends. Linux only."""
    if PRCTL:
        PRCTL(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before this was asked for
            os.kill(os.getpid(), number)
