"""Boxes by hand: areas, overlaps, clipping, and the coder there and back."""

import math

import numpy as np
import paddle
import pytest

from ops import box_area, box_iou, clip_boxes, decode_boxes, encode_boxes, has_area


def tensor(values):
    return paddle.to_tensor(np.array(values, np.float32).reshape([-1, 4]))


def test_areas_count_no_extra_pixel():
    assert box_area(tensor([[1, 2, 4, 7], [0, 0, 1, 1]])).tolist() == [15, 1]


def test_overlaps_by_hand():
    boxes = tensor([[0, 0, 4, 2], [10, 10, 12, 12]])
    others = tensor([[0, 0, 4, 2], [2, 0, 6, 2], [4, 0, 8, 2], [11, 11, 13, 13], [0, 0, 8, 4]])
    expected = [[1, 4 / 12, 0, 0, 8 / 32], [0, 0, 0, 1 / 7, 0]]
    np.testing.assert_allclose(box_iou(boxes, others).numpy(), expected, rtol=1e-6)


def test_boxes_without_area_overlap_nothing():
    boxes = tensor([[2, 2, 2, 2], [3, 1, 1, 3], [0, 0, 4, 4]])
    overlaps = box_iou(boxes, boxes).numpy()
    assert overlaps[2, 2] == 1 and overlaps[0].tolist() == [0, 0, 0] and overlaps[1, 1] == overlaps[1, 2] == 0


def test_has_area():
    nan, inf = math.nan, math.inf
    boxes = tensor([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1], [0, nan, 1, 1], [0, 0, inf, 1]])
    assert has_area(boxes).tolist() == [True] + [False] * 5
    assert has_area(tensor([[0, 0, 5, 1e-6], [0, 0, 1e-6, 5], [0, 0, 5, 1e-4]]), 1e-5).tolist() == [False, False, True]


def test_clipping_keeps_height_and_width_apart():
    clipped = clip_boxes(tensor([[-3, -2, 50, 60], [5, 6, 7, 8], [31, 33, 90, 90]]), 20, 30)
    assert clipped.tolist() == [[0, 0, 30, 20], [5, 6, 7, 8], [30, 20, 30, 20]]


def test_deltas_by_hand():
    anchors, boxes = tensor([[0, 0, 4, 10]]), tensor([[2, 5, 10, 10]])  # centre 2, 5 -> 6, 7.5; sides 4, 10 -> 8, 5
    expected = [[1, 0.25, math.log(2), math.log(0.5)]]
    np.testing.assert_allclose(encode_boxes(boxes, anchors).numpy(), expected, rtol=1e-6)
    weighted = encode_boxes(boxes, anchors, (10.0, 20.0, 5.0, 4.0)).numpy()
    np.testing.assert_allclose(weighted, np.array(expected) * [10, 20, 5, 4], rtol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_the_coder_goes_there_and_back(weights):
    rng = np.random.default_rng(0)
    corners, sizes = rng.uniform(-20, 300, [2, 50, 2]), rng.uniform(1, 200, [2, 50, 2])
    boxes, anchors = (tensor(np.concatenate([low, low + size], 1)) for low, size in zip(corners, sizes, strict=True))
    back = decode_boxes(encode_boxes(boxes, anchors, weights), anchors, weights)
    np.testing.assert_allclose(back.numpy(), boxes.numpy(), atol=1e-3)


def test_sides_grow_by_no_more_than_1000_over_16():
    anchors = tensor([[10, 10, 26, 42]])
    grown = decode_boxes(tensor([[0, 0, 100, 1e30]]), anchors).numpy()[0]
    np.testing.assert_allclose(grown[2:] - grown[:2], [16 * 62.5, 32 * 62.5], rtol=1e-5)
    shrunk = decode_boxes(tensor([[0, 0, -100, 0]]), anchors).numpy()[0]
    np.testing.assert_allclose(shrunk, [18, 10, 18, 42], atol=1e-5)


def test_every_class_decodes_from_the_same_box():
    boxes = tensor([[0, 0, 4, 4], [10, 10, 20, 30]])
    deltas = paddle.to_tensor(np.random.default_rng(0).random([2, 3, 4]).astype("float32"))
    decoded = decode_boxes(deltas, boxes.unsqueeze(1))
    for number in range(3):
        own = decode_boxes(deltas[:, number], boxes)
        np.testing.assert_allclose(decoded[:, number].numpy(), own.numpy(), atol=1e-4)
