"""SIGTERM at the moments at which most is half done."""

import os
import signal
from collections.abc import Iterator
from random import Random

from engine.train.keeper import Keeper
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


def changes_of_checkpoints(subject: Subject) -> list[int]:
    """The numbers of the operations that change a file of a checkpoint."""
    stems = ("latest.", "best.", "epoch_", "previous.")
    return [number for number, file in _files(subject) if file.startswith(stems)]


def changes_of_a_sweep(subject: Subject) -> list[int]:
    """The numbers of the operations that change a file that a sweep as a whole has."""
    return [number for number, file in _files(subject) if "/" not in file and file[:1] != "."]


def _files(subject):
    return [(number, name.partition(" ")[2]) for number, name in enumerate(subject.operations, 1)]


def in_checkpoint(subject: Subject, chance: Random, numbers: list[int]) -> Iterator[str]:
    """Before changes of files of checkpoints."""
    yield from _at_each(subject, numbers, _not_stopped)


def in_report(subject: Subject, chance: Random, numbers: list[int]) -> Iterator[str]:
    """Before changes of files that a sweep as a whole has."""
    yield from _at_each(subject, numbers, lambda process: "")


def _at_each(subject, numbers, judge):
    for number in numbers:
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
