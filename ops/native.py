"""The C++ kernels of ops/csrc for CPUs: built once for this machine, then loaded.

They are compiled at first use into a folder of the user's cache ($XDG_CACHE_HOME, else ~/.cache), named by all that
they depend on: sources, flags, compiler, processor and the installed Paddle. Of processes that start together one
builds and the others wait. Where it is impossible (no compiler, a Paddle without MKL) one line says why, and Paddle's
kernels serve. NATIVE_OPS=0 in the environment does without them, NATIVE_OPS=1 makes it an error to do without.
"""

import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import paddle
from paddle.base import core
from paddle.utils import cpp_extension

SOURCES = Path(__file__).resolve().parent / "csrc"
LIBRARY = "native_ops"
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp"]
# The BLAS that Paddle loads, and that BLAS's own threads: a second pool of threads beside it would fight for the cores.
LIBRARIES = ["libmklml_intel.so", "libiomp5.so"]
BUILD = """
import sys
from paddle.utils import cpp_extension
name, source, folder, flags, libraries = sys.argv[1:]
cpp_extension.load(name, [source], flags.split(), extra_ldflags=libraries.split(), build_directory=folder, verbose=True)
"""


class NativeError(RuntimeError):
    """Why there are no kernels, in one line. Leaves this file only where NATIVE_OPS asks for them."""


def available():
    """Whether the kernels serve tensors on the CPU; builds them at the first call."""
    return bool(paddle.in_dynamic_mode() and _loaded())


def run(name, *arguments):
    """Call the operator native_`name` on CPU tensors and lists of them; returns its first output."""
    tensors = [value for value in arguments if isinstance(value, paddle.Tensor)]
    if not all(value.place.is_cpu_place() for value in tensors):
        raise ValueError(f"implementation 'native': {name} serves tensors on a CPU only")
    if not paddle.is_grad_enabled():  # which Paddle 3 does not ask before it records a custom operator
        arguments = [_detached(value) for value in arguments]
    outputs = core.eager._run_custom_op(f"native_{name}", *arguments)  # what the modules call that Paddle generates
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def _detached(value):
    if isinstance(value, list):
        return [_detached(one) for one in value]
    return value.detach() if isinstance(value, paddle.Tensor) else value


@functools.cache
def _loaded():
    wanted = os.environ.get("NATIVE_OPS", "")
    if wanted not in ("", "0", "1"):
        raise NativeError(f"NATIVE_OPS={wanted}: expected 0, 1 or nothing")
    if wanted == "0":
        return False
    try:
        _load(_library())
        return True
    except NativeError as error:
        if wanted:
            raise NativeError(f"NATIVE_OPS={wanted}: {error}") from None
        message = "warning: GN, BN, DCN and convolutions run on Paddle's slower CPU kernels: %s"
        logging.getLogger(__name__).warning(message, error)
        return False


def _library():
    """The path of the built library."""
    if not sys.platform.startswith("linux"):
        raise NativeError("they are built on Linux only")
    import fcntl

    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        raise NativeError("no C++ compiler was found (on Debian and Ubuntu: apt-get install g++)")
    libraries = Path(paddle.sysconfig.get_lib())
    missing = [name for name in LIBRARIES if not (libraries / name).exists()]
    if missing:
        raise NativeError(f"this Paddle brings no {' and no '.join(missing)}")
    folder = cache_folder()
    try:
        folder = folder / _key(compiler)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _build(folder)
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror}; XDG_CACHE_HOME can name another folder"
        raise NativeError(reason) from None
    library, failure = folder / LIBRARY / f"{LIBRARY}.so", folder / "failure.txt"
    if failure.exists():
        raise NativeError(f"they could not be built, see {failure}; remove its folder to try again")
    return library


def _load(library):
    try:
        cpp_extension.load_op_meta_info_and_register_op(str(library))
    except (RuntimeError, ValueError, OSError):  # a file system that lets nothing be executed, for one
        raise NativeError(f"{library} cannot be loaded; XDG_CACHE_HOME can name another folder") from None


def _build(folder):
    """Make `folder`, with the library or with failure.txt in it: what exists is finished."""
    print("Building the CPU kernels of ops/csrc, once, in some 15 seconds …", file=sys.stderr, flush=True)
    made = Path(tempfile.mkdtemp(prefix="build-", dir=folder.parent))
    try:
        libraries = " ".join(f"-l:{name}" for name in LIBRARIES)
        arguments = [LIBRARY, SOURCES / "bindings.cc", made, " ".join(FLAGS), libraries]
        # Not one of the processes of a distributed run, and not under its limits.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PADDLE_", "FLAGS_"))}
        done = subprocess.run(
            [sys.executable, "-c", BUILD, *map(str, arguments)], env=kept, cwd=made, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        if done.returncode != 0 or not (made / LIBRARY / f"{LIBRARY}.so").exists():
            (made / "failure.txt").write_text(done.stdout)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def cache_folder():
    """The project's folder in the user's cache: $XDG_CACHE_HOME, else ~/.cache. Raises NativeError without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddle-gn-dcn"
    except RuntimeError:  # a user whom the system does not know, as in some containers
        raise NativeError("there is no home folder; XDG_CACHE_HOME can name one") from None


def _key(compiler):
    """All that the library depends on, as a short name."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    parts = [version, *FLAGS, *LIBRARIES, _processor(), sys.version, paddle.__version__, paddle.__file__]
    parts += [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sorted(SOURCES.glob("*.[ch]*"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor():
    """Name and instruction sets of the processor, which -march=native compiles for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags")))
