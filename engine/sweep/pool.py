"""The runs of a sweep as processes of tools/train.py, some at a time, each on its own GPUs or CPU threads."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import paddle

from data.orphans import end_with_parent
from engine.environment import ROOT, cores, on_gpu
from engine.errors import DISK_REFUSED, InputError, Stopped
from engine.files import read_end, write_text
from engine.report.records import FAILED_FILE
from engine.run.folder import CONFIG_FILE
from engine.run.locks import hold, is_claimed
from engine.sweep.definition import Run, Sweep
from engine.sweep.folder import CONSOLE_FILE, material_changes, state

TRIES = 2
SECONDS_BETWEEN_LOOKS = 0.2
LAST_LINES = 12
CONSOLE_BYTES = 65536  # of what a run printed: more than its last lines
TRAIN = ROOT / "tools" / "train.py"


@dataclass(frozen=True)
class Slot:
    """What one run has to itself."""

    command: tuple  # what starts the script
    environment: dict


@dataclass
class Job:
    """One run, as this runner sees it."""

    run: Run
    state: str  # as engine.sweep.folder.state says, or: running, elsewhere (another process has it)
    tries: int = 0
    slot: Slot | None = None
    process: subprocess.Popen | None = None
    began: float = 0.0
    seconds: float = 0.0  # that its processes have taken
    held: object = None  # the lock that keeps other runners from it
    last_lines: str = ""  # where it has failed


def make_slots(sweep: Sweep, jobs: int | None, devices: list[str] | None) -> list[Slot]:
    """As many runs at a time as there are GPUs, or else cores; `jobs` says another number. Raises InputError.

    The cores are shared out evenly. As many runs as cores, with one thread each, get through a good deal faster than
    fewer with more threads.
    """
    each = sweep.section.devices_per_run
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: expected 1 or more")
    if devices is not None or on_gpu():
        return _gpu_slots(each, jobs, devices)
    jobs = jobs or max(1, cores() // each)
    threads = max(1, cores() // (jobs * each))
    command = _launcher(each, "--nproc_per_node", str(each))
    return [Slot(command, {"OMP_NUM_THREADS": str(threads)})] * jobs


def _gpu_slots(each, jobs, devices):
    if not on_gpu():
        raise InputError("--devices: this sweep's runs are on the CPU (device: cpu, or Paddle sees no GPU)")
    there = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(paddle.device.cuda.device_count())))
    there = [device.strip() for device in there.split(",")]
    devices = [device.strip() for device in devices or there]
    if len(set(devices)) < len(devices):
        raise InputError(f"--devices {','.join(devices)}: names one twice; several runs on a GPU are for --jobs")
    if strange := [device for device in devices if device not in there]:
        raise InputError(f"--devices {strange[0]}: Paddle sees {', '.join(there)}")
    if len(devices) < each:
        raise InputError(f"a run of this sweep takes {each} GPUs (sweep.devices_per_run), but there are {len(devices)}")
    groups = [devices[start : start + each] for start in range(0, len(devices) - each + 1, each)]
    visible = [",".join(groups[job % len(groups)]) for job in range(jobs or len(groups))]
    threads = str(max(1, cores() // (len(visible) * each)))
    return [
        Slot(_launcher(each), {"CUDA_VISIBLE_DEVICES": group, "OMP_NUM_THREADS": threads}) for group in visible
    ]


def _launcher(devices, *options):
    """What comes before the script. Where it is not told otherwise, Paddle's launcher takes all GPUs that it sees."""
    if devices == 1:
        return (sys.executable,)
    return (sys.executable, "-m", "paddle.distributed.launch", *options)


class Pool:
    """Runs jobs until none is left: `jobs` to look at, `done` for every one that comes to its end.

    A job is taken up where its folder says: finished ones are left alone, begun ones resume. One that another process
    trains is waited for. One that fails is tried once more, unless it was its disk, then it has failed, with its last
    lines in its folder.
    """

    def __init__(self, runs: list[Run], slots: list[Slot]):
        for run in runs:
            (run.config.folder / FAILED_FILE).unlink(missing_ok=True)  # another start is another chance
        self.jobs = [Job(run, state(run)) for run in runs]
        self.slots, self.free = slots, list(slots)
        self.started, self.began = datetime.now().astimezone().isoformat(), time.monotonic()

    def work(self, done: Callable[[Job], None], look: Callable[[], None]) -> None:
        """Blocks until every job is finished or failed; calls done(job) at each such end and look() all the time.

        At SIGTERM, SIGHUP or Ctrl-C the runs are stopped, which saves them, and Stopped is raised.
        """
        with _signals_raise():
            try:
                while left := [job for job in self.jobs if job.state not in ("finished", "failed")]:
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
            "processes": len(self.slots),
            "environment": self.slots[0].environment,
            "seconds_of_runs": round(sum(job.seconds for job in self.jobs), 1),
            "processor_seconds_of_runner": round(time.process_time(), 1),
        }

    def _attend(self, job):
        """Whatever there is to do for a job now."""
        folder = job.run.config.folder
        if job.process is not None:
            status = job.process.poll()
            if status is None:
                return
            self.free.append(job.slot)
            self._let_go(job)
            if job.state != "finished" and not is_claimed(folder):
                self._look_at_end(job, status)
            return
        if is_claimed(folder):
            job.state = "elsewhere"
            return
        job.state = state(job.run)
        if job.state == "failed":  # by another runner, just now
            job.last_lines = read_end(folder / FAILED_FILE, CONSOLE_BYTES)
        if job.state in ("finished", "failed") or not self.free:
            return
        folder.mkdir(parents=True, exist_ok=True)
        job.held = hold(folder / ".runner")
        if job.held is None:  # another runner has just started it
            job.state = "elsewhere"
        elif state(job.run) in ("finished", "failed") or is_claimed(folder):
            job.held.close()  # it has even ended meanwhile, or lives on without its runner
        elif changes := material_changes(job.run):
            job.held.close()
            self._fail(job, f"meanwhile its folder was used with another {changes[0][0]}: {changes[0][1]}\n")
        else:
            self._start(job)

    def _look_at_end(self, job, status):
        """A run has ended before its end: it has failed at its last try, and where its disk refuses at the first."""
        lines = read_end(job.run.config.folder / CONSOLE_FILE, CONSOLE_BYTES).splitlines()
        said = f"(it ended with status {status})"
        if lines and lines[-1].endswith(DISK_REFUSED):
            said = f"(it ended with status {status}; it is not tried again before there is room for it to write)"
        elif job.tries < TRIES:
            return
        self._fail(job, "\n".join([*lines[-LAST_LINES:], said]) + "\n")

    def _fail(self, job, last_lines):
        job.state, job.last_lines = "failed", last_lines
        write_text(job.run.config.folder / FAILED_FILE, last_lines)

    def _let_go(self, job):
        job.seconds += time.monotonic() - job.began
        job.held.close()
        job.process, job.state = None, state(job.run)

    def _start(self, job):
        folder = job.run.config.folder
        write_text(folder / CONFIG_FILE, job.run.config.to_yaml())
        job.slot, job.tries, job.began, job.state = self.free.pop(0), job.tries + 1, time.monotonic(), "running"
        command = [*job.slot.command, TRAIN, "-c", folder / "config.yaml", "-r", "auto"]
        if "paddle.distributed.launch" in command:
            command[3:3] = ["--log_dir", folder / "launch"]
        with open(folder / CONSOLE_FILE, "ab") as console:
            job.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                env={**os.environ, **job.slot.environment},
                start_new_session=True,  # Ctrl-C is for the runner, which then stops its runs
                preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),  # at which it saves
            )

    def _stop(self):
        running = [job for job in self.jobs if job.process is not None]
        for job in running:
            with contextlib.suppress(ProcessLookupError):
                job.process.send_signal(signal.SIGTERM)
        for job in running:
            job.process.wait()
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
