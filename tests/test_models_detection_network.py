"""The detectors whole: no input crashes them, gradients reach what they should, workers and passes change nothing."""

import numpy as np
import paddle
import pytest

from engine.train.running_statistics import RunningStatistics
from models import mask_rcnn, pack_masks, resnet
from models.norm import share_statistics
from ops import BatchNorm, FrozenBatchNorm, GroupNorm, SyncBatchNorm

LOSSES = ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"]
TRAINED = ("stem", "c2")  # what the papers freeze where a backbone was trained before
ROWS = {  # of the GN paper's tables 4 to 7: the backbone's norm, the rest
    "BN*": ("frozen_bn", {"frozen": TRAINED}),
    "GN in the box head": ("frozen_bn", {"box_head": "4conv1fc", "box_head_norm": "gn"}),
    "GN in backbone and heads": ("gn", {"box_head": "4conv1fc", "box_head_norm": "gn", "mask_head_norm": "gn"}),
    "GN everywhere, from scratch": (
        "gn", {"fpn_norm": "gn", "box_head": "4conv1fc", "box_head_norm": "gn", "mask_head_norm": "gn"},
    ),
    "BN live": (
        "bn", {"fpn_norm": "bn", "box_head": "4conv1fc", "box_head_norm": "bn", "mask_head_norm": "bn"},
    ),
    "SyncBN": (
        "sync_bn",
        {"fpn_norm": "sync_bn", "box_head": "4conv1fc", "box_head_norm": "sync_bn", "mask_head_norm": "sync_bn"},
    ),
    "C4, BN*": ("frozen_bn", {"neck": "c4"}),
    "C4, GN": ("gn", {"neck": "c4", "frozen": TRAINED}),
    "C4, BN live": ("bn", {"neck": "c4"}),
    "no masks": ("gn", {"masks": False}),
    "no masks, C4": ("gn", {"masks": False, "neck": "c4"}),
    "deformable": (
        "gn", {"deformable_stages": ("c3", "c4", "c5"), "roi_pooling": "modulated", "frozen": TRAINED},
    ),
}
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def detector(row, *, images_per_worker=None, depth=18, **changes):
    norm, given = row
    kept = {"bn_running_statistics": changes.get("bn_running_statistics", "first")}
    given = {
        "fpn_channels": 8, "head_channels": 8, "box_head_features": 16, "norm_groups": 2, "rois_per_image": 24,
        "anchor_sizes": (8.0, 16.0, 32.0, 64.0, 128.0), "detections_per_image": 12, "canonical_box_size": 36.0,
        "proposals_before_nms": (100, 100), "proposals_after_nms": (60, 40), **given, **changes,
    }
    paddle.seed(0)
    backbone = resnet(
        depth=depth, width=4, norm=norm, norm_groups=2, bn_images_per_worker=images_per_worker,
        deformable_stages=given.pop("deformable_stages", ()), frozen=given.pop("frozen", ()), **kept,
    )
    return mask_rcnn(backbone, 3, images_per_worker=images_per_worker, **given)


def scenes(images=2, height=64, width=96, most=3, objects=None, seed=0):
    """A batch of noise with rectangles for objects; nothing square and nothing equal."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, [images, most, 2]) * [width, height]
    size = rng.uniform(0.2, 0.4, [images, most, 2]) * [width, height]
    boxes = np.concatenate([corner, corner + size], axis=2).astype("float32")
    row, column = np.mgrid[0:height, 0:width] + 0.5
    x1, y1, x2, y2 = (boxes[..., axis, None, None] for axis in range(4))
    masks = (column > x1) & (column < x2) & (row > y1) & (row < y2)
    arrays = {
        "image": rng.normal(size=[images, 3, height, width]).astype("float32"),
        "size": np.array([[height, width]] * images),
        "boxes": boxes, "classes": rng.integers(0, 3, [images, most]), "masks": pack_masks(masks),
        "objects": np.array([most] * images if objects is None else objects),
        "sampling_seed": 100 + np.arange(images),
    }
    return {name: paddle.to_tensor(array) for name, array in arrays.items()}


def finite(values):
    return all(np.isfinite(float(value)) for value in values.values())


@every_row
def test_rows_train_and_answer(row):
    model, batch = detector(row, images_per_worker=1), scenes()
    losses = model(batch)
    names = [name for name in LOSSES if name != "loss_mask" or row[1].get("masks", True)]
    assert list(losses) == ["loss", *names] and finite(losses)
    np.testing.assert_allclose(float(losses["loss"]), sum(float(losses[name]) for name in names), rtol=1e-5)
    losses["loss"].backward()
    model.eval()
    with paddle.no_grad():
        answers = model(batch)
    size = 14 if row[1].get("neck") == "c4" else 28
    shapes = {"objects": [2], "boxes": [2, 12, 4], "scores": [2, 12], "classes": [2, 12], "masks": [2, 12, size, size]}
    assert {name: list(value.shape) for name, value in answers.items()} == {
        name: shape for name, shape in shapes.items() if name != "masks" or "loss_mask" in names
    }
    count = int(answers["objects"][0])
    scores = answers["scores"][0].numpy()
    assert 0 < count <= 12 and (np.diff(scores[:count]) <= 0).all() and not scores[count:].any()


@pytest.mark.parametrize("name", ["BN*", "BN live", "C4, GN", "no masks", "deformable"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"images": 1, "height": 1, "width": 1, "most": 1}, {"images": 1, "height": 7, "width": 500},
        {"most": 0, "objects": [0, 0]}, {"objects": [0, 0]}, {"objects": [0, 3]}, {"images": 1, "most": 300},
    ],
    ids=str,
)
def test_odd_images(name, sizes):
    model, batch = detector(ROWS[name]), scenes(**sizes)
    losses = model(batch)
    assert finite(losses)
    if not any(batch["objects"].tolist()):
        assert all(float(losses[name]) == 0 for name in losses if name in ("loss_rpn_loc", "loss_box_reg", "loss_mask"))
    losses["loss"].backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with paddle.no_grad():
        answers = model(batch)
    assert all(np.isfinite(value.numpy()).all() for value in answers.values())


def test_boxes_of_no_area_and_nan_are_passed_over():
    model, batch = detector(ROWS["BN*"]), scenes(most=4)
    boxes, half = batch["boxes"].numpy(), scenes(most=4)
    boxes[:, 1, 2] = boxes[:, 1, 0]
    boxes[:, 2] = np.nan
    batch["boxes"] = paddle.to_tensor(boxes)
    losses = model(batch)
    assert finite(losses)
    for name in ("boxes", "classes", "masks"):
        half[name] = paddle.to_tensor(half[name].numpy()[:, [0, 3]])
    half["objects"] = half["objects"] * 0 + 2
    for name, value in model(half).items():
        np.testing.assert_allclose(float(value), float(losses[name]), rtol=1e-6)


@pytest.mark.parametrize("name", ["BN*", "C4, GN"])
def test_a_network_that_has_diverged_does_not_crash(name):
    model, batch = detector(ROWS[name]), scenes()
    for layer in (model.rpn.logits, model.rpn.deltas):
        layer.weight.set_value(layer.weight * float("nan"))
    losses = model(batch)
    assert all(np.isnan(float(losses[name])) for name in ("loss", "loss_rpn_cls", "loss_rpn_loc"))
    losses["loss"].backward()
    model.eval()
    assert model(batch)["objects"].tolist() == [0, 0]
    batch["objects"] = batch["objects"] * 0  # and so not one RoI
    model.train()
    assert float(model(batch)["loss_cls"]) == 0


@pytest.mark.parametrize("name", ["GN everywhere, from scratch", "C4, GN", "deformable"])
@pytest.mark.parametrize("objects", [[3, 3], [0, 0]], ids=str)
def test_gradients_reach_what_learns(name, objects):
    model = detector(ROWS[name])
    model(scenes(objects=objects))["loss"].backward()
    frozen = [f"backbone.{part}." for part in ROWS[name][1].get("frozen", ())]
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(tuple(frozen)):
            assert parameter.stop_gradient and parameter.grad is None, parameter_name
        else:
            assert parameter.grad is not None, parameter_name
    if objects[0]:
        mask = [p.grad.abs().sum() for n, p in model.named_parameters() if ".mask_head." in n and n.endswith("weight")]
        assert all(float(total) > 0 for total in mask)
    names = [name for name in model.state_dict() if ".c5." in name]
    assert names and all(name.startswith("backbone.c5.") for name in names)  # saved once, as a classifier's


def test_frozen_batch_norm_has_nothing_to_learn_and_live_one_in_frozen_stages_stands_still():
    model = detector(ROWS["BN*"])
    assert any(isinstance(layer, FrozenBatchNorm) for layer in model.backbone.c5.sublayers())
    assert not any("norm" in name for name, _ in model.backbone.named_parameters())
    model = detector(ROWS["BN live"], frozen=TRAINED)
    before = {name: value.numpy().copy() for name, value in model.backbone.state_dict().items() if "_mean" in name}
    model.train()
    model(scenes())
    for name, value in model.backbone.state_dict().items():
        if "_mean" in name:
            moved = not np.array_equal(value.numpy(), before[name])
            assert moved == (not name.startswith(("stem", "c2"))), name


def test_in_c5_of_c4_a_worker_is_what_it_is_given():
    """Its batch is RoIs: groups of images_per_worker of them would be no worker."""
    backbone = detector(ROWS["C4, BN live"], images_per_worker=2).backbone

    def sees(stage):
        return {layer.images_per_worker for layer in stage.sublayers() if isinstance(layer, BatchNorm)}

    assert sees(backbone.c4) == {2} and sees(backbone.c5) == {None}


@pytest.mark.parametrize("images", [1, 2])
def test_a_worker_can_be_given_fewer_images_and_heads_still_see_its_rois(images):
    model, batch = detector(ROWS["BN live"], images_per_worker=2), scenes(images=2)
    share_statistics(model, images)
    assert finite(model(batch))


@pytest.mark.parametrize("name", ["SyncBN", "C4, SyncBN"])
def test_sync_bn_in_a_head_sees_the_rois_of_all_workers(name):
    row = ROWS.get(name, ("sync_bn", {"neck": "c4"}))
    seen = []
    for images_per_worker in (1, 2):
        model = detector(row, images_per_worker=images_per_worker)
        model(scenes())
        seen.append([layer._mean.numpy() for layer in model.sublayers() if isinstance(layer, SyncBatchNorm)])
    for mean, same in zip(*seen, strict=True):
        np.testing.assert_allclose(mean, same, atol=1e-6)


def test_norms_stand_where_their_words_say():
    def count(part):
        return sum(isinstance(layer, GroupNorm) for layer in part.sublayers())

    model = detector(ROWS["GN everywhere, from scratch"])
    heads = model.heads
    assert (count(model.neck), count(model.rpn), count(heads.box_head), count(heads.mask_head)) == (8, 0, 4, 4)
    assert all("conv.bias" not in name for name, _ in model.neck.named_parameters())
    model = detector(ROWS["GN in the box head"])
    parts = model.backbone, model.neck, model.heads.box_head, model.heads.mask_head
    assert [count(part) for part in parts] == [0, 0, 4, 0]
    assert sum("conv.bias" in name for name, _ in model.neck.named_parameters()) == 8


def test_starting_values():
    model = detector(ROWS["BN*"], fpn_channels=64, head_channels=64, box_head_features=128)
    deviations = {
        "rpn.conv.weight": 0.01, "rpn.logits.weight": 0.01, "rpn.deltas.weight": 0.01,
        "heads.predictor.logits.weight": 0.01, "heads.predictor.deltas.weight": 0.001,
        "heads.mask_head.logits.weight": 0.001, "heads.mask_head.enlarge.weight": (2 / (4 * 64)) ** 0.5,
        "heads.mask_head.convs.conv2.weight": (2 / (9 * 64)) ** 0.5,
        "heads.box_head.fc1.weight": (1 / (64 * 49)) ** 0.5, "neck.output_c3.conv.weight": (1 / (9 * 64)) ** 0.5,
        "neck.lateral_c5.conv.weight": (1 / 32) ** 0.5,
    }
    state = model.state_dict()
    for name, deviation in deviations.items():
        np.testing.assert_allclose(state[name].numpy().std(), deviation, rtol=0.15, err_msg=name)
    for name, value in state.items():
        assert not name.endswith("bias") or not value.numpy().any(), name


@pytest.mark.parametrize("kept", ["first", "mean"])
@pytest.mark.parametrize("objects", [[3, 1, 0, 2], [0, 0, 1, 2]], ids=str)
@pytest.mark.parametrize("name", ["GN everywhere, from scratch", "BN live", "C4, BN live"])
def test_passes_of_whole_workers_change_nothing(name, objects, kept):
    """Running statistics of heads too, though they are called for one worker after another, or for none."""
    batch = scenes(images=4, objects=objects)
    whole, parts = (detector(ROWS[name], images_per_worker=2, bn_running_statistics=kept) for _ in range(2))
    losses = whole(batch)
    losses["loss"].backward()
    seen, statistics = {}, RunningStatistics(parts, passes=2)
    for start in (0, 2):
        with statistics.of_one_pass():
            of_pass = parts({key: value[start : start + 2] for key, value in batch.items()})
        (of_pass["loss"] / 2).backward()
        seen = {key: seen.get(key, 0) + float(value) / 2 for key, value in of_pass.items()}
    for key, value in losses.items():
        np.testing.assert_allclose(seen[key], float(value), rtol=1e-4, atol=1e-6)
    for (key, one), two in zip(whole.named_parameters(), parts.parameters(), strict=True):
        if one.grad is not None:
            scale = max(np.abs(one.grad.numpy()).max(), 1e-3)
            np.testing.assert_allclose(one.grad.numpy() / scale, two.grad.numpy() / scale, atol=2e-3, err_msg=key)
    statistics.settle()
    for (key, one), two in zip(whole.named_buffers(), parts.buffers(), strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["BN live", "C4, BN live"])
def test_workers_share_a_head_on_paddles_kernel_too(name):
    """As on GPUs. Its backward pass looks whether the running statistics have been changed since."""
    gradients = []
    for implementation in ("composed", "paddle"):
        model = detector(ROWS[name], images_per_worker=1)
        for layer in model.sublayers():
            if isinstance(layer, BatchNorm):
                layer.implementation = implementation
        model(scenes())["loss"].backward()
        gradients.append(model.heads.predictor.deltas.weight.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-5)


def test_the_seed_of_an_image_decides_its_draw():
    model, batch = detector(ROWS["BN*"], anchors_per_image=16), scenes()
    first, again = (float(model(batch)["loss_rpn_cls"]) for _ in range(2))
    batch["sampling_seed"] = batch["sampling_seed"] + 1
    assert first == again != float(model(batch)["loss_rpn_cls"])


def test_boxes_come_back_in_pixels_of_the_original():
    model, batch = detector(ROWS["BN*"]), scenes(images=1)
    batch = {name: batch[name] for name in ("image", "size")}  # an answer needs no more
    model.eval()
    with paddle.no_grad():
        plain = model(batch)["boxes"].numpy()
        batch["original_size"] = paddle.to_tensor([[128, 288]])  # twice as high, three times as wide
        scaled = model(batch)["boxes"].numpy()
    np.testing.assert_allclose(scaled, plain * [3, 2, 3, 2], rtol=1e-5)


def test_padding_shows_nothing():
    model, batch = detector(ROWS["BN*"]), scenes(images=1, height=96, width=128)
    batch["size"] = paddle.to_tensor([[64, 80]])
    model.eval()
    with paddle.no_grad():
        boxes = model(batch)["boxes"].numpy()[0]
    assert boxes[:, 2].max() <= 80 and boxes[:, 3].max() <= 64


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"neck": "c4", "fpn_norm": "gn"}, "fpn_norm gn: neck c4 has no pyramid"),
        ({"neck": "c4", "box_head_norm": "gn"}, "box_head_norm gn: neck c4 has c5 as its box head"),
        ({"neck": "c4", "mask_head_norm": "gn"}, "mask_head_norm gn: neck c4 has no convolutions there"),
        ({"box_head_norm": "gn"}, "box_head_norm gn: box_head 2fc has no convolutions"),
        ({"masks": False, "mask_head_norm": "gn"}, "mask_head_norm gn: there is no mask head"),
        ({"neck": "c5"}, "neck 'c5': expected one of fpn, c4"),
        ({"box_head": "1fc"}, "box_head '1fc': expected one of"),
        ({"rois_per_image": 0}, "rois_per_image: 0, expected 1 or more"),
        ({"anchor_sizes": (8.0, 16.0)}, "anchor_sizes: 2 for 5 levels, expected one a level"),
        ({"anchor_sizes": ()}, r"anchor_sizes: \[\], expected one or more numbers above 0"),
        ({"anchor_sizes": (8.0, 0.0), "neck": "c4"}, r"anchor_sizes: \[8.0, 0.0\], expected one or more numbers"),
        ({"anchor_ratios": ()}, r"anchor_ratios: \[\], expected one or more numbers above 0"),
        ({"proposals_before_nms": (0, 10)}, r"proposals_before_nms: \[0, 10\], expected 1 or more in training"),
        ({"proposals_after_nms": (100, 0)}, r"proposals_after_nms: \[100, 0\], expected 1 or more"),
        ({"proposals_after_nms": (100, -5)}, r"proposals_after_nms: \[100, -5\], expected 1 or more"),
        ({"canonical_box_size": 0.0}, "canonical_box_size: 0.0, expected a number above 0"),
        ({"canonical_box_size": -5.0}, "canonical_box_size: -5.0, expected a number above 0"),
        ({"score_threshold": 2.0}, "score_threshold: 2.0, expected a score from 0 to 1"),
        ({"roi_sampling_ratio": 2**30}, "roi_sampling_ratio: 1073741824, expected 0 to 64"),
        ({"roi_sampling_ratio": -1}, "roi_sampling_ratio: -1, expected 0 to 64"),
        ({"score_threshold": -1.0}, "score_threshold: -1.0, expected a score from 0 to 1"),
        ({"roi_pooling": "max"}, "roi_pooling 'max': expected one of align, deformable, modulated"),
        ({"box_head": "4conv1fc", "box_head_norm": "brn"}, "box_head_norm brn: RoIs come worker after worker"),
        ({"fpn_norm": "evonorm_s0"}, "fpn_norm evonorm_s0: it normalises by its nonlinearity, and a pyramid has none"),
        ({"fpn_norm": "batch"}, "norm 'batch': expected one of"),
    ],
)
def test_values_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        detector(("gn", changes))


def test_batch_renormalisation_is_refused_where_rois_come_worker_after_worker():
    with pytest.raises(ValueError, match="norm brn, neck c4: RoIs come worker after worker"):
        detector(("brn", {"neck": "c4"}))
    assert detector(("brn", {"fpn_norm": "brn"}))
