"""The C++ kernels of ops/csrc for CPUs: built once for this machine, then loaded.

They are compiled at first use into a folder of the user's cache ($XDG_CACHE_HOME, else ~/.cache), named by all that
they depend on: sources, flags, compiler, processor and the installed Paddle. Of processes that start together one
builds and the others wait. A library that is not as it was built, or that another user could have changed, is built
anew. Where it is impossible (no compiler, a Paddle without MKL) one line says why, and Paddle's kernels serve; a build
that failed is tried again after an hour. NATIVE_OPS=0 in the environment does without the kernels, NATIVE_OPS=1 makes
it an error to do without.
"""

import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import paddle
from paddle.base import core
from paddle.utils import cpp_extension

SOURCES = Path(__file__).resolve().parent / "csrc"
LIBRARY = "native_ops"
DIGEST, FAILURE = f"{LIBRARY}.sha256", "failure.txt"  # beside it; what a build said that failed
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-fwrapv", "-w", "-shared", "-fPIC", "-DNDEBUG"]
FLAGS += ["-DPADDLE_WITH_CUSTOM_KERNEL", f"-DPADDLE_EXTENSION_NAME={LIBRARY}", "-D_GLIBCXX_USE_CXX11_ABI=1"]  # Paddle's
# The BLAS that Paddle loads, and that BLAS's own threads: a second pool of threads beside it would fight for the cores.
LIBRARIES = ["libmklml_intel.so", "libiomp5.so"]
RETRY_SECONDS = 3600


class NativeError(RuntimeError):
    """Why there are no kernels, in one line. Leaves this file only where NATIVE_OPS asks for them."""


def available() -> bool:
    """Whether the kernels serve tensors on the CPU; builds them at the first call."""
    return bool(paddle.in_dynamic_mode() and _loaded())


def run(name: str, *arguments: object) -> paddle.Tensor:
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
        message = "warning: norms, DCN and convolutions run on Paddle's slower CPU kernels: %s"
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
        with (folder.parent / f"{folder.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_sound(folder) and not _failed_lately(folder):
                _build(folder, compiler)
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror}; XDG_CACHE_HOME can name another folder"
        raise NativeError(reason) from None
    if (failure := folder / FAILURE).exists():
        reason = _reason(failure.read_text(encoding="utf-8", errors="replace"))
        raise NativeError(f"they could not be built: {reason}; see {failure}, remove its folder to try again at once")
    return folder / f"{LIBRARY}.so"


def _is_sound(folder):
    """Whether the library is there as it was built, and nobody else could have put another in its place."""
    library, digest = folder / f"{LIBRARY}.so", folder / DIGEST
    try:
        ours = _is_ours(folder) and _is_ours(library) and stat.S_ISREG(library.lstat().st_mode)
        return ours and hashlib.sha256(library.read_bytes()).hexdigest() == digest.read_text(encoding="ascii")
    except (OSError, UnicodeError):
        return False


def _is_ours(path):
    status = path.lstat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _failed_lately(folder):
    try:
        return 0 <= time.time() - (folder / FAILURE).stat().st_mtime < RETRY_SECONDS
    except OSError:
        return False


def _reason(log):
    """The line of a build's output that says what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["the compiler said nothing"]
    line = next((line for line in lines if "error:" in line.lower()), lines[-1])
    return ascii(line)[1:-1][:200]


def _load(library):
    folder = os.open(library.parent, os.O_RDONLY)
    try:  # by a name that Paddle's loader, which splits paths at a semicolon, leaves whole
        cpp_extension.load_op_meta_info_and_register_op(f"/proc/self/fd/{folder}/{library.name}")
    except (RuntimeError, ValueError, OSError):  # a file system that lets nothing be executed, for one
        raise NativeError(f"{library} cannot be loaded; XDG_CACHE_HOME can name another folder") from None
    finally:
        os.close(folder)


def _command(compiler, library):
    """The compiler's arguments. cpp_extension.load would hand them to a shell, which no path with a space survives."""
    include, places = paddle.sysconfig.get_include(), (paddle.sysconfig.get_lib(), Path(core.__file__).parent)
    return [
        compiler, *FLAGS, *(f"-I{path}" for path in (include, f"{include}/third_party", sysconfig.get_path("include"))),
        SOURCES / "bindings.cc", "-o", library, *(f"-L{path}" for path in places),
        *(f"-Wl,-rpath,{path}" for path in places), *(f"-l:{name}" for name in LIBRARIES),
        "-Wl,--no-as-needed", "-l:libpaddle.so",
    ]


def _build(folder, compiler):
    """Make `folder` anew, with the library and its digest or with failure.txt in it."""
    print("Building the CPU kernels of ops/csrc, once, in some half a minute …", file=sys.stderr, flush=True)
    made = Path(tempfile.mkdtemp(prefix="build-", dir=folder.parent))
    before = Path(f"{made}-before")  # what lay at `folder`
    try:
        library = made / f"{LIBRARY}.so"
        done = subprocess.run(
            _command(compiler, library), cwd=made, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        log = done.stdout
        if done.returncode == 0 and library.exists():
            library.chmod(0o700)
            (made / DIGEST).write_text(hashlib.sha256(library.read_bytes()).hexdigest(), encoding="ascii")
            log = f"error: what lies in {folder.parent} can be changed by other users"  # unless it is sound
        if not _is_sound(made):
            (made / FAILURE).write_text(log, encoding="utf-8")
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            folder.rename(before)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def cache_folder() -> Path:
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
