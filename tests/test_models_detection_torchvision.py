"""One forward pass beside torchvision's maskrcnn_resnet50_fpn with the same random weights.

torchvision lives in another Python, named by TORCHVISION_PYTHON: it and Paddle need not share one. Where the variable
is missing and the own Python has no torchvision, the test is skipped and says so.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import paddle
import pytest

from models import mask_rcnn, resnet

PYTHON = os.environ.get("TORCHVISION_PYTHON") or (
    sys.executable if importlib.util.find_spec("torchvision") is not None else None
)

# Their layout is ours but for: anchors rounded to pixels, half a pixel in RoIAlign, background first.
SCRIPT = """
import sys
from functools import partial
import numpy as np, torch, torchvision
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import poolers, roi_align

poolers.roi_align = partial(roi_align, aligned=True)
torch.manual_seed(0)
model = torchvision.models.detection.maskrcnn_resnet50_fpn(
    weights=None, weights_backbone=None, num_classes=4, rpn_pre_nms_top_n_test=300, rpn_post_nms_top_n_test=200,
    box_detections_per_img=30, rpn_score_thresh=-1,
).eval()
for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
    pool.sampling_ratio = 0
generator = model.rpn.anchor_generator
ratio = torch.tensor(generator.aspect_ratios[0]) ** 0.5
generator.cell_anchors = [
    torch.stack([-s[0] / ratio / 2, -s[0] * ratio / 2, s[0] / ratio / 2, s[0] * ratio / 2], 1) for s in generator.sizes
]
random = torch.Generator().manual_seed(1)
with torch.no_grad():  # as they start, all answers are alike
    image = torch.randn(2, 3, 192, 224, generator=random)
    for layer in model.backbone.modules():
        layer.momentum = None
    for name, value in model.state_dict().items():
        if name.endswith("bn3.weight"):
            value.fill_(0.2)  # 53 random layers would amplify what rounding changes
    model.backbone.train()(image)  # so that features neither vanish nor explode
    model.backbone.eval()
    for name, times in {"rpn.head.cls_logits.weight": 10, "rpn.head.bbox_pred.weight": 5}.items():
        model.state_dict()[name].mul_(times)
    for name in ("box_predictor.cls_score", "box_predictor.bbox_pred"):
        weight = model.state_dict()[f"roi_heads.{name}.weight"]
        weight.copy_(0.05 * torch.randn(weight.shape, generator=random))
    sizes = [(192, 224), (150, 201)]
    maps = model.backbone(image)
    proposals, _ = model.rpn(ImageList(image, sizes), maps)
    answers, _ = model.roi_heads(maps, proposals, sizes)
saved = {f"weights/{name}": value.numpy() for name, value in model.state_dict().items()}
saved.update(image=image.numpy(), sizes=np.array(sizes))
for level, features in enumerate(maps.values()):
    saved[f"map{level}"] = features.numpy()
for number, (boxes, answer) in enumerate(zip(proposals, answers)):
    saved[f"proposals{number}"] = boxes.numpy()
    saved.update({f"{name}{number}": value.numpy() for name, value in answer.items()})
np.savez(sys.argv[1], **saved)
"""

PREFIXES = {
    "backbone.body.conv1": "backbone.stem.conv", "backbone.body.bn1": "backbone.stem.norm",
    **{f"backbone.fpn.inner_blocks.{level}.0": f"neck.lateral_c{level + 2}.conv" for level in range(4)},
    **{f"backbone.fpn.layer_blocks.{level}.0": f"neck.output_c{level + 2}.conv" for level in range(4)},
    "rpn.head.conv.0.0": "rpn.conv", "rpn.head.cls_logits": "rpn.logits", "rpn.head.bbox_pred": "rpn.deltas",
    "roi_heads.box_head.fc6": "heads.box_head.fc1", "roi_heads.box_head.fc7": "heads.box_head.fc2",
    "roi_heads.box_predictor.cls_score": "heads.predictor.logits",
    "roi_heads.box_predictor.bbox_pred": "heads.predictor.deltas",
    **{f"roi_heads.mask_head.{number}.0": f"heads.mask_head.convs.conv{number + 1}" for number in range(4)},
    "roi_heads.mask_predictor.conv5_mask": "heads.mask_head.enlarge",
    "roi_heads.mask_predictor.mask_fcn_logits": "heads.mask_head.logits",
}
PIXELS = 1e-3 * 224  # a thousandth of the picture
ENDS = {"running_mean": "_mean", "running_var": "_variance"}


def our_name(name):
    prefix, _, end = name.rpartition(".")
    if prefix not in PREFIXES:
        stage, block, layer = prefix.removeprefix("backbone.body.layer").split(".", 2)
        layer = layer.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
        return f"backbone.c{int(stage) + 1}.{block}.{layer.replace('bn', 'norm')}.{ENDS.get(end, end)}"
    return f"{PREFIXES[prefix]}.{ENDS.get(end, end)}"


def our_value(name, value):
    """Linear layers the other way round, background last, no channels and deltas of background."""
    if "cls_score" in name:
        value = np.roll(value, -1, axis=0)
    if "bbox_pred" in name and "roi_heads" in name:
        value = value[4:]
    if "mask_fcn_logits" in name:
        value = value[1:]
    return value.T if value.ndim == 2 else value


def assert_same_boxes(boxes, expected):
    """In any order: equal scores but for rounding may change places."""
    assert boxes.shape == expected.shape
    away = np.abs(boxes[:, None] - expected).max(axis=2)
    assert away.min(axis=0).max() < PIXELS and away.min(axis=1).max() < PIXELS


@pytest.mark.skipif(PYTHON is None, reason="no torchvision: name a Python that has it in TORCHVISION_PYTHON")
def test_proposals_boxes_and_masks_are_torchvisions(tmp_path):
    path = tmp_path / "torchvision.npz"
    subprocess.run([PYTHON, "-c", SCRIPT, path], check=True)
    saved = dict(np.load(path))
    model = mask_rcnn(
        resnet(norm="bn"), 3, proposals_before_nms=(300, 300), proposals_after_nms=(200, 200),
        detections_per_image=30,
    )
    model.eval()
    weights = {
        our_name(name): our_value(name, value)
        for name, value in ((name.removeprefix("weights/"), value) for name, value in saved.items() if "/" in name)
        if not name.endswith("num_batches_tracked")
    }
    own = model.state_dict()
    assert weights.keys() == own.keys()
    for name, value in weights.items():
        own[name].set_value(value)

    image, sizes = paddle.to_tensor(saved["image"]), saved["sizes"]
    with paddle.no_grad():
        maps = model.neck(model.backbone(image))
        logits, deltas = model.rpn(maps)
        anchors = model.rpn.anchors([level.shape[2:] for level in maps])
        proposals = model.rpn.propose(logits, deltas, anchors, sizes.tolist())
        answers = model({"image": image, "size": paddle.to_tensor(sizes)})
    for level, features in enumerate(maps):
        scale = np.abs(saved[f"map{level}"]).max()
        np.testing.assert_allclose(features.numpy() / scale, saved[f"map{level}"] / scale, atol=1e-3)
    for number in range(2):
        assert_same_boxes(proposals[number].numpy(), saved[f"proposals{number}"])
        found = int(answers["objects"][number])
        assert found == len(saved[f"scores{number}"]) > 10
        np.testing.assert_array_equal(answers["classes"][number, :found].numpy(), saved[f"labels{number}"] - 1)
        np.testing.assert_allclose(answers["scores"][number, :found].numpy(), saved[f"scores{number}"], atol=1e-3)
        np.testing.assert_allclose(answers["boxes"][number, :found].numpy(), saved[f"boxes{number}"], atol=PIXELS)
        np.testing.assert_allclose(
            answers["masks"][number, :found].numpy(), saved[f"masks{number}"][:, 0], atol=1e-3
        )
