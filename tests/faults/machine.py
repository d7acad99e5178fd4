"""What else a machine does: its clock, its memory, its other processes."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from faults.disk import judged
from faults.kills import frozen_at_an_operation
from faults.moments import at_operation
from faults.mounts import MEGABYTE
from faults.process import Process, descendants, signalled
from faults.subjects import Subject, of_last_line, unclear

HOUR = 3600
MOST_MEMORY = 200 * MEGABYTE  # that a run is given: with so much some come to their end


def clock_back(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """time.time loses an hour while a run goes on, or between two parts of it, whose files are of the future then."""
    for number in range(times):
        folder = subject.fresh()
        if number % 2:
            moment = chance.randint(1, len(subject.operations))
            process = subject.begin(folder, lambda folder=folder, moment=moment: at_operation(
                folder, moment, _set_clock_back))
            process.wait()
            yield process.status and of_last_line(process) or subject.difference(folder)
        else:
            frozen_at_an_operation(subject, folder, chance).kill()
            for path in folder.rglob("*"):
                os.utime(path, times=(time.time() + HOUR,) * 2)
            yield subject.end(folder, _set_clock_back)


def _set_clock_back():
    right = time.time
    time.time = lambda: right() - HOUR


def two_at_once(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """Another run is begun in the folder of one, at any moment; every other one while the first is about to make it."""
    for number in range(times):
        folder = subject.fresh()
        resumed = number % 4 < 2
        if number % 2:
            first = subject.begin(folder)
            time.sleep(chance.random() * subject.seconds)
            second = _another(subject, folder, resumed)
        else:
            second = _another(subject, folder, resumed, lambda folder=folder: at_operation(
                folder, 1, lambda: signalled(os.getpid(), signal.SIGSTOP)))
            second.wait_until_stopped()
            first = subject.begin(folder)
            first.wait(chance.random() * 2 * subject.seconds)
            second.send_signal(signal.SIGCONT)
        for process in (first, second):
            process.wait()
        wrong = first.status and of_last_line(first) or second.status and unclear(second, (2,))
        if not second.status and not resumed:
            wrong = wrong or "the second began anew, over the first"
        yield wrong or subject.difference(folder)


def _another(subject, folder, resumed, before=lambda: None):
    arguments = subject.arguments(folder)
    if not resumed:
        arguments = [argument for argument in arguments if argument not in ("-r", "auto")]
    return Process(subject.tool, arguments, subject.place / f"{folder.parent.name}-second.said", before)


def memory_limit(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """A run may have so much more memory than at its start, and no more."""
    for number in range(times):
        folder, more = subject.fresh(), MOST_MEMORY * (number + 1) // times
        process = subject.begin(folder, lambda more=more: _limit(more))
        process.wait()
        yield judged(subject, folder, process)


def _limit(more):
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


def worker_killed(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """One of the processes that read is killed, at any moment at which there are some."""
    done = 0
    while done < times:
        folder = subject.fresh()
        process = subject.begin(folder)
        process.wait(chance.random() * subject.seconds)
        while process.poll() is None and not (workers := descendants(process.pid)):
            time.sleep(0.01)
        if process.status is None:
            signalled(chance.choice(workers), signal.SIGKILL)
            done += 1
            process.wait()
            yield judged(subject, folder, process)
