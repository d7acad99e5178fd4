"""SIGTERM at the moments at which most is half done."""

import os
import signal
from collections.abc import Iterator
from random import Random

from engine.train.keeper import Keeper
from faults.disk import spread
from faults.moments import at_operation
from faults.subjects import Subject, of_last_line


def in_evaluation(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """At the n-th batch of the evaluations of a run, each in turn."""
    for number in range(times):
        folder, look = subject.fresh(), Keeper.look

        def before(number=number, look=look):
            looks = iter(range(times))

            def signalled(keeper):
                if next(looks, None) == number:
                    _stop_oneself()
                look(keeper)

            Keeper.look = signalled

        process = subject.begin(folder, before)
        process.wait()
        yield _not_stopped(process) or subject.end(folder)


def in_checkpoint(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """Before each change of a file of a checkpoint, in turn."""
    stems = ("latest.", "best.", "epoch_", "previous.")
    yield from _at_each(subject, times, lambda file: file.startswith(stems), _not_stopped)


def in_report(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """Before each change of a file that a sweep as a whole has, in turn."""
    yield from _at_each(subject, times, lambda file: "/" not in file and file[:1] != ".", lambda process: "")


def _at_each(subject, times, wanted, judge):
    names = enumerate(subject.operations, 1)
    for number in spread([number for number, name in names if wanted(name.partition(" ")[2])], times):
        folder = subject.fresh()
        process = subject.begin(folder, lambda folder=folder, number=number: at_operation(
            folder, number, _stop_oneself))
        process.wait()
        yield judge(process) or subject.end(folder)


def _stop_oneself():
    os.kill(os.getpid(), signal.SIGTERM)


def _not_stopped(process):
    """What is wrong with the end of a run that was asked to stop: it says so, or had come to its end."""
    if process.status and not (process.status == 143 and process.lines()[-1].startswith("stopped by SIGTERM")):
        return f"no clear line: {of_last_line(process)}"
    return ""
