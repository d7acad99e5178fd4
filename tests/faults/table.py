"""The rows of the table, and how one is made."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from faults import disk, kills, machine, power, stops
from faults.mounts import NotHere
from faults.subjects import READ_BY_PROCESSES, TASKS, Subject

Fault = Callable[[Subject, Random, Any], Iterator[str]]


@dataclass(frozen=True)
class Row:
    """One kind of fault: `make` yields what was lost for each of `times` of them, or "".

    each: gives all moments that there are for it; then `make` takes so many of these, evenly spread, 0: all. And {} in
    `what` is how many of how many.
    """

    what: str
    make: Fault
    times: int
    task: str = "classification"
    tool: str = "train"
    options: tuple[str, ...] = ()
    each: Callable[[Subject], list] | None = None


def _rows() -> dict[str, Row]:
    rows = {}
    for task, times in zip(TASKS, (20, 15, 15), strict=True):
        rows[f"kill-run-{task}"] = Row(f"SIGKILL of a run, {task}", kills.kill_runs, times, task)
        rows[f"kill-sweep-{task}"] = Row(f"SIGKILL of a sweep, {task}", kills.kill_sweeps, times, task, "sweep")
    rows["kill-runner"] = Row("SIGKILL of a sweep's runner alone", kills.kill_runners, 10, tool="sweep")
    for task in TASKS:
        rows[f"power-run-{task}"] = Row(f"power gone in a run, {task}", power.cut, 4, task)
    rows["power-sweep"] = Row("power gone in a sweep", power.cut, 4, tool="sweep")
    rows |= {
        "disk-full": Row("disk full at {} moments at which a checkpoint is written", disk.full, 0,
                         each=disk.writes_of_checkpoints),
        "disk-full-any": Row("disk full at {} moments at which a run writes a file", disk.full, 24, each=disk.writes),
        "disk-full-sweep": Row("disk full in a sweep", disk.full_at_random, 6, tool="sweep"),
        "quota": Row("quota exceeded (EDQUOT) when a file is changed", disk.over_quota, 12),
        "file-size": Row("file larger than allowed (RLIMIT_FSIZE)", disk.too_large, 6),
        "read-only": Row("folder read-only from the start (two ways)", disk.read_only, 2),
        "read-only-later": Row("file system read-only (EROFS) from some change of a file on", disk.read_only_later, 8),
        "no-links-no-locks": Row("neither hard links nor locks (EPERM, EOPNOTSUPP, ENOSYS, ENOLCK)", disk.without, 4),
        "shared-memory": Row("/dev/shm of 1 MB, of which 1 or 0 are free", disk.no_shared_memory, 4, "clips",
                             options=READ_BY_PROCESSES),
        "clock": Row("clock set back an hour, between two parts and within", machine.clock_back, 4),
        "two-runs": Row("two runs in one folder", machine.two_at_once, 8),
        "memory": Row("memory limit reached (RLIMIT_AS)", machine.memory_limit, 12),
        "worker-killed": Row("SIGKILL of a process that reads", machine.worker_killed, 8, "clips",
                             options=READ_BY_PROCESSES),
        "stop-evaluation": Row("SIGTERM inside an evaluation", stops.in_evaluation, 4, "detection"),
        "stop-checkpoint": Row("SIGTERM at {} changes of files of checkpoints", stops.in_checkpoint, 30,
                               each=stops.changes_of_checkpoints),
        "stop-report": Row("SIGTERM at {} changes of files of a sweep", stops.in_report, 20, tool="sweep",
                           each=stops.changes_of_a_sweep),
    }
    return rows


ROWS = _rows()


@dataclass
class Result:
    """What a row came to."""

    what: str
    times: int = 0
    lost: list[str] = field(default_factory=list)
    not_here: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.not_here:
            return f"{self.what:<76} {'-':>5}  not done here: {self.not_here}"
        lost = f"{len(self.lost)}: {self.lost[0]}" if self.lost else "nothing"
        return f"{self.what:<76} {self.times:>5}  {lost:<40} {self.seconds:.0f} s"


def make_row(row: Row, subjects: Callable[[Row], Subject], seed: int, times: int | None) -> Result:
    """Do what a row says; `times` instead of as often as it says."""
    result, began = Result(row.what.format("some")), time.monotonic()
    try:
        subject, amount = subjects(row), times or row.times
        if row.each:
            there = row.each(subject)
            amount = spread(there, amount or len(there))
            of = f"{len(amount)} of {len(there)}" if len(amount) < len(there) else f"all {len(there)}"
            result.what = row.what.format(of)
        for lost in row.make(subject, Random(f"{seed} {row.what}"), amount):
            result.times += 1
            result.lost += [lost] if lost else []
    except NotHere as reason:
        result.not_here = str(reason)
    result.seconds = time.monotonic() - began
    return result


def spread(values: list, times: int) -> list:
    """So many of the values, evenly spread; all of them where there are fewer."""
    return [values[index * len(values) // times] for index in range(times)] if times < len(values) else values


def make_subjects(place: Path) -> Callable[[Row], Subject]:
    """What gives a row its subject; rows of the same have the same."""
    made = {}

    def subject(row):
        key = (row.task, row.tool, row.options)
        if key not in made:
            made[key] = Subject(place / str(len(made)), *key)
        return made[key]

    return subject


def make(names: Iterable[str], place: Path, seed: int, times: int | None) -> Iterator[Result]:
    """A result for each of these rows, in a folder."""
    subjects = make_subjects(place)
    for name in names:
        yield make_row(ROWS[name], subjects, seed, times)
