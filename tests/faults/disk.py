"""A disk that is full, over quota, read-only, or of a file system that knows few things."""

import errno
import fcntl
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from faults.kills import frozen_at_an_operation
from faults.moments import at_operation, at_operations
from faults.mounts import MEGABYTE, NotHere, empty, fill, mounted, need_own_mounts, small_disk, system
from faults.process import Process
from faults.subjects import Subject, of_last_line, unclear

PAGE = 4096
ROOM = 64 * MEGABYTE  # of a small disk: more than a run or a sweep takes
TAKE_ROOM = ("open", "os.link", "os.mkdir", "os.rename")  # the operations that a quota can refuse
NOBODY = 65534


Moments = list[tuple[int, int]]  # (number of an operation, bytes that are free from it on)


def writes_of_checkpoints(subject: Subject) -> Moments:
    """Each file of the first, a middle and the last checkpoint: before and within its writing, and as it is synced."""
    opened = [(number, name) for number, name in enumerate(subject.operations, 1) if name.startswith("open latest.")]
    files = len(list(subject.whole.glob("latest.*")))
    saves = [opened[at : at + 2 * files] for at in range(0, len(opened), 2 * files)]  # to be written, and to be synced
    moments = []
    for save in (saves[0], saves[len(saves) // 2], saves[-1]):
        for (written, name), (synced, _) in zip(save[::2], save[1::2], strict=True):
            size = (subject.whole / name.removeprefix("open ").removesuffix(".new.part")).stat().st_size
            pages = -(-size // PAGE)
            moments += [(written, free * PAGE) for free in sorted({0, 1, pages // 2, pages - 1})] + [(synced, 0)]
    return moments


def writes(subject: Subject) -> Moments:
    """Every file that a run opens to write, with no room and with a page."""
    opened = [number for number, name in enumerate(subject.operations, 1) if name.startswith("open ")]
    return [(number, pages * PAGE) for number in opened for pages in (0, 1)]


def full(subject: Subject, chance: Random, moments: Moments) -> Iterator[str]:
    """The disk is full from a moment on, but for so many bytes."""
    yield from _filled(subject, moments, unclear)


def full_at_random(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """The disk is full from some change of a file on: with no room or with some pages more."""
    moments = [(chance.randint(1, len(subject.operations) // 2), chance.randint(0, 60) * PAGE) for _ in range(times)]
    yield from _filled(subject, moments, _not_told)


def _filled(subject, moments, judge):
    need_own_mounts()
    point = subject.place / "small"
    with small_disk(point, ROOM):
        for number, free in moments:
            folder = subject.fresh(within=point)
            process = subject.begin(folder, lambda number=number, free=free, folder=folder: at_operation(
                folder, number, lambda: fill(point, free)))
            process.wait()
            empty(point)
            yield judged(subject, folder, process, judge)
            shutil.rmtree(folder.parent)


def over_quota(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """From some change of a file on each that takes room is refused by EDQUOT, which is raised for it."""
    yield from _refused(subject, chance, times, errno.EDQUOT, TAKE_ROOM)


def read_only_later(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """From some change of a file on each is refused by EROFS, which is raised for it."""
    yield from _refused(subject, chance, times, errno.EROFS, ("",))


def _refused(subject, chance, times, number, kinds):
    for _ in range(times):
        folder, first = subject.fresh(), chance.randint(1, len(subject.operations))

        def refuse(count, name, folder=folder, first=first):
            if count >= first and name.startswith(kinds):
                raise OSError(number, os.strerror(number), str(folder / name.partition(" ")[2]))

        process = subject.begin(folder, lambda folder=folder, refuse=refuse: at_operations(folder, refuse))
        process.wait()
        yield judged(subject, folder, process)


def too_large(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """No file may be larger than some size, below that of the largest of a run."""
    largest = max(file.stat().st_size for file in subject.whole.iterdir())
    for _ in range(times):
        folder, size = subject.fresh(), chance.randint(PAGE, largest - 1)
        limits = (size, resource.RLIM_INFINITY)
        process = subject.begin(folder, lambda limits=limits: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
        process.wait()
        yield judged(subject, folder, process)


def read_only(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """A run that was killed is continued where nothing can be written: on a read-only file system; in another's folder.

    And one begins there.
    """
    need_own_mounts()
    if os.getuid():
        raise NotHere("needs root")
    point = subject.place / "read-only"
    for number in range(times):
        with small_disk(point, ROOM):
            folder, new = subject.fresh(within=point), subject.fresh(within=point)
            frozen_at_an_operation(subject, folder, chance).kill()
            before = (lambda: None) if number % 2 else (lambda: os.seteuid(NOBODY))
            if number % 2:
                system("mount", "-o", "remount,ro", point)
            refused = [subject.begin(each, before) for each in (folder, new)]
            for process in refused:
                process.wait()
            if number % 2:
                system("mount", "-o", "remount,rw", point)
            wrong = [unclear(process) for process in refused]
            yield wrong[0] or wrong[1] or subject.end(folder) or subject.end(new)


def without(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """Hard links and locks are refused, each in one of four ways: raised in their place. The run is killed once."""
    for number in range(times):
        wrong = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)[number % 4]
        folder = subject.fresh()

        def refuse(*_, wrong=wrong, **__):
            raise OSError(wrong, os.strerror(wrong))

        def before(refuse=refuse):
            os.link = fcntl.lockf = refuse

        process = frozen_at_an_operation(subject, folder, chance, before)
        process.kill()
        yield subject.end(folder, before)


def no_shared_memory(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """/dev/shm has a megabyte, or nothing of it left, from the start or from some change of a file on."""
    need_own_mounts()
    shared = Path("/dev/shm")
    for number in range(times):
        folder = subject.fresh()
        with mounted(shared, "-t", "tmpfs", "-o", f"size={MEGABYTE}", "tmpfs"):
            moment = chance.randint(1, len(subject.operations)) if number % 4 == 2 else 1
            act = (lambda: fill(shared, 0)) if number % 2 == 0 else (lambda: None)
            process = subject.begin(folder, lambda folder=folder, moment=moment, act=act: at_operation(
                folder, moment, act))
            process.wait()
        yield judged(subject, folder, process)


def judged(
    subject: Subject, folder: Path, process: Process, judge: Callable[[Process], str] = unclear
) -> str:
    """What was lost by a fault that a process either has survived or has ended by, as `judge` wants it, or ""."""
    return process.status and judge(process) or subject.end(folder)


def _not_told(process):
    """What is wrong with the end of a sweep."""
    if process.status not in (1, 2) or "Traceback" in "".join(process.lines()):
        return f"no clear line: {of_last_line(process)}"
    return ""
