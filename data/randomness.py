"""Random numbers as functions of (purpose, seed, epoch, index), and the process's own random state left alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# The purpose leads every seed, so that the order and the augmentation of one epoch never share a stream. It must not
# be zero and must not trail: NumPy's SeedSequence pads with zeros, so (7, 0) and (7,) are the same seed.
ORDER, AUGMENTATION, SYNTHETIC, FIXED_GEOMETRY, COMPOSITION, BACKDROP = 1, 2, 3, 4, 5, 6
SCENE, SAMPLING = 7, 8


def generator(purpose: int, *numbers: int) -> np.random.Generator:
    """A NumPy generator that depends on its arguments alone; all are integers >= 0."""
    return np.random.default_rng((purpose, *numbers))


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Put the state of `random` and `np.random` back afterwards, whatever the block draws or seeds."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def global_state_seeded(purpose: int, *numbers: int) -> Iterator[None]:
    """Inside the block `random` and `np.random` depend on the arguments alone; afterwards they are as before.

    paddle.vision.transforms draws from these two globals and takes no generator.
    """
    with global_state_kept():
        words = np.random.SeedSequence((purpose, *numbers)).generate_state(4)
        random.seed(int.from_bytes(words.astype("<u4").tobytes(), "little"))
        np.random.seed(words)
        yield
