"""What surrounds a run: threads, allocator, devices, and their record. Imported before Paddle.

On a CPU Paddle uses one thread unless OMP_NUM_THREADS is set before it is imported. glibc gives every large buffer
back to the system after each op, only for the next op to ask for it again: keeping them makes a training step
markedly faster. And the MKL inside Paddle takes its slowest code on processors that are not Intel's unless it is
told what they can do: convolutions are 2 to 10 times faster for it. All three give way to the user's own
environment variables.
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path


def cores() -> int:
    """How many cores this process may use; a container may be given less time than the cores that it sees."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    groups = Path("/sys/fs/cgroup")
    try:
        if (groups / "cpu.max").exists():
            quota, period = (groups / "cpu.max").read_text().split()
        else:
            quota, period = ((groups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(1, min(seen, round(int(quota) / int(period)))) if int(quota) > 0 else seen
    except (OSError, ValueError):  # no such limit
        return seen


def _use_all_cores():
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM", 1))  # set by paddle.distributed.launch
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))


def _keep_freed_memory():
    """Returns what was done, in words."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return "as MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ say"
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return "as the system does: this is not glibc"
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_threshold, 2**30)
    return "kept"


def _name_instructions_to_mkl():
    cpu = _cpuinfo()
    if cpu.get("vendor_id", "GenuineIntel") == "GenuineIntel":
        return
    flags = cpu.get("flags", "").split()
    if "avx512f" in flags:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "7")
    elif "avx2" in flags:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def _cpuinfo():
    """What Linux says of the first processor; {} elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _keep_sigterm():
    """Take SIGTERM back from Paddle, whose handler allocates memory: amid an allocation it would wait for ever."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


_use_all_cores()
_name_instructions_to_mkl()
_freed_memory = _keep_freed_memory()

# Before Paddle: 2.6.2 brings an old zlib into sight, and a Pillow that is imported later calls it and crashes.
import PIL.Image  # noqa: E402, F401

_threads = os.environ.pop("OMP_NUM_THREADS")
os.putenv("OMP_NUM_THREADS", _threads)  # the libraries see it; Paddle does not, and so does not comment on it
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="No ccache found")
    import paddle
os.environ["OMP_NUM_THREADS"] = _threads
_keep_sigterm()
warnings.filterwarnings("ignore", message="IProgress not found")  # without ipywidgets a notebook's bar is of letters

from data.orphans import end_with_parent  # noqa: E402
from engine.errors import InputError  # noqa: E402
from ops import native  # noqa: E402
from ops.conv2d import onednn  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def start(device: str = "auto", deterministic: bool = False) -> tuple[int, int]:
    """Choose the device and join the other processes of `paddle.distributed.launch`. Returns (rank, ranks).

    device "auto" is a GPU where Paddle sees one. Raises InputError where a GPU is asked for and there is none, and
    ops.native.NativeError where NATIVE_OPS asks for kernels that there are none of.
    """
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if device == "gpu" and not gpus:
        raise InputError("device: gpu was asked for, but Paddle sees none; use -o device=cpu")
    use_gpu = gpus > 0 and device != "cpu"
    if int(os.environ.get("PADDLE_TRAINERS_NUM", 1)) > 1:
        end_with_parent(os.getppid(), signal.SIGTERM)  # a launcher that is killed leaves nobody training
        paddle.distributed.init_parallel_env()
        if not use_gpu:
            paddle.set_device("cpu")
    else:
        paddle.set_device("gpu" if use_gpu else "cpu")
    if not use_gpu:
        onednn()  # builds the kernels and finds the library, or says why not, before any work
    if use_gpu and deterministic:
        paddle.set_flags({"FLAGS_cudnn_deterministic": True})
    return paddle.distributed.get_rank(), paddle.distributed.get_world_size()


def is_watched() -> bool:
    """Whether somebody can see a progress bar: in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def on_gpu() -> bool:
    return paddle.get_device().startswith("gpu")


def describe() -> dict:
    """JSON-able facts that a result depends on: versions, device, threads, commit, command."""
    import numpy
    import visualdl

    processor = _cpuinfo().get("model name", platform.machine())
    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        "numpy": numpy.__version__,
        "visualdl": visualdl.__version__,
        "system": platform.platform(),
        "device": paddle.get_device(),
        "device_name": paddle.device.cuda.get_device_name() if on_gpu() else processor,
        "devices": paddle.distributed.get_world_size(),
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "MKL_DEBUG_CPU_TYPE": os.environ.get("MKL_DEBUG_CPU_TYPE"),
        "freed_memory": _freed_memory,
        "cpu_kernels": None if on_gpu() else "ours" if native.available() else "Paddle's",
        "cpu_convolutions": None if on_gpu() else onednn() or "Paddle's",
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _commit():
    """The commit of the code, with `+` where files differ from it; None outside git."""

    def git(*arguments):
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
