"""Commands as processes forked from this one, which computes nothing: it has no threads for a fork to lose."""

import contextlib
import ctypes
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from data.orphans import end_with_parent
from engine.command import command
from engine.environment import ROOT
from engine.run import locks
from engine.sweep import processes
from ops.conv2d import onednn

MAIN = {tool: runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"] for tool in ("train", "sweep")}
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl.h
SECONDS = 120  # more than any command here takes
onednn()  # builds and loads the kernels, before every fork


def nothing() -> None:
    """What is done ahead of a command that has no fault."""


class Process:
    """A command that runs: train or sweep. What it prints goes to the end of the file `said`.

    before: called in the new process, ahead of the command.
    """

    def __init__(self, tool: str, arguments: Sequence, said: Path, before: Callable[[], object] = nothing):
        self.said, self.status = said, None
        sys.stdout.flush()
        sys.stderr.flush()
        parent, self.pid = os.getpid(), os.fork()
        if not self.pid:
            end_with_parent(parent, signal.SIGKILL)  # a runner says otherwise of its runs
            _become(tool, [f"{tool}.py", *map(str, arguments)], said, before)

    def poll(self) -> int | None:
        """The status, -N where the signal N has ended it; None as long as it runs."""
        if self.status is None and (waited := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.status = os.waitstatus_to_exitcode(waited[1])
        return self.status

    def wait(self, seconds: float = SECONDS) -> int | None:
        """The status, as soon as there is one; None where the time was not enough."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait_until_stopped(self) -> bool:
        """Wait until it has stopped itself by SIGSTOP: True, or has ended: False."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.status = os.waitstatus_to_exitcode(status)
        return False

    def kill(self) -> None:
        """SIGKILL to it and to all that it has started, before any of them can notice; waits for their end."""
        if self.poll() is not None:
            return
        for pid in (pids := [self.pid, *descendants(self.pid)]):
            signalled(pid, signal.SIGSTOP)
        for pid in {*pids, *descendants(self.pid)}:
            signalled(pid, signal.SIGKILL)
        self.wait()
        wait_for_orphans()

    def freeze(self) -> None:
        """Let it and all that it has started stand still."""
        if self.poll() is None:
            for pid in (self.pid, *descendants(self.pid)):
                signalled(pid, signal.SIGSTOP)

    def lines(self) -> list[str]:
        """What was printed into its file."""
        return self.said.read_text(errors="replace").splitlines() if self.said.exists() else []


def run(tool: str, arguments: Sequence, said: Path, before: Callable[[], object] = nothing) -> Process:
    """A command from its start to its end."""
    process = Process(tool, arguments, said, before)
    if process.wait() is None:
        process.kill()
    return process


class _Run(Process):
    """In place of the subprocess.Popen of a runner: a run of its sweep, forked from the runner."""

    def __init__(self, arguments, *, env, stdout, preexec_fn, **_):
        def before():
            os.environ.update(env)
            preexec_fn()

        arguments = arguments[arguments.index(processes.TRAIN) + 1 :]
        super().__init__("train", arguments, Path(stdout.name), before)

    def wait(self, seconds=SECONDS):
        return super().wait(seconds)


def _become(tool, arguments, said, before):
    """In a new process: be the command."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        locks._claimed.clear()  # of the runner that this was forked from
        processes.subprocess = SimpleNamespace(Popen=_Run, DEVNULL=None, STDOUT=None)
        sys.argv = arguments
        before()
        command(MAIN[tool])
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def adopt_orphans() -> None:
    """Let what loses its parent below this process be this one's child, so that its end can be waited for."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def wait_for_orphans() -> None:
    """Wait until this process has no children any more; they end by themselves."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)
        except ChildProcessError:
            return
    raise TimeoutError(f"processes {descendants(os.getpid())} do not end")


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have, and so on."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has just ended
        return []
    return [process for child in children for process in (child, *descendants(child))]


def wait_while_it_stands(pid: int) -> None:
    """Wait until a process that was just sent SIGSTOP goes on, or is no more."""
    for states in ("RSD", "Tt"):
        while _state(pid) in states:
            time.sleep(0.005)


def _state(pid):
    """A process's letter in /proc, X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def signalled(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
