"""Mathematics: tensors in, tensors out. One op a file, the function first, the layer under it."""

from ops.batch_norm import BatchNorm, SyncBatchNorm, batch_norm
from ops.batch_renorm import BatchRenorm, batch_renorm
from ops.boxes import box_area, box_iou, clip_boxes, decode_boxes, encode_boxes, has_area
from ops.conv2d import Conv2D, conv2d
from ops.conv3d import Conv3D, conv3d
from ops.deform_conv import DeformConv2D, deform_conv2d
from ops.deform_ps_roi_pool import DeformPSRoIPool, deform_ps_roi_pool
from ops.deform_roi_pool import DeformRoIPool, deform_roi_pool
from ops.evonorm_s0 import EvoNormS0, evonorm_s0
from ops.filter_response_norm import (
    FilterResponseNorm,
    ThresholdedLinearUnit,
    filter_response_norm,
    thresholded_linear,
)
from ops.frozen_batch_norm import FrozenBatchNorm, frozen_batch_norm
from ops.group_norm import GroupNorm, group_norm
from ops.nms import nms
from ops.residual_blocks import ResidualBlock, residual_blocks
from ops.roi_align import roi_align
from ops.weight_standardization import standardize

__all__ = [
    "BatchNorm",
    "BatchRenorm",
    "Conv2D",
    "Conv3D",
    "DeformConv2D",
    "DeformPSRoIPool",
    "DeformRoIPool",
    "EvoNormS0",
    "FilterResponseNorm",
    "FrozenBatchNorm",
    "GroupNorm",
    "ResidualBlock",
    "SyncBatchNorm",
    "ThresholdedLinearUnit",
    "batch_norm",
    "batch_renorm",
    "box_area",
    "box_iou",
    "clip_boxes",
    "conv2d",
    "conv3d",
    "decode_boxes",
    "deform_conv2d",
    "deform_ps_roi_pool",
    "deform_roi_pool",
    "encode_boxes",
    "evonorm_s0",
    "filter_response_norm",
    "frozen_batch_norm",
    "group_norm",
    "has_area",
    "nms",
    "residual_blocks",
    "roi_align",
    "standardize",
    "thresholded_linear",
]
