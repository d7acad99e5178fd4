"""A detector from plain values."""

from functools import partial, wraps
from typing import Any, Literal

from models.detection.anchors import Anchors
from models.detection.box_head import FourConvolutionsOneLinear, TwoLinear
from models.detection.fpn import FPN, OneStage
from models.detection.mask_head import MaskHead
from models.detection.mask_rcnn import MaskRCNN
from models.detection.roi_heads import LastStage, RoIHeads
from models.detection.roi_pooling import Pooling, RoIPooling
from models.detection.rpn import RPN
from models.norm import Norm, make_norm
from models.resnet import ResNet
from ops import BatchNorm, BatchRenorm

BOX_BINS, MASK_BINS, C4_BINS = 7, 14, 14
OF_ROIS = "RoIs come worker after worker, and brn wants all workers at once; use gn"

MOST_SAMPLES = 64  # of a bin along a side


def mask_rcnn(
    backbone: ResNet,
    num_classes: int,
    *,
    neck: Literal["fpn", "c4"] = "fpn",
    masks: bool = True,
    fpn_channels: int = 256,
    fpn_norm: Norm = "none",
    box_head: Literal["2fc", "4conv1fc"] = "2fc",
    box_head_norm: Norm = "none",
    box_head_features: int = 1024,
    mask_head_norm: Norm = "none",
    head_channels: int = 256,
    norm_groups: int = 32,
    norm_channels_per_group: int | None = None,
    norm_eps: float = 1e-5,
    bn_momentum: float = 0.9,
    bn_running_statistics: Literal["first", "mean", "precise"] = "first",
    brn_r_max: float = 1.5,
    brn_d_max: float = 0.5,
    brn_relax_steps: tuple[int, int, int] | None = None,
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0),
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
    anchors_per_image: int = 256,
    proposals_before_nms: tuple[int, int] | None = None,
    proposals_after_nms: tuple[int, int] | None = None,
    rois_per_image: int = 512,
    roi_pooling: Pooling = "align",
    roi_sampling_ratio: int = 0,
    canonical_box_size: float = 224.0,
    deformable_modulation: Literal["2sigmoid", "sigmoid"] = "2sigmoid",
    score_threshold: float = 0.05,
    detections_per_image: int = 100,
    images_per_worker: int | None = None,
) -> MaskRCNN:
    """Mask R-CNN over a backbone: with the backbone's own, this signature is the `model:` section of a config.

    `backbone` is a `models.ResNet`: stem and c2 … c5 as attributes, called with the last stage to compute, naming its
    `out_channels` and `strides`. neck "fpn" is a feature pyramid with heads of their own; "c4" pools from c4 and has c5
    as the head of both branches. `masks` False leaves Faster R-CNN. The defaults are Detectron's baselines; the rows of
    tables 4 to 7 of the GN paper (arXiv:1803.08494) are

        BN*                    norm frozen_bn
        GN in the box head     norm frozen_bn, box_head 4conv1fc, box_head_norm gn
        GN everywhere          norm gn, fpn_norm gn, box_head 4conv1fc, box_head_norm gn, mask_head_norm gn
        C4                     neck c4; norm frozen_bn or gn

    with the backbone's stem and c2 `frozen`, but for what learns from scratch. fpn_norm, box_head_norm and
    mask_head_norm stand after the convolutions of these parts; the RPN has none.
    The norm_*, bn_* and brn_* values are the backbone's, for all. Live batch norm ("bn") in heads, c5 of "c4" included,
    sees a worker's RoIs as its batch: they are of few images and much alike, and it fails, as it does in the papers.
    Batch renormalisation ("brn") is refused there: it wants all workers at once, and RoIs come worker after worker.

    anchor_sizes are roots of areas in pixels of the resized image, for fpn one a level (p2 … p6), for c4 all at c4's;
    for pictures of 128 pixels 8 to 128 fit. `proposals_*` are counts (in training, in evaluation): before NMS of each
    level, after it of the image; None is (2000, 1000) and (1000, 1000) for fpn, (12000, 6000) and (2000, 1000) for c4.
    A box of `canonical_box_size` squared is pooled from p4: 224 for pictures of 800 pixels. `roi_pooling` is RoIAlign
    or, in both branches, DCN's deformable pooling, v1 or ("modulated") v2. Its offset branch learns from all features
    of a box: at full width and 14 x 14 bins 51 million parameters a level in v2. `deformable_modulation` is the
    backbone's. `roi_sampling_ratio` (align alone) 0 takes as many samples as a bin has pixels.

    `images_per_worker` cuts a step's images into emulated workers, for batch norm and for the averages of the losses;
    None: one worker. Raises ValueError for values that do not fit together.
    """
    _check(
        neck=neck, masks=masks, box_head=box_head, fpn_norm=fpn_norm, box_head_norm=box_head_norm,
        mask_head_norm=mask_head_norm, num_classes=num_classes, fpn_channels=fpn_channels, head_channels=head_channels,
        box_head_features=box_head_features, anchors_per_image=anchors_per_image, rois_per_image=rois_per_image,
        detections_per_image=detections_per_image,
    )
    _check_numbers(
        {"proposals_before_nms": proposals_before_nms, "proposals_after_nms": proposals_after_nms},
        anchor_sizes, anchor_ratios, canonical_box_size, score_threshold, roi_sampling_ratio,
    )
    norm = partial(
        make_norm, groups=norm_groups, channels_per_group=norm_channels_per_group,
        running_statistics=bn_running_statistics, bn_momentum=bn_momentum, eps=norm_eps,
        brn_r_max=brn_r_max, brn_d_max=brn_d_max, brn_relax_steps=brn_relax_steps,
    )
    pool = partial(
        RoIPooling, pooling=roi_pooling, sampling_ratio=roi_sampling_ratio, canonical_size=canonical_box_size,
        modulation=deformable_modulation,
    )
    mask_head = partial(
        MaskHead, channels=head_channels, num_classes=num_classes, norm=norm(mask_head_norm),
        bias=mask_head_norm == "none",
    )
    if neck == "fpn":
        strides = [backbone.strides[stage] for stage in FPN.stages]
        pyramid = FPN(
            backbone.out_channels, fpn_channels, norm(fpn_norm, images_per_worker=images_per_worker), fpn_norm == "none"
        )
        anchors = Anchors([[size] for size in anchor_sizes], anchor_ratios, [*strides, 2 * strides[-1]])
        before, after, channels, last_stage = (2000, 1000), (1000, 1000), fpn_channels, "c5"
        box = _box_head(box_head, channels, box_head_features, head_channels, box_head_norm, norm)
        heads = {
            "box_pool": pool(channels, BOX_BINS, strides), "box_head": box, "box_features": box_head_features,
            "mask_pool": pool(channels, MASK_BINS, strides) if masks else None,
            "mask_head": mask_head(channels, convolutions=4) if masks else None, "mask_size": 2 * MASK_BINS,
        }
    else:
        pyramid, strides = OneStage("c4"), [backbone.strides["c4"]]
        anchors = Anchors([anchor_sizes], anchor_ratios, strides)
        before, after, channels, last_stage = (12000, 6000), (2000, 1000), backbone.out_channels["c4"], "c4"
        for layer in backbone.c5.sublayers():
            if isinstance(layer, BatchRenorm):
                raise ValueError(f"norm brn, neck c4: {OF_ROIS}")
            if isinstance(layer, BatchNorm):
                layer.images_per_worker = None  # it sees RoIs, those of one worker at a time
        features = backbone.out_channels["c5"]
        heads = {
            "box_pool": pool(channels, C4_BINS, strides), "box_head": LastStage(backbone.c5), "box_features": features,
            "mask_pool": None, "mask_head": mask_head(features, convolutions=0) if masks else None,
            "mask_size": C4_BINS,  # c5 halves them, the mask head doubles them
        }
    rpn = RPN(
        channels, anchors, before_nms=proposals_before_nms or before, after_nms=proposals_after_nms or after,
        anchors_per_image=anchors_per_image,
    )
    roi_heads = RoIHeads(
        num_classes, **heads, rois_per_image=rois_per_image, score_threshold=score_threshold,
        most=detections_per_image, images_per_worker=images_per_worker,
    )
    return MaskRCNN(backbone, pyramid, rpn, roi_heads, last_stage=last_stage)


@wraps(mask_rcnn, assigned=["__annotations__"])  # and its signature, which a config's section is made of
def faster_rcnn(backbone: ResNet, num_classes: int, **settings: Any) -> MaskRCNN:
    """`mask_rcnn` without masks."""
    return mask_rcnn(backbone, num_classes, **{**settings, "masks": False})


mask_rcnn.task, faster_rcnn.task = "instance_segmentation", "detection"


def _box_head(kind, channels, features, conv_channels, word, norm):
    if kind == "2fc":
        return TwoLinear(channels, BOX_BINS, features)
    return FourConvolutionsOneLinear(
        channels, BOX_BINS, features, conv_channels=conv_channels, norm=norm(word), bias=word == "none"
    )


def _check(*, neck, masks, box_head, fpn_norm, box_head_norm, mask_head_norm, **counts):
    """ValueError for values that do not fit together."""
    for word, value, choices in (("neck", neck, ("fpn", "c4")), ("box_head", box_head, ("2fc", "4conv1fc"))):
        if value not in choices:
            raise ValueError(f"{word} {value!r}: expected one of {', '.join(choices)}")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}: {value}, expected 1 or more")
    for name, value, missing in (
        ("fpn_norm", fpn_norm, "neck c4 has no pyramid" if neck == "c4" else None),
        ("box_head_norm", box_head_norm, "neck c4 has c5 as its box head" if neck == "c4" else
         "box_head 2fc has no convolutions" if box_head == "2fc" else None),
        ("mask_head_norm", mask_head_norm, "there is no mask head" if not masks else
         "neck c4 has no convolutions there" if neck == "c4" else None),
    ):
        if missing and value != "none":
            raise ValueError(f"{name} {value}: {missing}")
        if value == "evonorm_s0" and name == "fpn_norm":
            raise ValueError(f"fpn_norm {value}: it normalises by its nonlinearity, and a pyramid has none; use gn")
        if value == "brn" and name != "fpn_norm":
            raise ValueError(f"{name} brn: {OF_ROIS}")


def _check_numbers(counts, sizes, ratios, canonical_size, threshold, samples):
    """ValueError for numbers with which nothing can be found, or no end."""
    for name, pair in counts.items():
        if pair is not None and min(pair) < 1:
            raise ValueError(f"{name}: {list(pair)}, expected 1 or more in training and in evaluation")
    for name, values in (("anchor_sizes", sizes), ("anchor_ratios", ratios)):
        if min(values, default=0) <= 0:
            raise ValueError(f"{name}: {list(values)}, expected one or more numbers above 0")
    if canonical_size <= 0:
        raise ValueError(f"canonical_box_size: {canonical_size}, expected a number above 0")
    if not 0 <= threshold <= 1:
        raise ValueError(f"score_threshold: {threshold}, expected a score from 0 to 1")
    if not 0 <= samples <= MOST_SAMPLES:
        raise ValueError(f"roi_sampling_ratio: {samples}, expected 0 to {MOST_SAMPLES}")
