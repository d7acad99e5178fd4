"""Batch Renormalization (Ioffe, arXiv:1702.03275): batch norm in whose training the running statistics take part."""

import math
from functools import partial
from typing import Literal

import paddle
from paddle import Tensor

from ops import native
from ops.batch_norm import (
    IMPLEMENTATIONS,
    BatchNorm,
    batch_norm,
    check_batch,
    images_of_a_worker,
    worker_by_worker,
)
from ops.implementation import at_least_float32, best, choose, gamma_and_beta, per_channel


def batch_renorm(
    x: Tensor, running_mean: Tensor, running_variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
    *, training: bool, r_max: float = 1.5, d_max: float = 0.5, momentum: float = 0.9, eps: float = 1e-5,
    images_per_worker: int | None = None, running_statistics: Literal["first", "mean"] = "first",
    implementation: str = "auto", relu: bool = False,
) -> Tensor:
    """`batch_norm` that moves what it normalised towards what evaluation would make of it (algorithm 1).

        y = gamma * ((x - mean) / deviation * r + d) + beta
        r = deviation / running deviation, from 1 / r_max to r_max
        d = (mean - running mean) / running deviation, from -d_max to d_max

    Mean and deviation, sqrt(variance + eps), are those of each worker's own images; the running ones are all workers',
    from before this call. r and d get no gradient. r_max 1 and d_max 0 are batch norm, infinite ones normalise as
    evaluation does. What runs along here is the variance, as in batch norm, where the paper has the deviation: so
    evaluation is batch norm's, and either takes the other's weights. For the other arguments, what comes back and
    errors see `batch_norm`; ValueError also for r_max below 1 and d_max below 0.
    """
    check_limits(r_max, d_max)
    if not training:
        return batch_norm(
            x, running_mean, running_variance, weight, bias,
            training=False, eps=eps, implementation=implementation, relu=relu,
        )
    vectors = {"running_mean": running_mean, "running_variance": running_variance, "weight": weight, "bias": bias}
    check_batch("batch renorm", x, vectors, running_statistics, training)
    per_worker = images_of_a_worker("batch renorm", x, images_per_worker)
    of_mean = running_statistics == "mean"
    if implementation == "auto":
        implementation = best(x)
    choose(IMPLEMENTATIONS, implementation)
    if implementation == "native":
        wide = at_least_float32(x)
        return native.run(
            "batch_renorm", wide, *gamma_and_beta(weight, bias, wide), running_mean, running_variance,
            per_worker, eps, momentum, of_mean, relu, float(r_max), float(d_max),
        ).astype(x.dtype)
    run = partial(_of_one_worker, limits=(r_max, d_max), implementation=implementation, relu=relu)
    if per_worker == x.shape[0]:
        return run(x, running_mean, running_variance, weight, bias, momentum, eps)
    return worker_by_worker(run, x, running_mean, running_variance, weight, bias, momentum, eps, per_worker, of_mean)


def _of_one_worker(x, running_mean, running_variance, weight, bias, momentum, eps, *, limits, implementation, relu):
    """The running vectors change in place."""
    r_max, d_max = limits
    common = {"training": True, "eps": eps, "implementation": implementation}
    with paddle.no_grad():
        wide = at_least_float32(x)
        axes = [0, *range(2, x.ndim)]
        mean = wide.mean(axis=axes)
        variance = (wide - per_channel(mean, wide)).square().mean(axis=axes)  # the biased one, as what normalises
        running_deviation = paddle.sqrt(running_variance + eps)
        r = (paddle.sqrt(variance + eps) / running_deviation).clip(1 / r_max, r_max)
        d = ((mean - running_mean) / running_deviation).clip(-d_max, d_max)
    gamma, beta = gamma_and_beta(weight, bias, mean.reshape([1, -1]))
    return batch_norm(
        x, running_mean, running_variance, r * gamma, d * gamma + beta, momentum=momentum, relu=relu, **common
    )


def check_limits(r_max: float, d_max: float) -> None:
    """ValueError for limits that no ratio, and no difference, can keep."""
    if not r_max >= 1 or not d_max >= 0:
        raise ValueError(f"batch renorm: r_max {r_max} and d_max {d_max}, expected 1 or more and 0 or more")


def limits_at(
    step: int, r_max: float, d_max: float, relax_steps: tuple[int, int, int] | None
) -> tuple[float, float]:
    """r_max and d_max for a step: always these, or batch norm's 1 and 0 that grow to them.

    relax_steps: the step until which they are batch norm's, the one from which r_max is reached, and d_max; growth is
    linear. The paper's training of 130,000 steps has (5000, 40000, 25000) with 3 and 5.
    """
    if relax_steps is None:
        return r_max, d_max
    start, *ends = relax_steps
    of_r, of_d = (min(1.0, max(0.0, (step - start) / (end - start))) for end in ends)
    return 1 + (r_max - 1) * of_r, d_max * of_d


class BatchRenorm(BatchNorm):
    """`batch_renorm` with the parameters and buffers of BatchNorm, under its names.

    x [N, C, ...] -> the same shape. Its limits are those of `step`, which whoever trains it sets: see `limits_at`.
    """

    def __init__(
        self, channels: int, *, r_max: float = 1.5, d_max: float = 0.5,
        relax_steps: tuple[int, int, int] | None = None, **options: object,
    ):
        super().__init__(channels, **options)
        check_limits(r_max, d_max)
        if relax_steps is not None and not 0 <= relax_steps[0] < min(relax_steps[1:]):
            raise ValueError(f"batch renorm: relax_steps {list(relax_steps)}, expected a start of 0 or more, then ends")
        if relax_steps is not None and not math.isfinite(r_max + d_max):
            raise ValueError(f"batch renorm: r_max {r_max} and d_max {d_max} are never reached by relax_steps")
        self.r_max, self.d_max, self.relax_steps, self.step = r_max, d_max, relax_steps, 0

    def forward(self, x: Tensor) -> Tensor:
        r_max, d_max = limits_at(self.step, self.r_max, self.d_max, self.relax_steps)
        return batch_renorm(
            x, self._mean, self._variance, self.weight, self.bias, training=self.training, r_max=r_max, d_max=d_max,
            momentum=self.momentum, eps=self.eps, images_per_worker=self.images_per_worker,
            running_statistics=self.running_statistics, implementation=self.implementation, relu=self.relu,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"
