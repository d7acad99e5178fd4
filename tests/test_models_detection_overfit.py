"""A small Mask R-CNN learns eight scenes by heart: recall and silhouettes. Some minutes, so only where asked for."""

import os

import numpy as np
import paddle
import pytest

from models import mask_rcnn, pack_masks, paste_mask, resnet

SIDE, STEPS = 96, 320


def scenes(count=8, most=3, seed=0):
    """Pictures of bright ellipses (class 0) and rectangles (class 1), one to three, on noise."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    images = rng.normal(scale=0.1, size=[count, 3, SIDE, SIDE])
    boxes, classes = np.zeros([count, most, 4]), rng.integers(0, 2, [count, most])
    masks, objects = np.zeros([count, most, SIDE, SIDE], bool), rng.integers(1, most + 1, count)
    for image in range(count):
        for place in range(objects[image]):
            width, height = rng.uniform(18, 30, 2)
            x1, y1 = 32 * place + rng.uniform(0, 31 - width), rng.uniform(0, SIDE - height)
            across, down = (column - x1) / width * 2 - 1, (row - y1) / height * 2 - 1
            round_one = across**2 + down**2 < 1
            mask = round_one if classes[image, place] == 0 else (np.abs(across) < 1) & (np.abs(down) < 1)
            boxes[image, place], masks[image, place] = [x1, y1, x1 + width, y1 + height], mask
            images[image] += mask * rng.uniform(0.5, 1.5, [3, 1, 1])
    batch = {
        "image": images.astype("float32"), "size": np.full([count, 2], SIDE), "boxes": boxes.astype("float32"),
        "classes": classes, "masks": pack_masks(masks), "objects": objects,
    }
    return {name: paddle.to_tensor(array) for name, array in batch.items()}, masks


def overlap(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


def area_between(box, other):
    width, height = (min(box[axis + 2], other[axis + 2]) - max(box[axis], other[axis]) for axis in (0, 1))
    area = max(width, 0) * max(height, 0)
    return area / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)) - area)


@pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes two minutes: set SLOW_TESTS=1")
def test_overfits_eight_scenes():
    batch, masks = scenes()
    paddle.seed(0)
    backbone = resnet(depth=18, width=16, norm="gn", norm_groups=4)
    model = mask_rcnn(
        backbone, 2, fpn_channels=32, fpn_norm="gn", box_head_features=128, mask_head_norm="gn",
        head_channels=32, norm_groups=4, anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0), canonical_box_size=36.0,
        anchors_per_image=64, rois_per_image=32, proposals_before_nms=(200, 200), proposals_after_nms=(100, 100),
        detections_per_image=10,
    )
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(2e-3, STEPS)
    optimizer = paddle.optimizer.Adam(schedule, parameters=model.parameters())
    for step in range(STEPS):
        own = slice(step % 2 * 4, step % 2 * 4 + 4)
        batch["sampling_seed"] = paddle.arange(8) + 8 * step
        model({name: value[own] for name, value in batch.items()})["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
    model.eval()
    with paddle.no_grad():
        answers = {name: value.numpy() for name, value in model(batch).items()}
    found, right, wrong, total = 0, 0, 0, int(batch["objects"].sum())
    for image, count in enumerate(batch["objects"].tolist()):
        sure = [place for place in range(answers["objects"][image]) if answers["scores"][image, place] > 0.5]
        wrong += max(0, len(sure) - count)
        for place in range(count):
            hits = [
                answer for answer in sure
                if answers["classes"][image, answer] == int(batch["classes"][image, place])
                and area_between(answers["boxes"][image, answer], batch["boxes"][image, place].tolist()) > 0.5
            ]
            if hits:
                found += 1
                pasted = paste_mask(answers["masks"][image, hits[0]], answers["boxes"][image, hits[0]], SIDE, SIDE)
                right += overlap(pasted, masks[image, place]) > 0.5
    assert found >= 0.9 * total and right >= 0.9 * total and wrong <= 0.1 * total, (found, right, wrong, total)
