"""Whatever a stranger hands to a command ends in one line and status 2, soon, in little memory, and harms nothing."""

import hashlib
import importlib
import os
import re
import signal
import stat
import time
from pathlib import Path

import pytest

from engine.run import locks
from ops import native

KINDS = (
    "configs", "lists", "pictures", "archives", "annotations", "videos", "weights", "runs", "sweeps", "reports",
)
CASES = {
    f"{kind}: {name}": case for kind in KINDS
    for name, case in importlib.import_module(f"hostile.{kind}").CASES.items()
}
SECONDS, MEGABYTES = 2, 300  # of the processor; a case that waits is told by the clock
PATIENCE = 60


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line(name, tmp_path, run_here, monkeypatch):
    make, said = CASES[name]
    native.available()  # before the cache moves, and with it what is built
    given = tmp_path / "given"
    given.mkdir()
    monkeypatch.chdir(given)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tool, *arguments = make(given)
    before, memory, began = everything(tmp_path), peak_megabytes(), time.process_time()
    done = patiently(run_here, tool, *arguments)
    seconds, memory = time.process_time() - began, peak_megabytes(memory)
    told = re.sub(r"\A(Unpacking [^\n]+\n|(TIFF\w+: [^\n]+\n)+)", "", done.stderr)  # nothing silences libtiff
    assert done.returncode == 2 and re.fullmatch(r"error: [^\n]+\n", told), (done.returncode, done.stderr)
    assert told[:-1].isprintable() and len(told) < 2100
    assert re.search(said, told), told
    assert changed(before, everything(tmp_path)) == []
    assert seconds < SECONDS and memory < MEGABYTES, f"{seconds:.1f} seconds, {memory} MB"


def patiently(run, *command):
    """Run it, unless it waits for ever; let go of what it has locked."""

    def give_up(number, frame):
        raise AssertionError(f"waits, after {PATIENCE} seconds still")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        return run(*command)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        while locks._claimed:
            locks._claimed.popitem()[1].close()


def everything(folder):
    """What lies below a folder: kind, mode and content of each thing."""
    found = {}
    for path in (Path(parent, name) for parent, *names in os.walk(folder) for name in sum(names, [])):
        status = path.lstat()
        content = status.st_size
        if stat.S_ISREG(status.st_mode) and status.st_size < 10**8:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink():
            content = os.readlink(path)
        found[str(path.relative_to(folder))] = None if path.is_dir() else (status.st_mode, content)
    return found


def changed(before, after):
    """What came, went or changed, but for folders and locks in the cache."""
    names = [name for name in before.keys() | after.keys() if before.get(name, "none") != after.get(name, "none")]
    return sorted(
        name for name in names
        if not (name.startswith("cache") and (after.get(name) is None or name.endswith(".lock")))
    )


def peak_megabytes(less=0):
    """The most memory that this process has had since the last call, beyond `less`; 0 where Linux does not tell."""
    try:
        peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    now = int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10
    return peak - less if less else now
