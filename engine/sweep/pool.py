"""The runs of a sweep, some at a time: which is next, which go on, which have ended and how.

Where they are processed says an `Executor`: on this machine (processes.py) or on a cluster (cluster.py).
"""

import contextlib
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from engine.errors import DISK_REFUSED, Stopped
from engine.files import read_end, write_text
from engine.report.records import FAILED_FILE
from engine.run.folder import CONFIG_FILE
from engine.run.locks import hold, is_claimed
from engine.sweep.definition import Run, Sweep
from engine.sweep.folder import CONSOLE_FILE, material_changes, state

TRIES = 2
LOSSES = 5  # of the machines that a run was on, before it looks as if it were the run's fault
SECONDS_BETWEEN_LOOKS = 0.2
LAST_LINES = 12
CONSOLE_BYTES = 65536  # of what a run printed: more than its last lines


class End(NamedTuple):
    """How the process of a run has ended."""

    status: int | None  # of the process, None where nobody could say
    said: str = ""  # more of it, such as where it was
    lost: bool = False  # with its machine
    refused: bool = False  # by its machine, which runs nothing more

    def __str__(self) -> str:
        status = "" if self.status is None else f"it ended with status {self.status}"
        if self.status == -signal.SIGKILL:
            status += ", killed as by a system that is out of memory"
        return "; ".join(filter(None, (status, self.said)))


class Executor(Protocol):
    """Where runs are processed. What `start` gives stands for its run in the other methods."""

    alone: bool  # whether its runner has the sweep's folder to itself, so that runs need no locks
    places: int  # runs at a time
    environment: dict[str, str]  # of each run, as far as the executor chooses it

    def entered(self, sweep: Sweep) -> contextlib.AbstractContextManager:
        """Within, the sweep's folder is this runner's as far as `alone` says. Raises InputError where it cannot be."""

    def look(self, waiting: int) -> None:
        """See to it that there is room for as many runs as wait to be started; called all the time."""

    def has_room(self) -> bool:
        """Whether a run can be started now."""

    def start(self, run: Run) -> Any:
        """Start, or continue, a run whose config.yaml is in its folder; only where there is room."""

    def poll(self, started: Any) -> End | None:
        """None while the run goes on. Once it has ended its folder is as it left it, and its place is free."""

    def stop(self, started: list[Any]) -> None:
        """Have these runs save and end, and wait for that."""


@dataclass
class Job:
    """One run, as this runner sees it."""

    run: Run
    state: str  # as engine.sweep.folder.state says, or: running, elsewhere (another process has it)
    tries: int = 0
    losses: int = 0  # of machines that it was on
    moves: list[str] = field(default_factory=list)  # why it went on elsewhere, each time
    started: Any = None  # what the executor calls it while it goes on
    began: float = 0.0
    seconds: float = 0.0  # that its processes have taken
    held: object = None  # the lock that keeps other runners from it
    last_lines: str = ""  # where it has failed


class Pool:
    """Runs jobs on an executor until none is left: `jobs` to look at, `done` for every one that comes to its end.

    A job is taken up where its folder says: finished ones are left alone, begun ones resume. One that another process
    trains is waited for. One that fails is tried once more, unless it was its disk, then it has failed, with its last
    lines in its folder. One whose machine is lost, or cannot run it, goes on elsewhere.
    """

    def __init__(self, runs: list[Run], executor: Executor):
        for run in runs:
            (run.config.folder / FAILED_FILE).unlink(missing_ok=True)  # another start is another chance
        self.jobs = [Job(run, state(run)) for run in runs]
        self.executor = executor
        self.started, self.began = datetime.now().astimezone().isoformat(), time.monotonic()

    def work(self, done: Callable[[Job], None], look: Callable[[], None]) -> None:
        """Blocks until every job is finished or failed; calls done(job) at each such end and look() all the time.

        At SIGTERM, SIGHUP or Ctrl-C the runs are stopped, which saves them, and Stopped is raised.
        """
        with _signals_raise():
            try:
                while left := [job for job in self.jobs if job.state not in ("finished", "failed")]:
                    self.executor.look(sum(job.started is None for job in left))
                    for job in left:
                        self._attend(job)
                        if job.state in ("finished", "failed"):
                            done(job)
                    look()
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            except BaseException:
                self._stop()
                raise

    def session(self) -> dict[str, Any]:
        """What this runner did until now, for sessions.jsonl; times in seconds."""
        return {
            "started": self.started,
            "arguments": sys.argv[1:],
            "seconds": round(time.monotonic() - self.began, 1),
            "processes": self.executor.places,
            "environment": self.executor.environment,
            "seconds_of_runs": round(sum(job.seconds for job in self.jobs), 1),
            "processor_seconds_of_runner": round(time.process_time(), 1),
        }

    def _attend(self, job):
        """Whatever there is to do for a job now."""
        folder = job.run.config.folder
        if job.started is not None:
            end = self.executor.poll(job.started)
            if end is None:
                return
            self._let_go(job)
            if job.state != "finished" and not self._is_elsewhere(folder):
                self._look_at_end(job, end)
            return
        if self.executor.alone and not self.executor.has_room():
            return  # nobody else could have changed anything in its folder
        if self._is_elsewhere(folder):
            job.state = "elsewhere"
            return
        job.state = state(job.run)
        if job.state == "failed":  # by another runner, just now
            job.last_lines = read_end(folder / FAILED_FILE, CONSOLE_BYTES)
        if job.state in ("finished", "failed") or not self.executor.has_room():
            return
        folder.mkdir(parents=True, exist_ok=True)
        job.held = contextlib.ExitStack() if self.executor.alone else hold(folder / ".runner")
        if job.held is None:  # another runner has just started it
            job.state = "elsewhere"
        elif state(job.run) in ("finished", "failed") or self._is_elsewhere(folder):
            job.held.close()  # it has even ended meanwhile, or lives on without its runner
        elif changes := material_changes(job.run):
            job.held.close()
            self._fail(job, f"meanwhile its folder was used with another {changes[0][0]}: {changes[0][1]}\n")
        else:
            self._start(job)

    def _is_elsewhere(self, folder):
        return not self.executor.alone and is_claimed(folder)

    def _look_at_end(self, job, end):
        """A run has ended before its end: it has failed at its last try, and where its disk refuses at the first."""
        if end.lost or end.refused:
            job.tries, job.losses = job.tries - 1, job.losses + end.lost
            job.moves.append(end.said)
            if end.refused or job.losses < LOSSES:
                return
        lines = read_end(job.run.config.folder / CONSOLE_FILE, CONSOLE_BYTES).splitlines()
        said = f"({end})"
        said_so = (end.status or 0) > 0  # what a signal ended had no last word: the lines are of an earlier start
        if said_so and lines and lines[-1].endswith(DISK_REFUSED):
            said = f"({end}; it is not tried again before there is room for it to write)"
        elif job.tries < TRIES and not end.lost:
            return
        self._fail(job, "\n".join([*lines[-LAST_LINES:], said]) + "\n")

    def _fail(self, job, last_lines):
        job.state, job.last_lines = "failed", last_lines
        write_text(job.run.config.folder / FAILED_FILE, last_lines)

    def _let_go(self, job):
        job.seconds += time.monotonic() - job.began
        job.held.close()
        job.started, job.state = None, state(job.run)

    def _start(self, job):
        write_text(job.run.config.folder / CONFIG_FILE, job.run.config.to_yaml())
        job.tries, job.began, job.state = job.tries + 1, time.monotonic(), "running"
        job.started = self.executor.start(job.run)

    def _stop(self):
        running = [job for job in self.jobs if job.started is not None]
        self.executor.stop([job.started for job in running])
        for job in running:
            self._let_go(job)


@contextlib.contextmanager
def _signals_raise():
    """Within, SIGTERM, SIGHUP and Ctrl-C raise Stopped."""

    def stop(number, frame):
        # Now the runs are being stopped. A second signal has its usual effect, but for a hangup: a terminal that is
        # closed sends several.
        for each, handler in before.items():
            signal.signal(each, signal.SIG_IGN if each == hangup else handler)
        raise Stopped(number, "with its runs; the same command continues")

    hangup = getattr(signal, "SIGHUP", None)
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in [number for number, handler in before.items() if handler is signal.SIG_IGN]:
        del before[number]  # under nohup a hangup is not meant for us
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
