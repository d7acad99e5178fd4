"""Running statistics of batch norm in a head that is called for one worker after another."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import paddle
from paddle import nn

from models.norm import batch_norms

VECTORS = "_mean", "_variance"


class HasLayers(Protocol):
    """A layer, or what runs one that it does not own."""

    def sublayers(self) -> list[nn.Layer]: ...


class StatisticsOfWorkers:
    """Lets them move once a pass, as `ops.BatchNorm` does where all workers come in one tensor: each starts from what
    was there before, and the first one's are kept, or the mean of all, as the norm says."""

    def __init__(self, head: HasLayers):
        self.places = [(layer, name) for layer in batch_norms(head) for name in VECTORS]
        self.buffers = [getattr(*place) for place in self.places]
        self.workers = []

    @contextlib.contextmanager
    def of_one(self) -> Iterator[None]:
        """Around the call for one worker, or around nothing where it has no RoIs."""
        own = [buffer.clone() for buffer in self.buffers]  # not one for all: the backward pass still wants each
        self._put(own)
        yield
        self._put(self.buffers)
        self.workers.append(own)

    def settle(self) -> None:
        """After the last worker."""
        for (layer, _), buffer, *workers in zip(self.places, self.buffers, *self.workers, strict=True):
            kept = workers if layer.running_statistics == "mean" else workers[:1]
            paddle.assign(sum(kept) / len(kept), buffer)

    def _put(self, vectors):
        for place, vector in zip(self.places, vectors, strict=True):
            setattr(*place, vector)
