"""SIGKILL, as the system sends it when memory runs out, and whoever is in a hurry."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from faults.moments import at_operation
from faults.process import Process, descendants, nothing, signalled, wait_for_orphans, wait_while_it_stands
from faults.subjects import Subject, of_last_line

MOST_IN_A_ROW = 6  # kills of one run, before it may end


def kill_runs(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """A run is killed at any moment, or before any change of a file; again while it goes on."""
    yield from _killed_again_and_again(subject, chance, times, Process.kill)


def kill_sweeps(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """All processes of a sweep are killed at once; sometimes one of its runs alone just before."""

    def kill(process):
        runs = descendants(process.pid)
        if runs and chance.random() < 0.3:
            signalled(chance.choice(runs), signal.SIGKILL)
            signalled(process.pid, signal.SIGCONT)
            process.wait(chance.random() * subject.seconds / 4)
        process.kill()

    yield from _killed_again_and_again(subject, chance, times, kill)


def kill_runners(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """The runner of a sweep is killed alone, and started again at once, while its runs are still saving."""

    def kill(process):
        process.send_signal(signal.SIGKILL)
        process.wait()

    yield from _killed_again_and_again(subject, chance, times, kill)


def _killed_again_and_again(subject, chance, times, kill: Callable[[Process], None]):
    left = times
    while left:
        folder, kills, lost = subject.fresh(), 0, ""
        wanted = chance.randint(1, min(MOST_IN_A_ROW, left))
        while kills < wanted:
            process = _killed_at_some_moment(subject, folder, chance, kill)
            if process.status != -signal.SIGKILL:  # it has come to its end before
                lost = process.status and f"ended by itself: {of_last_line(process)}"
                break
            kills += 1
        lost = lost or subject.end(folder)
        wait_for_orphans()
        if kills or lost:
            yield lost
            yield from [""] * (kills - 1)
        left -= kills


def _killed_at_some_moment(subject, folder, chance, kill):
    if chance.random() < 0.5:
        process = subject.begin(folder)
        process.wait(chance.random() * subject.seconds)
    else:
        process = frozen_at_an_operation(subject, folder, chance)
    if process.poll() is None:
        kill(process)
    return process


def frozen_at_an_operation(
    subject: Subject, folder: Path, chance: Random, first: Callable[[], object] = nothing
) -> Process:
    """One that stands still before it changes some file, with its runner; or that has come to its end before."""
    processes = {"train": 1, "sweep": 2}[subject.tool]  # that share the operations, about evenly
    number = chance.randint(1, len(subject.operations) // processes)

    def before():
        first()
        runner = os.getpid()

        def freeze():
            signalled(runner, signal.SIGSTOP)
            if os.getpid() != runner:
                wait_while_it_stands(runner)

        at_operation(folder, number, freeze)

    process = subject.begin(folder, before)
    process.wait_until_stopped()
    return process
