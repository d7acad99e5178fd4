"""Batch norm with frozen statistics and frozen affine (BN* of the detection tables in arXiv:1803.08494)."""

import paddle
from paddle import Tensor, nn

from ops.batch_norm import batch_norm


def frozen_batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, relu: bool = False
) -> Tensor:
    """gamma * (x - mean) / sqrt(variance + eps) + beta with vectors [C] that nothing trains; with relu max(0, that).

    x [N, C, ...] -> the same shape and dtype. It is batch norm in evaluation, by the same kernel: on a CPU some ten
    times as fast as a multiplication and an addition. Gradients are for x.
    """
    if x.shape[0] == 0:  # which Paddle 2.6's kernel does not know
        return x
    return batch_norm(x, mean, variance, weight, bias, training=False, eps=eps, relu=relu)


class FrozenBatchNorm(nn.Layer):
    """`frozen_batch_norm` under the state names of BatchNorm, so that a trained BN network's weights fit.

    x [N, C, ...] -> the same shape, alike in training and evaluation; with `relu` max(0, y). All four vectors [C] are
    buffers.
    """

    def __init__(self, channels: int, eps: float = 1e-5, initial_scale: float = 1.0, relu: bool = False):
        super().__init__()
        self.eps, self.relu = eps, relu
        self.register_buffer("weight", paddle.full([channels], initial_scale))
        self.register_buffer("bias", paddle.zeros([channels]))
        self.register_buffer("_mean", paddle.zeros([channels]))
        self.register_buffer("_variance", paddle.ones([channels]))

    def forward(self, x: Tensor) -> Tensor:
        return frozen_batch_norm(x, self._mean, self._variance, self.weight, self.bias, self.eps, self.relu)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}{', relu' * self.relu}"
