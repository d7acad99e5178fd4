"""Batch Normalization (Ioffe & Szegedy, arXiv:1502.03167) whose batch can be split among emulated workers."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from ops.implementation import at_least_float32, check_vectors, choose, learn_together, per_channel


def batch_norm(
    x, running_mean, running_variance, weight=None, bias=None, *, training, momentum=0.9, eps=1e-5,
    images_per_worker=None, running_statistics="first", implementation="auto",
):
    """Normalise every channel over the images of one worker and all positions.

    x [N, C, ...]. In training, x holds N / images_per_worker workers one after another and each is normalised with
    its own mean and biased variance, as that many GPUs without synchronisation would do; None means that
    all N images are one worker's. The running vectors [C] are then updated in place,
    running = momentum * running + (1 - momentum) * batch (Paddle's convention: the GN paper's 0.9), from
    the `first` worker (what rank 0 of 8 GPUs saves) or the `mean` over workers. In evaluation the running
    vectors normalise, whatever the workers. `weight` (gamma) and `bias` (beta) are [C] or None.
    Returns x's shape and dtype.

    implementation: "paddle" (Paddle's kernel, once a worker; the "auto" choice) or "composed". On GPUs
    cuDNN keeps the unbiased variance in the running vector, everything else here the biased one.

    Raises ValueError where the images do not divide into workers.
    """
    if running_statistics not in ("first", "mean"):
        raise ValueError(f"running_statistics {running_statistics!r}: expected 'first' or 'mean'")
    check_vectors(
        "batch_norm", x.shape[1],
        running_mean=running_mean, running_variance=running_variance, weight=weight, bias=bias,
    )
    run = choose(IMPLEMENTATIONS, implementation)
    if not training:
        return run(x, running_mean, running_variance, weight, bias, None, eps)
    images = x.shape[0]
    per_worker = images if images_per_worker is None else images_per_worker
    if per_worker < 1 or images % per_worker:
        raise ValueError(f"batch norm: {images} images do not divide into workers of {per_worker} images")
    if per_worker == images:
        return run(x, running_mean, running_variance, weight, bias, momentum, eps)
    workers = [
        (part, running_mean.clone(), running_variance.clone()) for part in paddle.split(x, images // per_worker)
    ]
    outputs = [run(part, mean, variance, weight, bias, momentum, eps) for part, mean, variance in workers]
    kept = workers if running_statistics == "mean" else workers[:1]
    paddle.assign(sum(mean for _, mean, _ in kept) / len(kept), running_mean)
    paddle.assign(sum(variance for _, _, variance in kept) / len(kept), running_variance)
    return paddle.concat(outputs)


def _composed(x, running_mean, running_variance, weight, bias, momentum, eps):
    """One worker; momentum None means evaluation. The running vectors change in place."""
    y = at_least_float32(x)
    if momentum is None:
        mean, variance = per_channel(running_mean, x), per_channel(running_variance, x)
        centred = y - mean
    else:
        axes = [0, *range(2, x.ndim)]
        mean = y.mean(axis=axes, keepdim=True)
        centred = y - mean
        variance = (centred * centred).mean(axis=axes, keepdim=True)
        for running, batch in ((running_mean, mean), (running_variance, variance)):
            batch = batch.detach().flatten().astype(running.dtype)
            paddle.assign(momentum * running + (1 - momentum) * batch, running)
    y = centred / paddle.sqrt(variance + eps)
    if weight is not None:
        y = y * per_channel(weight, x).astype(y.dtype)
    if bias is not None:
        y = y + per_channel(bias, x).astype(y.dtype)
    return y.astype(x.dtype)


def _paddle(x, running_mean, running_variance, weight, bias, momentum, eps):
    """One worker; momentum None means evaluation. The kernel changes the running vectors in place."""
    training = momentum is not None
    if training and x.size == x.shape[1]:  # one value a channel, which the kernel hands through without gamma and beta
        return _composed(x, running_mean, running_variance, weight, bias, momentum, eps)
    weight, bias = learn_together(weight, bias)
    return F.batch_norm(
        x, running_mean, running_variance, weight, bias,
        training=training, momentum=momentum if training else 0.9, epsilon=eps,
    )


IMPLEMENTATIONS = {"paddle": _paddle, "composed": _composed}


class BatchNorm(nn.Layer):
    """`batch_norm` with its gamma, beta and running statistics `_mean`, `_variance` (Paddle's names), all [C].

    x [N, C, ...] -> the same shape. `images_per_worker` None: the device's images are one batch, as in
    paddle.nn.BatchNorm2D. gamma starts at `initial_scale`.
    """

    def __init__(
        self, channels, images_per_worker=None, running_statistics="first", momentum=0.9, eps=1e-5,
        initial_scale=1.0, implementation="auto",
    ):
        super().__init__()
        choose(IMPLEMENTATIONS, implementation)
        self.images_per_worker, self.running_statistics = images_per_worker, running_statistics
        self.momentum, self.eps, self.implementation = momentum, eps, implementation
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(initial_scale))
        self.bias = self.create_parameter([channels], is_bias=True)
        self.register_buffer("_mean", paddle.zeros([channels]))
        self.register_buffer("_variance", paddle.ones([channels]))

    def forward(self, x):
        return batch_norm(
            x, self._mean, self._variance, self.weight, self.bias, training=self.training, momentum=self.momentum,
            eps=self.eps, images_per_worker=self.images_per_worker, running_statistics=self.running_statistics,
            implementation=self.implementation,
        )

    def extra_repr(self):
        workers = f", images_per_worker={self.images_per_worker}" if self.images_per_worker else ""
        return f"{self.weight.shape[0]}, momentum={self.momentum}, eps={self.eps}{workers}"


class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over all images of the step, on all GPUs and in all workers: Paddle's own layer.

    Paddle has no CPU kernel for it: there one process computes the same with plain batch norm, and several
    raise ValueError.
    """

    def __init__(self, channels, momentum=0.9, eps=1e-5, initial_scale=1.0):
        scale = paddle.ParamAttr(initializer=nn.initializer.Constant(initial_scale))
        super().__init__(channels, momentum=momentum, epsilon=eps, weight_attr=scale)

    def forward(self, x):
        if self.training and x.place.is_gpu_place():
            return super().forward(x)
        if self.training and paddle.distributed.get_world_size() > 1:
            raise ValueError("sync_bn: Paddle has no CPU kernel for several processes; use bn or gn")
        return batch_norm(
            x, self._mean, self._variance, self.weight, self.bias,
            training=self.training, momentum=self._momentum, eps=self._epsilon,
        )
