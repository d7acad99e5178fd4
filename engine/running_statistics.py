"""What becomes of BN's running statistics where a step is cut into passes, or spread over devices."""

import contextlib

import paddle

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


def _batch_norms(model):
    return (layer for layer in model.sublayers() if isinstance(layer, BatchNorm))


def _vectors(layer):
    return layer._mean, layer._variance
