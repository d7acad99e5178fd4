"""The runs of a sweep as processes of this machine, each on its own GPUs or CPU threads."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import paddle

from data.orphans import end_with_parent
from engine.environment import ROOT, cores, on_gpu
from engine.errors import InputError
from engine.files import ordinary
from engine.sweep.definition import Run, Sweep
from engine.sweep.folder import CONSOLE_FILE
from engine.sweep.pool import End

TRAIN = ROOT / "tools" / "train.py"


@dataclass(frozen=True)
class Slot:
    """What one run has to itself."""

    command: tuple  # what starts the script
    environment: dict


def make_slots(sweep: Sweep, jobs: int | None, devices: list[str] | None) -> list[Slot]:
    """As many runs at a time as there are GPUs, or else cores; `jobs`, if any, says another number. Raises InputError.

    The cores are shared out evenly. As many runs as cores, with one thread each, get through a good deal faster than
    fewer with more threads. More than there are runs only make the threads fewer.
    """
    each = sweep.section.devices_per_run
    if devices is not None or on_gpu():
        return _gpu_slots(each, jobs, devices, len(sweep.runs))
    jobs = jobs or max(1, cores() // each)
    threads = max(1, cores() // (jobs * each))
    command = _launcher(each, "--nproc_per_node", str(each))
    return [Slot(command, {"OMP_NUM_THREADS": str(threads)})] * min(jobs, len(sweep.runs))


def _gpu_slots(each, jobs, devices, most):
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
    jobs = jobs or len(groups)
    visible = [",".join(groups[job % len(groups)]) for job in range(min(jobs, most))]
    threads = str(max(1, cores() // (jobs * each)))
    return [
        Slot(_launcher(each), {"CUDA_VISIBLE_DEVICES": group, "OMP_NUM_THREADS": threads}) for group in visible
    ]


def _launcher(devices, *options):
    """What comes before the script. Where it is not told otherwise, Paddle's launcher takes all GPUs that it sees."""
    if devices == 1:
        return (sys.executable,)
    return (sys.executable, "-m", "paddle.distributed.launch", *options)


@dataclass(frozen=True)
class Child:
    """A run that goes on."""

    slot: Slot
    process: subprocess.Popen


class Processes:
    """An `engine.sweep.pool.Executor`: a process of tools/train.py for each run, or of a launcher of several."""

    alone = False

    def __init__(self, slots: list[Slot]):
        self.free, self.places, self.environment = list(slots), len(slots), slots[0].environment

    def entered(self, sweep: Sweep) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()  # several may share a sweep's folder, and each run has its locks

    def look(self, waiting: int) -> None:
        """There is the room that there is."""

    def has_room(self) -> bool:
        return bool(self.free)

    def start(self, run: Run) -> Child:
        folder, slot = run.config.folder, self.free.pop(0)
        command = [*slot.command, TRAIN, "-c", folder / "config.yaml", "-r", "auto"]
        if "paddle.distributed.launch" in command:
            command[3:3] = ["--log_dir", folder / "launch"]
        with open(folder / CONSOLE_FILE, "ab", opener=ordinary) as console:
            return Child(slot, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                env={**os.environ, **slot.environment},
                start_new_session=True,  # Ctrl-C is for the runner, which then stops its runs
                preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),  # at which it saves
            ))

    def poll(self, child: Child) -> End | None:
        status = child.process.poll()
        if status is None:
            return None
        self.free.append(child.slot)
        return End(status)

    def stop(self, children: list[Child]) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        for child in children:
            child.process.wait()
            self.poll(child)
