"""A run that is asked to stop: the first signal is remembered, and looked at between two pieces of work."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import paddle

ECHO_SECONDS = 2  # in which a launcher that is killed goes, thread by thread


class Stop:
    """Whether this process has been asked to stop, and by which signal."""

    def __init__(self):
        self.signal = None

    @property
    def asked(self) -> bool:
        return self.signal is not None

    def agreed(self) -> bool:
        """Whether any device has been asked to: the same on all of them, which all have to ask."""
        (asked,) = on_any_device(self.asked)
        return asked


@contextlib.contextmanager
def signals_caught() -> Iterator[Stop]:
    """Within: the first SIGTERM, Ctrl-C or hangup is only noted in the Stop that is yielded.

    A second one has its usual effect, but for a hangup: a shell sends another to what a closed terminal hung up. One
    that is ignored stays ignored, as under nohup. Over several devices a SIGTERM that comes at once after the first has
    no effect either: of the end of a parent with several threads Linux can tell more than once.
    """
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hangup = getattr(signal, "SIGHUP", None)
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
        before[hangup] = signal.getsignal(hangup)

    first = {}

    def note(number, frame):
        stop.signal = number
        since = time.monotonic() - first.setdefault(number, time.monotonic())
        if number == hangup:
            signal.signal(number, signal.SIG_IGN)
        elif number != signal.SIGTERM or paddle.distributed.get_world_size() == 1:
            signal.signal(number, before[number])
        elif since > ECHO_SECONDS:
            signal.signal(number, before[number])
            os.kill(os.getpid(), number)

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)


def on_any_device(*flags: bool) -> tuple[bool, ...]:
    """Each flag as it is on any of the devices, which all have to ask."""
    if paddle.distributed.get_world_size() == 1:
        return flags
    shared = paddle.to_tensor([float(flag) for flag in flags])
    paddle.distributed.all_reduce(shared, op=paddle.distributed.ReduceOp.MAX)
    return tuple(flag > 0 for flag in shared.tolist())
