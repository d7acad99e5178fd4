"""The parts of the detectors by hand: matching, drawing, levels, mask targets, pasting."""

import math

import numpy as np
import paddle
import pytest

from models import pack_masks, paste_mask
from models.detection.anchors import Anchors
from models.detection.box_head import BoxPredictor, Drawn, box_losses, detect, draw_rois
from models.detection.mask_head import mask_loss, mask_targets, unpack_masks
from models.detection.matching import Objects, match, real_objects, sample, shares_of_workers
from models.detection.roi_pooling import RoIPooling, RoIs, level_of
from models.detection.rpn import RPN
from ops import roi_align


def tensor(values, dtype="float32"):
    return paddle.to_tensor(np.array(values, dtype))


def boxes_of(values):
    return tensor(np.reshape(values, [-1, 4]))


def objects_of(boxes, classes=None, places=None):
    count = len(boxes)
    return Objects(
        boxes_of(boxes), tensor(range(count) if classes is None else classes, "int64"),
        tensor(range(count) if places is None else places, "int64"),
    )


# Matching


def test_matching_by_hand():
    overlaps = tensor([[0.8, 0.2, 0.5, 0.0, 0.3], [0.1, 0.25, 0.6, 0.0, 0.7]])
    owner, label = match(overlaps, 0.3, 0.7)
    assert owner.tolist() == [0, 1, 1, 0, 1]
    assert label.tolist() == [1, 0, -1, 0, 1]  # 0.7 itself is positive, 0.3 would be ignored


def test_every_object_gets_its_best_boxes_ties_included():
    overlaps = tensor([[0.4, 0.1, 0.4, 0.0], [0.1, 0.2, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    owner, label = match(overlaps, 0.3, 0.7, best_of_each=True)
    # The first object's best are boxes 0 and 2; box 2 is positive for the second, which it overlaps more. The last
    # object is overlapped by none: that all are equally far from it makes none its own.
    assert label.tolist() == [1, 0, 1, 0] and owner.tolist()[::2] == [0, 1]


def test_nearly_equal_is_no_tie():
    _, label = match(tensor([[0.4, 0.39999]]), 0.3, 0.7, best_of_each=True)
    assert label.tolist() == [1, -1]


def test_one_threshold_leaves_nothing_between():
    _, label = match(tensor([[0.49, 0.5, 0.51]]), 0.5, 0.5)
    assert label.tolist() == [0, 1, 1]


def test_crowds_padding_and_boxes_without_area_are_no_objects():
    nan = math.nan
    boxes = [
        [[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 2, 9], [3, 3, 9, 9]],
        [[0, 0, 4, nan], [7, 7, 3, 9], [5, 5, 8, 8], [0, 0, 0, 0]],
    ]
    batch = {
        "boxes": tensor(boxes), "classes": tensor([[5, 6, 7, 8], [1, 2, 3, 4]], "int64"),
        "objects": tensor([4, 2], "int64"), "crowd": tensor([[0, 1, 0, 0], [0, 0, 0, 0]], "bool"),
    }
    first, second = real_objects(batch)
    assert first.classes.tolist() == [5, 8] and first.places.tolist() == [0, 3]
    assert first.boxes.tolist() == [[0, 0, 4, 4], [3, 3, 9, 9]]
    assert second.boxes.shape == [0, 4] and second.classes.shape == [0]
    del batch["crowd"]
    assert real_objects(batch)[0].places.tolist() == [0, 1, 3]


# Drawing


def test_drawing_takes_at_most_its_fraction():
    label = np.array([1] * 10 + [0] * 30 + [-1] * 60)
    positive, negative = sample(label, 16, 0.5, 3, 0)
    assert len(positive) == 8 and len(negative) == 8 and (label[positive] == 1).all() and (label[negative] == 0).all()
    positive, negative = sample(label, 16, 0.25, 3, 0)
    assert (len(positive), len(negative)) == (4, 12)
    positive, negative = sample(label[8:], 16, 0.5, 3, 0)  # few positives: negatives in their place
    assert (len(positive), len(negative)) == (2, 14)
    positive, negative = sample(label[:13], 16, 0.5, 3, 0)  # few negatives: fewer in all
    assert (len(positive), len(negative)) == (8, 3)


def test_the_draw_is_the_seeds():
    label = np.array([0] * 1000)
    draws = [sample(label, 20, 0.5, *seed)[1].tolist() for seed in ((3, 0), (3, 0), (4, 0), (3, 1))]
    assert draws[0] == draws[1] and draws[0] != draws[2] and draws[0] != draws[3]


def test_objects_are_proposals_too_and_background_is_the_last_class():
    found = objects_of([[10, 10, 30, 30], [50, 50, 90, 70]], classes=[2, 0], places=[1, 4])
    proposals = boxes_of([[11, 10, 31, 30], [100, 100, 120, 120], [50, 50, 90, 90]])  # the last one: 0.5 itself
    empty = objects_of([])
    drawn = draw_rois([proposals, proposals], [found, empty], [7, 8], 3, count=16, positive_fraction=0.5)
    assert drawn.rois.counts == [5, 3]
    assert drawn.classes.tolist() == [2, 0, 2, 0, 3, 3, 3, 3]
    assert drawn.owners.tolist()[:4] == [1, 4, 1, 4]
    assert drawn.owner_boxes[1].tolist() == [50, 50, 90, 70]
    assert drawn.rois.boxes[2:4].tolist() == found.boxes.tolist()


def test_losses_are_means_of_workers():
    np.testing.assert_allclose(shares_of_workers([2, 2]), [0.25] * 4)
    np.testing.assert_allclose(shares_of_workers([1, 3]), [0.25] * 4)
    np.testing.assert_allclose(shares_of_workers([1, 3, 0, 0], 1), [1 / 4] + [1 / 12] * 3)
    np.testing.assert_allclose(shares_of_workers([1, 3, 2, 0], 2), [1 / 8] * 4 + [1 / 4] * 2)
    with pytest.raises(ValueError, match="3 images do not divide into workers of 2"):
        shares_of_workers([1, 1, 1], 2)


# Losses and answers


def test_rpn_losses_by_hand():
    rpn = RPN(4, Anchors([[8]], (1.0,), [4]), before_nms=(9, 9), after_nms=(9, 9), anchors_per_image=4)
    anchors = boxes_of([[0, 0, 8, 8], [20, 0, 28, 8], [40, 0, 48, 8]])
    logits, deltas = tensor([[2.0, -1.0, 0.5]]), tensor(np.full([1, 3, 4], 0.5))
    found = objects_of([[0, 0, 8, 8]])
    losses = rpn.losses([logits], [deltas], [anchors], [found], [0])
    # one positive, two negatives; the divisor is the four that ought to be drawn
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)) + math.log(1 + math.exp(0.5))
    np.testing.assert_allclose(float(losses["loss_rpn_cls"]), expected / 4, rtol=1e-5)
    np.testing.assert_allclose(float(losses["loss_rpn_loc"]), 4 * 0.5 / 4, rtol=1e-5)
    nothing = rpn.losses([logits], [deltas], [anchors], [objects_of([])], [0])
    assert float(nothing["loss_rpn_loc"]) == 0 and float(nothing["loss_rpn_cls"]) > 0


def test_a_nan_anywhere_in_the_deltas_is_seen():
    rpn = RPN(4, Anchors([[8]], (1.0,), [4]), before_nms=(9, 9), after_nms=(9, 9))
    anchors, deltas = boxes_of([[0, 0, 8, 8], [20, 0, 28, 8]]), np.zeros([1, 2, 4])
    deltas[0, 1, 2] = math.nan
    losses = rpn.losses([tensor([[0, 0]])], [tensor(deltas)], [anchors], [objects_of([])], [0])
    assert math.isnan(float(losses["loss_rpn_loc"]))
    proposals = rpn.propose([tensor([[0, 1]])], [tensor(deltas)], [anchors], [(50, 50)])
    assert proposals[0].tolist() == [[0, 0, 8, 8]]


def test_proposals_are_the_best_of_levels_then_of_the_image():
    rpn = RPN(4, Anchors([[8], [8]], (1.0,), [4, 8]), before_nms=(2, 9), after_nms=(3, 2), nms_threshold=0.5)
    levels = [boxes_of([[0, 0, 8, 8], [0, 0, 8, 7], [30, 0, 38, 8]]), boxes_of([[0, 0, 8, 8], [-9, 5, -1, 9]])]
    logits = [tensor([[3, 2, 1]]), tensor([[4, 5]])]
    deltas = [paddle.zeros([1, 3, 4]), paddle.zeros([1, 2, 4])]
    # In training two a level: the third of the first level is out, the second suppressed; what lies outside is no box.
    assert rpn.propose(logits, deltas, levels, [(40, 35)])[0].tolist() == [[0, 0, 8, 8], [0, 0, 8, 8]]
    rpn.eval()
    logits[1] = tensor([[0, 5]])
    assert rpn.propose(logits, deltas, levels, [(40, 35)])[0].tolist() == [[0, 0, 8, 8], [30, 0, 35, 8]]


def test_box_losses_by_hand():
    classes, rois = tensor([1, 2], "int64"), RoIs(boxes_of([[0, 0, 10, 10], [5, 5, 9, 9]]), [2])
    drawn = Drawn(rois, classes, classes, boxes_of([[1, 0, 11, 10], [0, 0, 0, 0]]))
    logits, deltas = tensor([[0, 1, 0], [0, 0, 3]]), tensor(np.zeros([2, 2, 4]))
    losses = box_losses(logits, deltas, drawn, tensor([0.5, 0.5]))
    expected = (math.log(2 + math.e) - 1 + math.log(2 + math.exp(3)) - 3) / 2
    np.testing.assert_allclose(float(losses["loss_cls"]), expected, rtol=1e-5)
    np.testing.assert_allclose(float(losses["loss_box_reg"]), 10 * 0.1 / 2, rtol=1e-5)  # over both RoIs
    deltas[0, 1, 0] = 1.0  # of the object's own class; the other classes' deltas cost nothing
    deltas[0, 0] = 9.0
    losses = box_losses(logits, deltas, drawn, tensor([0.5, 0.5]))
    np.testing.assert_allclose(float(losses["loss_box_reg"]), 0, atol=1e-6)


def test_answers_by_hand():
    boxes = boxes_of([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 60, 30], [0, 0, 5, 5]])
    likely = np.log([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.01, 0.7, 0.29], [0.04, 0.04, 0.92]])
    found = detect(
        tensor(likely), paddle.zeros([4, 2, 4]), RoIs(boxes, [3, 1]), [(25, 50), (9, 9)], score_threshold=0.05,
        nms_threshold=0.5, most=2,
    )
    answer, nothing = found
    assert answer[0].tolist() == [[20, 20, 50, 25], [0, 0, 10, 10]]  # the best two, inside the picture
    np.testing.assert_allclose(answer[1].numpy(), [0.7, 0.6], rtol=1e-5)
    assert answer[2].tolist() == [1, 0]
    assert [values.shape[0] for values in nothing] == [0, 0, 0]


def test_classes_do_not_suppress_each_other():
    likely = np.log([[0.5, 0.4, 0.1], [0.45, 0.02, 0.53]])
    (answer,) = detect(
        tensor(likely), paddle.zeros([2, 2, 4]), RoIs(boxes_of([[0, 0, 10, 10], [0, 0, 10, 9]]), [2]), [(25, 50)],
        score_threshold=0.05, nms_threshold=0.5, most=9,
    )
    assert answer[2].tolist() == [0, 1] and answer[0].tolist() == [[0, 0, 10, 10]] * 2


def test_predictor_shapes():
    predictor = BoxPredictor(6, 3)
    for features in (paddle.rand([2, 6]), paddle.rand([2, 6, 7, 7])):
        logits, deltas = predictor(features)
        assert logits.shape == [2, 4] and deltas.shape == [2, 3, 4]


# Levels


def test_levels_at_their_borders():
    sides = [1, 111.9, 112, 223.9, 224, 447.9, 448, 2000, 0]
    boxes = boxes_of([[10, 10, 10 + side, 10 + side] for side in sides])
    assert level_of(boxes, 4, 224, 2).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0]
    wide = boxes_of([[0, 0, 448, 112], [0, 0, 447, 112]])  # the area counts, not a side
    assert level_of(wide, 4, 224, 2).tolist() == [2, 1]
    assert level_of(boxes_of([[0, 0, 36, 36]]), 4, 36, 2).tolist() == [2]


def test_pooling_keeps_the_order_of_the_boxes():
    rng = np.random.default_rng(0)
    maps = [tensor(rng.normal(size=[2, 3, 64 // stride, 64 // stride])) for stride in (4, 8, 16)]
    boxes = boxes_of([[0, 0, 60, 60], [3, 5, 9, 12], [2, 2, 30, 33], [10, 4, 60, 50], [7, 7, 9, 9]])
    pool = RoIPooling(3, 2, [4, 8, 16], canonical_size=30.0, canonical_level=1)
    pooled = pool(maps, RoIs(boxes, [3, 2])).numpy()
    for place, level in enumerate(level_of(boxes, 3, 30, 1)):
        counts = [1, 0] if place < 3 else [0, 1]
        own = roi_align(maps[level], boxes[place : place + 1], counts, 2, 1 / (4, 8, 16)[level])
        np.testing.assert_allclose(pooled[place], own.numpy()[0], atol=1e-6)


@pytest.mark.parametrize("pooling", ["deformable", "modulated"])
def test_deformable_pooling_starts_as_the_plain_one(pooling):
    rng = np.random.default_rng(0)
    maps = [tensor(rng.normal(size=[2, 3, 64 // stride, 64 // stride])) for stride in (4, 8)]
    boxes = boxes_of([[1, 2, 50, 50], [3, 5, 19, 12], [2, 2, 30, 33]] * 30)
    rois = RoIs(boxes, [60, 30])
    settings = {"canonical_size": 30.0, "canonical_level": 1}
    pool = RoIPooling(3, 2, [4, 8], pooling=pooling, **settings)
    plain = RoIPooling(3, 2, [4, 8], sampling_ratio=4 if pooling == "deformable" else 2, **settings)(maps, rois)
    np.testing.assert_allclose(pool(maps, rois).numpy(), plain.numpy(), atol=1e-5)
    pool.eval()  # in parts
    np.testing.assert_allclose(pool(maps, rois).numpy(), plain.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="roi_pooling 'max': expected one of align, deformable, modulated"):
        RoIPooling(3, 2, [4], pooling="max")


# Masks


def test_packing_goes_there_and_back():
    masks = np.random.default_rng(0).random([3, 5, 13]) > 0.5
    packed = pack_masks(masks)
    assert packed.shape == (3, 5, 2) and packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_masks(paddle.to_tensor(packed), 13).numpy()[:, 0], masks)


def test_mask_targets_of_a_known_polygon():
    # The triangle 8, 8 – 40, 8 – 8, 40, pixel by pixel, and a rectangle.
    row, column = np.mgrid[0:48, 0:50] + 0.5
    masks = np.stack([(row > 8) & (column > 8) & (row + column <= 48), (row > 10) & (row < 20) & (column < 6)])
    boxes = boxes_of([[0, 10, 12, 20], [8, 8, 40, 40], [0, 10, 6, 20], [4, 4, 44, 44]])
    targets = mask_targets(paddle.to_tensor(pack_masks(masks)), tensor([1, 0, 1, 0], "int64"), boxes, 50, 8).numpy()
    half = np.zeros([8, 8])
    half[:, :4] = 1
    np.testing.assert_array_equal(targets[0], half)  # the box, not the object, is the frame
    triangle = np.add.outer(np.arange(8), np.arange(8)) <= 7
    np.testing.assert_array_equal(targets[1], triangle)
    assert targets[2].all()
    assert targets[3].sum() in range(18, 26) and not targets[3][0].any() and not targets[3][:, 0].any()


def test_more_objects_than_are_unpacked_at_once():
    masks = np.zeros([40, 10, 80], bool)
    for place in range(40):
        masks[place, :, 2 * place : 2 * place + 2] = True
    boxes = boxes_of([[2 * place, 0, 2 * place + 4, 10] for place in range(38)] * 2)
    owners = tensor(list(range(38)) * 2, "int64")
    targets = mask_targets(paddle.to_tensor(pack_masks(masks)), owners, boxes, 80, 2).numpy()
    assert (targets == [[1, 0], [1, 0]]).all()


def test_mask_loss_is_of_the_own_class():
    logits = np.zeros([2, 3, 2, 2])
    logits[0, 1], logits[1, 2] = 2, -1
    loss = mask_loss(tensor(logits), tensor([1, 2], "int64"), paddle.ones([2, 2, 2]), tensor([0.25, 0.75]))
    expected = 0.25 * math.log(1 + math.exp(-2)) + 0.75 * math.log(1 + math.exp(1))
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)


def test_paste_of_a_known_mask():
    mask = np.zeros([4, 4])
    mask[:, :2] = 1
    pasted = paste_mask(mask, [2, 1, 10, 9], 12, 14)
    expected = np.zeros([12, 14], bool)
    expected[1:9, 2:6] = True
    np.testing.assert_array_equal(pasted, expected)
    outside = paste_mask(np.ones([4, 4]), [-4, -4, 4, 6], 12, 3)
    np.testing.assert_array_equal(outside, np.arange(12)[:, None].repeat(3, 1) < 6)


def test_a_pixel_belongs_by_its_centre():
    assert paste_mask(np.ones([28, 28]), [2.4, 3.6, 5.6, 6.4], 9, 9).sum() == 4 * 2  # columns 2 to 5, rows 4 and 5


def test_what_is_pasted_is_what_was_pooled():
    row, column = np.mgrid[0:60, 0:70] + 0.5
    circle = (row - 30) ** 2 + (column - 35) ** 2 < 20**2
    box = [13.3, 8.2, 57.1, 51.9]
    target = mask_targets(
        paddle.to_tensor(pack_masks(circle[None])), tensor([0], "int64"), boxes_of(box), 70, 28
    ).numpy()[0]
    pasted = paste_mask(target, box, 60, 70)
    assert (pasted & circle).sum() / (pasted | circle).sum() > 0.97


@pytest.mark.parametrize(
    "box", [[3, 3, 3, 9], [9, 9, 3, 3], [0, 0, math.nan, 4], [0, 0, math.inf, 4], [50, 50, 60, 60]]
)
def test_boxes_that_show_nothing(box):
    assert not paste_mask(np.ones([4, 4]), box, 20, 20).any()
