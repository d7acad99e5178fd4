"""What a sweep has on a node of a cluster: a process there that starts one run after the other and tells of it.

Sent to the node as it stands here (pickled by value), so it imports nothing of the project: Paddle would take each of
these processes seconds and hundreds of megabytes, and they do not compute.
"""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

LOOK_SECONDS = 1.0  # that one question waits for an answer
CLAIM_SECONDS = 60  # for a run that has just lost its driver to save and end
CHECKPOINT = (".pdparams", ".pdopt", ".pdema", ".pdstates")
HOMES_OWN = ("config.yaml", "failed.txt", ".lock", ".runner")  # files of a run that stay where they are
MARK = "latest.pdstates"  # a checkpoint is there when this is


class Order(NamedTuple):
    """A run to be started."""

    root: str  # of the project
    command: tuple[str, ...]  # after Python and before the config
    working_folder: str
    folder: str  # the run's; where it is collected, its path below a folder of this node
    environment: dict[str, str]
    console: str  # the file's name for what it prints
    config: str = ""  # where it is collected: the text of its config.yaml,
    files: dict[str, bytes] | None = None  # and what is there of it already; None: its folder is on a shared disk


class News(NamedTuple):
    """How a run stands."""

    status: int | None  # of its process; None while it goes on
    there: dict[str, tuple] | None = None  # path -> stamp of all its files, None where there is nothing to bring home
    contents: dict[str, bytes] = {}  # of those whose stamp is new


class Place:
    """One run at a time, on one node."""

    def __init__(self):
        self.child = self.scratch = self.folder = None

    def where(self) -> tuple[str, str]:
        """The node's name, and what Ray calls it."""
        import ray

        return socket.gethostname(), ray.get_runtime_context().get_node_id()

    def start(self, order: Order) -> News:
        """Start a run. Raises DataError where its folder is no run's, and anything where this node cannot run it."""
        for path in (order.root, order.working_folder):
            if not os.path.isdir(path):
                raise FileNotFoundError(f"{path}: no such folder; project and data lie at the same path on all nodes")
        if order.root not in sys.path:
            sys.path.insert(0, order.root)
        from data.orphans import end_with_parent

        self.tidy()
        options = []
        if order.files is None:
            self.folder = Path(order.folder)
        else:
            self._unpack(order)
            options = ["-o", f"output={self.scratch}"]
        self._wait_for_others()
        there = _stamps(self.folder) if self.scratch else {}
        command = list(order.command)
        if "paddle.distributed.launch" in command:
            command[2:2] = ["--log_dir", self.folder / "launch"]
        environment = {**os.environ, **order.environment}
        if not environment.get("CUDA_VISIBLE_DEVICES"):  # Ray empties it where a run takes no GPU
            environment.pop("CUDA_VISIBLE_DEVICES", None)
        with open(self.folder / order.console, "ab", opener=_ordinary) as console:
            self.child = subprocess.Popen(
                [sys.executable, *command, "-c", self.folder / "config.yaml", "-r", "auto", *options],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, env=environment,
                cwd=order.working_folder, start_new_session=True,
                preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),
            )
        return News(None, there)

    def look(self, known: dict[str, tuple]) -> News:
        """How the run stands, at its end or after a moment; where it is collected, what is new since `known`."""
        try:
            status = self.child.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        if self.scratch is None or status is None and _stamps(self.folder).get(MARK) == known.get(MARK):
            return News(status)
        there = _stamps(self.folder)
        saving = {_stem(path) for path in there if path.endswith(".new")}
        if status is None and saving:
            return News(None)  # the next look has it
        # A save that the end of its process has cut off stays behind: what is home of it is whole.
        there = {path: stamp for path, stamp in there.items() if _stem(path) not in saving}
        there |= {path: stamp for path, stamp in known.items() if _stem(path) in saving}
        contents = _contents(self.folder, [path for path, stamp in there.items() if known.get(path) != stamp])
        if status is None and _saved(there) != _saved(_stamps(self.folder)):
            return News(None)  # it was saved anew while it was read
        return News(status, there, contents)

    def stop(self) -> None:
        """Have the run save and end, which `look` will tell."""
        if self.child:
            self.child.send_signal(signal.SIGTERM)

    def tidy(self) -> None:
        """Drop what was collected, once it is home, and what was left here by places that were killed."""
        own_name = re.compile(re.escape(f"sweep-{socket.gethostname()}-") + r"(\d{1,9})-\w+")
        for path in Path(tempfile.gettempdir()).iterdir():
            if (match := own_name.fullmatch(path.name)) and (int(match[1]) == os.getpid() or not _lives(int(match[1]))):
                shutil.rmtree(path, ignore_errors=True)
        self.scratch = None

    def _unpack(self, order):
        self.scratch = tempfile.mkdtemp(prefix=f"sweep-{socket.gethostname()}-{os.getpid()}-")
        self.folder = Path(self.scratch, order.folder)
        for path, content in {**order.files, "config.yaml": order.config.encode()}.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)

    def _wait_for_others(self):
        """Until no process trains in the folder: one that lost its driver may still be saving.

        Where the disk has no locks this knows only of nobody.
        """
        import fcntl

        until = time.monotonic() + CLAIM_SECONDS
        while time.monotonic() < until:
            with open(self.folder / ".lock", "a", opener=_ordinary) as lock:
                try:
                    return fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    time.sleep(LOOK_SECONDS / 2)
                except OSError:
                    return None


def _ordinary(path, flags):
    """The `opener` of files in a run's folder, as engine.files has it, which would bring Paddle along."""
    from data.errors import DataError

    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # of a link, a pipe that nobody reads, a folder
            raise
        handle = None
    if handle is None or not stat.S_ISREG(os.fstat(handle).st_mode):
        raise DataError(f"{path}: is a link, a pipe or a folder; expected an ordinary file, to write to")
    return handle


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def read_folder(folder: Path) -> dict[str, bytes]:
    """path -> content of a run's files that go with it from machine to machine."""
    return _contents(folder, _stamps(folder))


def _stamps(folder: Path) -> dict[str, tuple]:
    stamps: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            facts = path.lstat()  # a link may lead to anything
            if stat.S_ISREG(facts.st_mode) and path.suffix != ".part" and path.name not in HOMES_OWN:
                stamps[str(path.relative_to(folder))] = facts.st_ino, facts.st_mtime_ns, facts.st_size
    return stamps


def _contents(folder, paths):
    contents = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            contents[path] = (folder / path).read_bytes()
    return contents


def _stem(path):
    """What the files of one checkpoint have in common, that are being written or not."""
    return os.path.splitext(path.removesuffix(".new"))[0]


def _saved(stamps):
    return {path: stamp for path, stamp in stamps.items() if path.endswith((*CHECKPOINT, ".new"))}
