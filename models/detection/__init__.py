"""Mask R-CNN and Faster R-CNN out of parts that can be read alone.

Anchors, matching, the first stage (rpn), the pyramid (fpn), pooling (roi_pooling), the second stage (box_head,
mask_head, roi_heads; worker_statistics for batch norm there), the network (mask_rcnn), what leads from its masks to a
picture's (paste), and the network for export (graph).
"""

from models.detection.build import faster_rcnn, mask_rcnn
from models.detection.graph import DetectionGraph
from models.detection.mask_head import pack_masks
from models.detection.mask_rcnn import MaskRCNN
from models.detection.paste import paste_mask

__all__ = ["DetectionGraph", "MaskRCNN", "faster_rcnn", "mask_rcnn", "pack_masks", "paste_mask"]
