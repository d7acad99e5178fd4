"""What becomes of BN's running statistics where a step is cut into passes, or spread over devices."""

import contextlib
import math
from collections.abc import Callable

import numpy as np
import paddle

from data import Loader
from ops import BatchNorm


class RunningStatistics:
    """Makes the passes of one step update the running statistics once, as one pass with all workers would.

    Each pass starts from the statistics before the step; of what the passes give, the first or the mean is kept,
    as `model.bn_running_statistics` says of workers. With one pass there is nothing to do.
    """

    def __init__(self, model, config, passes):
        several = passes > 1
        self.buffers = [vector for layer in _batch_norms(model) for vector in _vectors(layer)] if several else []
        self.before = [buffer.clone() for buffer in self.buffers]
        self.kept = passes if config.model.bn_running_statistics == "mean" else 1
        self.results = []

    @contextlib.contextmanager
    def of_one_pass(self):
        for buffer, before in zip(self.buffers, self.before, strict=True):
            paddle.assign(before, buffer)
        yield
        if len(self.results) < self.kept:
            self.results.append([buffer.clone() for buffer in self.buffers])

    def settle(self):
        for buffer, values in zip(self.buffers, zip(*self.results, strict=True), strict=True):
            paddle.assign(sum(values) / len(values), buffer)


def share_running_statistics(learner, config):
    """Several devices: before running statistics are used or saved, give all the ones that the config calls for."""
    devices = paddle.distributed.get_world_size()
    if devices == 1:
        return
    shared = list(learner.model.buffers())
    if learner.ema:
        shared += [learner.ema.average[name] for name, _ in learner.model.named_buffers()]
    for buffer in shared:
        if config.model.bn_running_statistics == "mean":
            paddle.distributed.all_reduce(buffer)
            buffer.set_value(buffer / devices)
        else:
            paddle.distributed.broadcast(buffer, src=0)


@paddle.no_grad()
def make_precise(learner, train_loader, config, epoch, look: Callable[[], None] = lambda: None):
    """Replace the running statistics by those of `bn_precise_images` training images under the weights as they are.

    Wu & Johnson (arXiv:2105.07576, section 3): the mean of the batches' means, and the variance within batches and
    between them. A batch has as many images as one of evaluation, or a few less: it shall stand for all images,
    whatever the number that shared statistics in training. Over several devices every one gets the statistics of all.
    `look` is called before each batch and may end it by an exception of its own.
    """
    layers = list(_batch_norms(learner.model))
    if not layers:
        return
    dataset, ranks = train_loader.dataset, train_loader.ranks
    wanted = min(config.bn_precise_images, len(dataset))
    passes = math.ceil(wanted / (config.reading.evaluation_images * ranks))
    images = max(1, wanted // passes // ranks) * ranks
    loader = Loader(
        dataset, images, train=True, seed=config.seed, rank=train_loader.rank, ranks=ranks,
        processes=train_loader.processes,
    )
    settings = [(layer.momentum, layer.images_per_worker) for layer in layers]
    for layer in layers:
        layer.momentum, layer.images_per_worker = 0.0, None  # what is tracked is then the batch itself
    learner.model.train()
    sums = 0.0
    with contextlib.closing(loader.epoch(epoch)) as batches:
        for _, batch in zip(range(passes), batches, strict=False):
            look()
            learner.model({name: paddle.to_tensor(value) for name, value in batch.items()})
            mean, variance = (
                np.concatenate([vectors[n].numpy().astype(np.float64) for vectors in map(_vectors, layers)])
                for n in (0, 1)
            )
            sums = sums + np.stack([mean, variance + mean**2])
    for layer, (momentum, images_per_worker) in zip(layers, settings, strict=True):
        layer.momentum, layer.images_per_worker = momentum, images_per_worker
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
    if learner.ema:  # which is what is saved for evaluation
        for name, buffer in learner.model.named_buffers():
            learner.ema.average[name].set_value(buffer)


def _batch_norms(model):
    return (layer for layer in model.sublayers() if isinstance(layer, BatchNorm))


def _vectors(layer):
    return layer._mean, layer._variance
