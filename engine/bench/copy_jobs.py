"""The floor under a norm: how fast this machine copies tensors. Runs in a child, see engine/bench/child.py."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine.bench.child import Job

THREADS = int(os.environ["OMP_NUM_THREADS"])
POOL = ThreadPoolExecutor(THREADS)


def describe() -> dict[str, str]:
    return {}


def numbers(output: Sequence, gradients: Sequence) -> list[float]:
    return []


def copy(shape: Sequence[int]) -> Job:
    """One call reads two tensors and writes two, as x, y, dy and dx of a norm: caches help as little or as much.

    Each thread keeps to its part, many calls long, so that starting threads costs next to nothing.
    """
    size = int(np.prod(shape))
    tensors = np.ones([4, size], np.float32)
    parts = [slice(size * thread // THREADS, size * (thread + 1) // THREADS) for thread in range(THREADS)]
    calls = max(1, int(1e8 / (16 * size)))

    def work(part):
        x, y, dy, dx = (tensor[part] for tensor in tensors)
        for _ in range(calls):
            np.copyto(y, x)
            np.copyto(dx, dy)

    return Job(lambda: list(POOL.map(work, parts)), lambda output: [], calls)


JOBS = {"copy": copy}
