"""Started processes that do not outlive the one that started them."""

import ctypes
import signal

PR_SET_PDEATHSIG = 1
try:
    PRCTL = ctypes.CDLL(None).prctl  # looked up here: a process that was just forked had better load nothing
except (OSError, TypeError, AttributeError):  # elsewhere than on Linux
    PRCTL = None


def end_with_parent():
    """For `preexec_fn`: have the new process sent SIGTERM, at which a run saves, when its parent is killed."""
    if PRCTL:
        PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
