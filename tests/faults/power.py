"""The power goes.

The run lies on ext4 on a disk that is a file. At some moment all its processes are frozen, and the file is copied as it
is: it has what was synced, and what the system had got round to write; what was in the system's memory alone is not in
it. The processes are killed, the copy is mounted, by which ext4 plays back its journal, and the run goes on there.
What a disk's own memory would lose is not simulated.
"""

from collections.abc import Iterator
from random import Random

from faults.kills import frozen_at_an_operation
from faults.mounts import Disk, need_own_mounts
from faults.subjects import Subject

# As most have it, and the least that ext4 can be made to promise: no file is written for being renamed.
OPTIONS = ("defaults", "noauto_da_alloc,data=writeback,commit=300")


def cut(subject: Subject, chance: Random, times: int) -> Iterator[str]:
    """The power goes at any moment, or just before some change of a file."""
    need_own_mounts()
    for number in range(times):
        point = subject.place / f"disk{number}"
        disk, options = Disk(subject.place / f"disk{number}.ext4"), OPTIONS[number % len(OPTIONS)]
        with disk.mounted(point, options):
            folder = subject.fresh("run", within=point)
            if number % 4 < 2:
                process = frozen_at_an_operation(subject, folder, chance)
            else:
                process = subject.begin(folder)
                process.wait(chance.random() * subject.seconds)
            process.freeze()
            after = disk.as_it_is(subject.place / f"disk{number}-after.ext4")
            process.kill()
        with after.mounted(point, options):
            subject.write_config(folder.parent)
            yield subject.end(folder)
        disk.image.unlink()
        after.image.unlink()
