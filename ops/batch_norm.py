"""Batch Normalization (Ioffe & Szegedy, arXiv:1502.03167) whose batch can be split among emulated workers."""

from collections.abc import Callable
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ops import native
from ops.implementation import (
    LOW_PRECISION,
    affine,
    at_least_float32,
    best,
    check_floats,
    check_name,
    check_vectors,
    choose,
    gamma_and_beta,
    learn_together,
    per_channel,
)


def batch_norm(
    x: Tensor, running_mean: Tensor, running_variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
    *, training: bool, momentum: float = 0.9, eps: float = 1e-5, images_per_worker: int | None = None,
    running_statistics: Literal["first", "mean"] = "first", implementation: str = "auto", relu: bool = False,
) -> Tensor:
    """Normalise every channel over the images of one worker and all positions.

    x [N, C, ...]. In training, x holds N / images_per_worker workers one after another and each is normalised with
    its own mean and biased variance, as that many GPUs without synchronisation would do; None means that
    all N images are one worker's. The running vectors [C] are then updated in place,
    running = momentum * running + (1 - momentum) * batch (Paddle's convention: the GN paper's 0.9), from
    the `first` worker (what rank 0 of 8 GPUs saves) or the `mean` over workers. In evaluation the running
    vectors normalise, whatever the workers. `weight` (gamma) and `bias` (beta) are [C] or None.
    Returns x's shape and dtype. relu: max(0, y) is returned, which "native" computes in the same pass.

    implementation: "native" (ops/csrc, all workers at once; in evaluation Paddle's kernel; the "auto" choice on a CPU),
    "paddle" (Paddle's kernel, once a worker; the "auto" choice elsewhere) or "composed". On GPUs cuDNN keeps the
    unbiased variance in the running vector, everything else here the biased one.

    Raises ValueError where the images do not divide into workers, a vector has another size, x has no values in a
    channel, or dtypes are no floats or differ (16 bits beside 32 are fine: they are computed in 32).
    """
    vectors = {"running_mean": running_mean, "running_variance": running_variance, "weight": weight, "bias": bias}
    check_batch("batch norm", x, vectors, running_statistics, training)
    if implementation == "auto":
        implementation = best(x)
    run = choose(IMPLEMENTATIONS, implementation)
    if not training:
        run = _paddle if run is _native else run
        y = run(x, at_least_float32(running_mean), at_least_float32(running_variance), weight, bias, None, eps)
        return F.relu(y) if relu else y
    per_worker = images_of_a_worker("batch norm", x, images_per_worker)
    of_mean = running_statistics == "mean"
    if run is _native:
        return run(x, running_mean, running_variance, weight, bias, momentum, eps, per_worker, of_mean, relu)
    if per_worker == x.shape[0]:
        y = run(x, running_mean, running_variance, weight, bias, momentum, eps)
    else:
        y = worker_by_worker(run, x, running_mean, running_variance, weight, bias, momentum, eps, per_worker, of_mean)
    return F.relu(y) if relu else y


def check_batch(
    op: str, x: Tensor, vectors: dict[str, Tensor | None], running_statistics: str, training: bool
) -> None:
    """ValueError for what batch norm and its kin cannot take; vectors [C] by name, None where there is none."""
    if running_statistics not in ("first", "mean"):
        raise ValueError(f"running_statistics {running_statistics!r}: expected 'first' or 'mean'")
    empty = training and x.shape[0] == 0  # statistics of nothing
    if x.ndim < 2 or empty or 0 in x.shape[1:]:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, ...], all of them above 0")
    check_vectors(op, x.shape[1], **vectors)
    check_floats(op, x=x, **vectors)
    for name in ("running_mean", "running_variance") if training and paddle.in_dynamic_mode() else ():
        if vectors[name].dtype in LOW_PRECISION:
            raise ValueError(f"{op}: {name} has 16 bits, too few for what changes by a tenth a step; expected 32")
        if not vectors[name].is_contiguous():  # the kernels would change a copy
            raise ValueError(f"{op}: {name} changes in place and must be contiguous, not a view with gaps")


def _native(x, running_mean, running_variance, weight, bias, momentum, eps, images_per_worker, of_mean, relu=False):
    dtype, x = x.dtype, at_least_float32(x)
    return native.run(
        "batch_norm", x, *gamma_and_beta(weight, bias, x), running_mean, running_variance,
        images_per_worker, eps, momentum, of_mean, relu,
    ).astype(dtype)


def images_of_a_worker(op: str, x: Tensor, images_per_worker: int | None) -> int:
    """How many images of x [N, ...] share statistics, None standing for all. ValueError where they do not divide N."""
    images = x.shape[0]
    per_worker = images if images_per_worker is None else images_per_worker
    if per_worker < 1 or images % per_worker:
        raise ValueError(f"{op}: {images} images do not divide into workers of {per_worker} images")
    return per_worker


def worker_by_worker(
    run: Callable, x: Tensor, running_mean: Tensor, running_variance: Tensor, weight: Tensor | None,
    bias: Tensor | None, momentum: float, eps: float, images_per_worker: int, of_mean: bool,
) -> Tensor:
    """What `run`, for one worker, gives of each; the running vectors then become the first one's or the mean."""
    workers = [
        (part, running_mean.clone(), running_variance.clone())
        for part in paddle.split(x, x.shape[0] // images_per_worker)
    ]
    outputs = [run(part, mean, variance, weight, bias, momentum, eps) for part, mean, variance in workers]
    kept = workers if of_mean else workers[:1]
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
    return affine(centred / paddle.sqrt(variance + eps), weight, bias).astype(x.dtype)


def _paddle(x, running_mean, running_variance, weight, bias, momentum, eps):
    """One worker; momentum None means evaluation. The kernel changes the running vectors in place."""
    training = momentum is not None
    if training and x.size == x.shape[1]:  # one value a channel, which the kernel hands through without gamma and beta
        return _composed(x, running_mean, running_variance, weight, bias, momentum, eps)
    weight, bias = (vector if vector is None else at_least_float32(vector) for vector in learn_together(weight, bias))
    dtype = x.dtype
    if paddle.in_dynamic_mode() and x.place.is_cpu_place():
        x = at_least_float32(x)
    if not training and paddle.in_dynamic_mode() and paddle.is_grad_enabled():
        # The kernel's backward reads them again, and a step in training may have changed them by then.
        running_mean, running_variance = running_mean.clone(), running_variance.clone()
    return F.batch_norm(
        x, running_mean, running_variance, weight, bias,
        training=training, momentum=momentum if training else 0.9, epsilon=eps,
    ).astype(dtype)


IMPLEMENTATIONS = {"native": _native, "paddle": _paddle, "composed": _composed}


class BatchNorm(nn.Layer):
    """`batch_norm` with its gamma, beta and running statistics `_mean`, `_variance` (Paddle's names), all [C].

    x [N, C, ...] -> the same shape. `images_per_worker` None: the device's images are one batch, as in
    paddle.nn.BatchNorm2D. gamma starts at `initial_scale`. `precise` is for who evaluates: to compute the running
    statistics anew before.
    """

    def __init__(
        self, channels: int, images_per_worker: int | None = None,
        running_statistics: Literal["first", "mean"] = "first", momentum: float = 0.9, eps: float = 1e-5,
        initial_scale: float = 1.0, implementation: str = "auto", relu: bool = False, precise: bool = False,
    ):
        super().__init__()
        check_name(IMPLEMENTATIONS, implementation)
        self.images_per_worker, self.running_statistics, self.precise = images_per_worker, running_statistics, precise
        self.momentum, self.eps, self.implementation, self.relu = momentum, eps, implementation, relu
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(initial_scale))
        self.bias = self.create_parameter([channels], is_bias=True)
        self.register_buffer("_mean", paddle.zeros([channels]))
        self.register_buffer("_variance", paddle.ones([channels]))

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(
            x, self._mean, self._variance, self.weight, self.bias, training=self.training, momentum=self.momentum,
            eps=self.eps, images_per_worker=self.images_per_worker, running_statistics=self.running_statistics,
            implementation=self.implementation, relu=self.relu,
        )

    def extra_repr(self) -> str:
        workers = f", images_per_worker={self.images_per_worker}" if self.images_per_worker else ""
        return f"{self.weight.shape[0]}, momentum={self.momentum}, eps={self.eps}{workers}{', relu' * self.relu}"


class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over all images of the step, on all GPUs and in all workers: Paddle's own layer.

    Paddle has no CPU kernel for it: there one process computes the same with plain batch norm, and several
    raise ValueError.
    """

    def __init__(
        self, channels: int, momentum: float = 0.9, eps: float = 1e-5, initial_scale: float = 1.0, relu: bool = False
    ):
        scale = paddle.ParamAttr(initializer=nn.initializer.Constant(initial_scale))
        super().__init__(channels, momentum=momentum, epsilon=eps, weight_attr=scale)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.place.is_gpu_place():
            y = super().forward(x)
            return F.relu(y) if self.relu else y
        if self.training and paddle.distributed.get_world_size() > 1:
            raise ValueError("sync_bn: Paddle has no CPU kernel for several processes; use bn or gn")
        return batch_norm(
            x, self._mean, self._variance, self.weight, self.bias,
            training=self.training, momentum=self._momentum, eps=self._epsilon, relu=self.relu,
        )
