"""What becomes of BN's and BRN's running statistics where a step is cut into passes, or spread over devices."""

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import paddle
from paddle import nn

from data import Loader
from engine.train.ema import Ema
from models.norm import batch_norms
from ops import BatchRenorm


class RunningStatistics:
    """Makes the passes of one step update the running statistics once, as one pass with all workers would.

    Each pass starts from the statistics before the step; of what the passes give, the first or the mean is kept,
    as the model's norms do with workers. With one pass there is nothing to do. Over several devices those that take
    part in training, batch renormalisation's, become the same everywhere; the others can wait: see
    `share_running_statistics`.
    """

    def __init__(self, model: nn.Layer, passes: int):
        layers = batch_norms(model) if passes > 1 else []
        self.buffers = [vector for layer in layers for vector in _vectors(layer)]
        self.before = [buffer.clone() for buffer in self.buffers]
        self.kept = passes if _are_means(layers) else 1
        self.results = []
        several = paddle.distributed.get_world_size() > 1  # else a step does not look through the network for nothing
        self.trained_with = [one for one in batch_norms(model) if isinstance(one, BatchRenorm)] if several else []

    @contextlib.contextmanager
    def of_one_pass(self) -> Iterator[None]:
        """Around the forward pass."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            paddle.assign(before, buffer)
        yield
        if len(self.results) < self.kept:
            self.results.append([buffer.clone() for buffer in self.buffers])

    def settle(self) -> None:
        """After the last pass."""
        for buffer, values in zip(self.buffers, zip(*self.results, strict=True), strict=True):
            paddle.assign(sum(values) / len(values), buffer)
        _share([vector for layer in self.trained_with for vector in _vectors(layer)], _are_means(self.trained_with))


def share_running_statistics(model: nn.Layer, ema: Ema | None) -> None:
    """Several devices: before running statistics are used or saved, give all the same, the first device's or the mean.

    `ema`: the average of the model, where there is one.
    """
    shared = list(model.buffers())
    if ema:
        shared += [ema.average[name] for name, _ in model.named_buffers()]
    _share(shared, _are_means(batch_norms(model)))


def _share(buffers, are_means):
    devices = paddle.distributed.get_world_size()
    if devices == 1:
        return
    for buffer in buffers:
        if are_means:
            paddle.distributed.all_reduce(buffer)
            buffer.set_value(buffer / devices)
        else:
            paddle.distributed.broadcast(buffer, src=0)


@paddle.no_grad()
def make_precise(
    model: nn.Layer, ema: Ema | None, loader: Loader, epoch: int, *, images: int, images_per_pass: int,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Replace the running statistics by those of so many training images under the weights as they are.

    Wu & Johnson (arXiv:2105.07576, section 3): the mean of the batches' means, and the variance within batches and
    between them. A batch has `images_per_pass` images, or a few less: it shall stand for all images, whatever the
    number that shared statistics in training. `loader` is the training's. Over several devices every one gets the
    statistics of all.
    `look` is called before each batch and may end it by an exception of its own.
    """
    layers = batch_norms(model)
    if not layers:
        return
    dataset, ranks = loader.dataset, loader.ranks
    wanted = min(images, len(dataset))
    passes = math.ceil(wanted / (images_per_pass * ranks))
    loader = Loader(
        dataset, max(1, wanted // passes // ranks) * ranks, train=True, seed=loader.seed, rank=loader.rank, ranks=ranks,
        processes=loader.processes,
    )
    workers = {part: part.images_per_worker for part in model.sublayers() if hasattr(part, "images_per_worker")}
    for part in workers:  # norms, and what calls some of them for each worker
        part.images_per_worker = None
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # what is tracked is then the batch itself
    model.train()
    sums = 0.0
    with contextlib.closing(loader.epoch(epoch)) as batches:
        for _, batch in zip(range(passes), batches, strict=False):
            look()
            model({name: paddle.to_tensor(value) for name, value in batch.items()})
            mean, variance = (
                np.concatenate([vectors[n].numpy().astype(np.float64) for vectors in map(_vectors, layers)])
                for n in (0, 1)
            )
            sums = sums + np.stack([mean, variance + mean**2])
    for part, images_per_worker in workers.items():
        part.images_per_worker = images_per_worker
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    if ranks > 1:
        shared = paddle.to_tensor(sums)
        paddle.distributed.all_reduce(shared)
        sums = shared.numpy()
    mean, square = sums / (passes * ranks)
    start = 0
    for layer in layers:
        for vector, values in zip(_vectors(layer), (mean, square - mean**2), strict=True):
            vector.set_value(values[start : start + vector.size].astype("float32"))
        start += layer._mean.size
    if ema:  # which is what is saved for evaluation
        for name, buffer in model.named_buffers():
            ema.average[name].set_value(buffer)


def _are_means(layers):
    return any(layer.running_statistics == "mean" for layer in layers)


def _vectors(layer):
    return layer._mean, layer._variance
