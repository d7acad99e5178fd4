"""Mathematics: tensors in, tensors out. One op a file, the function first, the layer under it."""

from ops.batch_norm import BatchNorm, SyncBatchNorm, batch_norm
from ops.conv2d import Conv2D, conv2d
from ops.deform_conv import DeformConv2D, deform_conv2d
from ops.deform_ps_roi_pool import DeformPSRoIPool, deform_ps_roi_pool
from ops.deform_roi_pool import DeformRoIPool, deform_roi_pool
from ops.frozen_batch_norm import FrozenBatchNorm, frozen_batch_norm
from ops.group_norm import GroupNorm, group_norm
from ops.residual_blocks import ResidualBlock, residual_blocks

__all__ = [
    "BatchNorm",
    "Conv2D",
    "DeformConv2D",
    "DeformPSRoIPool",
    "DeformRoIPool",
    "FrozenBatchNorm",
    "GroupNorm",
    "ResidualBlock",
    "SyncBatchNorm",
    "batch_norm",
    "conv2d",
    "deform_conv2d",
    "deform_ps_roi_pool",
    "deform_roi_pool",
    "frozen_batch_norm",
    "group_norm",
    "residual_blocks",
]
