"""Started processes that do not outlive the one that started them."""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
try:
    PRCTL = ctypes.CDLL(None).prctl  # looked up here: a process that was just forked had better load nothing
except (OSError, TypeError, AttributeError):  # elsewhere than on Linux
    PRCTL = None


def lifeline() -> Callable[[], None]:
    """What to give as `preexec_fn`: the new process is sent SIGTERM, at which a run saves, when this one is killed."""
    parent = os.getpid()

    def hold():
        if PRCTL:
            PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it was killed before this was asked for
                os.kill(os.getpid(), signal.SIGTERM)

    return hold
