"""Both ends of the pipe between tools/bench.py and the processes that it times.

Each contender lives in a process that suits it: two frameworks in one would bring two OpenMP runtimes, and settings
that are made before Paddle is imported cannot be had both ways. A request and its answer are a line of JSON each.

This file knows no framework, and runs in a child without `engine.environment` where a contender wants Paddle bare.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# What the project sets by itself, in the environment or past it.
SETTINGS = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
# The same allocator for who cannot import engine.environment: freed memory is kept.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
# Freed memory goes back at once, so that the resident set is what lives.
RETURN_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
SETTLE = 0.25  # seconds; OpenMP's idle threads spin for 0.2 before they sleep, and would disturb who comes next

CODE = """
import sys, types
root, settings, backend = sys.argv[1:]
sys.path[0] = root
if settings == "bare":  # the package without engine/__init__.py, which makes the project's settings
    sys.modules["engine"] = types.ModuleType("engine")
    sys.modules["engine"].__path__ = [root + "/engine"]
from engine.bench.child import serve
serve(backend)
"""


class Job(NamedTuple):
    """What is timed: forward() -> output, backward(output) -> gradients; `calls` of it happen in one forward()."""

    forward: Callable
    backward: Callable
    calls: int = 1


class ChildError(Exception):
    """What went wrong in a child, in one line."""


class Child:
    """A process that serves the jobs of engine/bench/`backend`_jobs.py; `settings` are the project's or bare."""

    def __init__(self, backend: str, *, settings: Literal["project", "bare"] = "project", **environment: str):
        kept = {name: value for name, value in os.environ.items() if settings == "project" or name not in SETTINGS}
        self._words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(ROOT), settings, backend], env={**kept, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words,
        )

    def ask(self, request: str, **arguments: object) -> Any:
        """The child's answer. Raises ChildError where the request fails or the child has ended."""
        try:
            self._process.stdin.write(json.dumps([request, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._words.seek(0)
            raise ChildError((self._words.read().strip().splitlines() or ["it ended without a word"])[-1])
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def race(racers: Sequence[tuple[Child, str]], rounds: int, seconds: float) -> list[list[dict]]:
    """Time (child, job's name) pairs in turn, so that a machine's drift meets all alike.

    Returns the blocks of each; a block is as many calls as fit into `seconds`.
    """
    blocks, last = [[] for _ in racers], None
    for _ in range(rounds):
        for index, (child, name) in enumerate(racers):
            if child is not last:
                time.sleep(SETTLE)
            blocks[index].append(child.ask("time", name=name, seconds=seconds))
            last = child
    return blocks


def summary(blocks: Sequence[Mapping]) -> dict[str, Any]:
    """Median ms forward and forward + backward, the quartiles of the latter, and how disturbed they were."""
    samples = 1000 * np.array([sample for block in blocks for sample in block["samples"]])
    forward, both = np.median(samples, axis=0).tolist()
    quartiles = np.percentile(samples[:, 1], [25, 75]).tolist()
    medians = {"forward_ms": forward, "forward_backward_ms": both}
    return {**medians, "quartiles_ms": quartiles, "samples": len(samples), "others_cores": others(blocks)}


def others(blocks: Sequence[Mapping]) -> float | None:
    """How many cores other programs used during the blocks; None where that cannot be told."""
    seconds = sum(block["seconds"] for block in blocks)
    known = seconds > 0.5 and all(block["others"] is not None for block in blocks)  # the system counts in hundredths
    return max(0.0, sum(block["others"] for block in blocks) / seconds) if known else None


def serve(backend: str) -> None:
    """The child: read requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    server = None
    for line in sys.stdin:
        request, arguments = json.loads(line)
        try:
            server = server or _Server(importlib.import_module(f"engine.bench.{backend}_jobs"))
            answer = {"answer": getattr(server, request)(**arguments)}
        except Exception as error:
            print(f"{request} {arguments}: {error!r}", file=sys.stderr)
            first = (str(error).strip() or "no word").splitlines()[0]
            answer = {"error": f"{type(error).__name__}: {first}"}
        answers.write(json.dumps(answer) + "\n")


class _Server:
    def __init__(self, module):
        self.module, self.jobs, self.guess = module, {}, {}

    def hello(self):
        """Versions and whatever else a result depends on."""
        return self.module.describe()

    def prepare(self, name, op, warm=True, **arguments):
        """Make a job and, where `warm`, do it twice; returns its numbers, by which contenders are compared."""
        job = self.jobs[name] = self.module.JOBS[op](**arguments)
        if not warm:
            return None
        output = job.forward()
        numbers = self.module.numbers(output, job.backward(output))
        del output
        self.guess[name] = self._once(job)[1]  # seconds
        return numbers

    def time(self, name, seconds):
        """A block: (forward, forward + backward) seconds of each call, and what others computed meanwhile."""
        job, guess = self.jobs[name], max(self.guess[name], 1e-6)
        if guess < seconds:
            self._once(job)  # wakes the threads
        others, start = _others(), time.perf_counter()
        samples = [self._once(job) for _ in range(max(1, min(500, int(seconds / guess))))]
        return {
            "samples": [[value / job.calls for value in sample] for sample in samples],
            "seconds": time.perf_counter() - start,
            "others": None if others is None else _others() - others,
        }

    def forget(self, name):
        self.jobs.pop(name, None)

    def peak(self, name):
        """Bytes that one forward + backward adds at most to the resident set, results included."""
        job = self.jobs[name]
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = _status("VmRSS")
        output = job.forward()
        gradients = job.backward(output)
        most = _status("VmHWM") - before
        del output, gradients
        return most

    def peak_of_process(self):
        """Bytes that were resident at most so far; None where Linux does not tell."""
        return _status("VmHWM") if Path("/proc/self/status").exists() else None

    @staticmethod
    def _once(job):
        start = time.perf_counter()
        output = job.forward()
        middle = time.perf_counter()
        gradients = job.backward(output)
        end = time.perf_counter()
        del output, gradients
        return middle - start, end - start


def _others():
    """Processor seconds of all programs but this one since the machine started; None where Linux does not tell."""
    try:
        user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    except OSError:
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:2])


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
