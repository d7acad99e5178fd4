"""File systems of our own: a small one in memory, and one on a disk that can lose its power."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MEGABYTE = 2**20


class NotHere(Exception):
    """This machine does not let us make the fault."""


def system(*command: str | Path) -> None:
    """Run a command of the system. Raises NotHere where it is not there or refuses."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise NotHere(f"there is no {command[0]}") from None
    if done.returncode:
        raise NotHere(f"{command[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")


def need_own_mounts() -> None:
    """Raise NotHere unless what is mounted here is seen by nobody else, as tests/faults.sh has it."""
    if os.environ.get("FAULTS_OWN_MOUNTS") != "yes":
        raise NotHere("no mounts of our own (unshare --mount)")


@contextlib.contextmanager
def mounted(point: Path, *options: str | Path) -> Iterator[None]:
    """Within, mount(8) with these options has mounted something at a folder. Raises NotHere."""
    point.mkdir(parents=True, exist_ok=True)
    system("mount", *options, point)
    try:
        yield
    finally:
        system("umount", "--lazy", point)


@contextlib.contextmanager
def small_disk(point: Path, size: int) -> Iterator[None]:
    """Within, `point` is a file system of so many bytes."""
    with mounted(point, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield


def fill(point: Path, free: int) -> None:
    """Let a file `.ballast` take what room there is in a file system, but for so many bytes."""
    room = shutil.disk_usage(point).free - free
    if room > 0:
        file = os.open(point / ".ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with contextlib.suppress(OSError):
            os.posix_fallocate(file, os.fstat(file).st_size, room)
        os.close(file)


def empty(point: Path) -> None:
    """Give the room back that `fill` took."""
    (point / ".ballast").unlink(missing_ok=True)


class Disk:
    """ext4 on a file that stands for a disk: what the system has not written into it yet is in memory alone."""

    def __init__(self, image: Path, megabytes: int = 64):
        self.image = image
        with open(image, "wb") as file:
            file.truncate(megabytes * MEGABYTE)
        system("mkfs.ext4", "-q", "-F", image)

    def mounted(self, point: Path, options: str) -> contextlib.AbstractContextManager:
        return mounted(point, "-o", f"loop,{options}", self.image)

    def as_it_is(self, copy: Path) -> "Disk":
        """A disk with what has been written into this one until now, at one moment."""
        other = object.__new__(Disk)
        other.image = copy
        while True:
            subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
            if subprocess.run(["cmp", "-s", self.image, copy]).returncode == 0:  # nothing was written meanwhile
                return other
