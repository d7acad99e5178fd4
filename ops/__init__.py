"""Mathematics: tensors in, tensors out. One op a file, the function first, the layer under it."""

from ops.batch_norm import BatchNorm, SyncBatchNorm, batch_norm
from ops.deform_conv import DeformConv2D, deform_conv2d
from ops.frozen_batch_norm import FrozenBatchNorm, frozen_batch_norm
from ops.group_norm import GroupNorm, group_norm

__all__ = [
    "BatchNorm",
    "DeformConv2D",
    "FrozenBatchNorm",
    "GroupNorm",
    "SyncBatchNorm",
    "batch_norm",
    "deform_conv2d",
    "frozen_batch_norm",
    "group_norm",
]
