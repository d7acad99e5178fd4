"""Non-maximum suppression against its definition, and inputs that Paddle's kernel does not survive."""

import math

import numpy as np
import paddle
import pytest

from ops import nms


def definition(boxes, scores, threshold, categories):
    """Greedy: the best box stays and takes with it what overlaps it too much."""
    kept = []
    for place in sorted(range(len(boxes)), key=lambda place: -scores[place]):
        better = [other for other in kept if categories[other] == categories[place]]
        if all(overlap(boxes[place], boxes[other]) <= threshold for other in better):
            kept.append(place)
    return kept


def overlap(box, other):
    width, height = (min(box[axis + 2], other[axis + 2]) - max(box[axis], other[axis]) for axis in (0, 1))
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    intersection = max(width, 0) * max(height, 0)
    return intersection / (area - intersection)


def crowd(count, seed=0):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-10, 40, [count, 2]), rng.uniform(5, 30, [count, 2])
    boxes = np.concatenate([corner, corner + size], axis=1).astype("float32")
    return boxes, rng.permutation(count).astype("float32"), rng.integers(0, 3, count)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
@pytest.mark.parametrize("apart", [False, True])
def test_matches_the_definition(threshold, apart):
    boxes, scores, categories = crowd(80)
    kept = nms(*map(paddle.to_tensor, (boxes, scores)), threshold, paddle.to_tensor(categories) if apart else None)
    expected = definition(boxes.astype("float64"), scores, threshold, categories if apart else np.zeros(80))
    assert 5 < len(expected) < 80 and kept.tolist() == expected


def test_categories_far_apart_do_not_cost_precision():
    boxes = paddle.to_tensor([[0, 0, 1000, 1000], [0, 0, 1000, 700.2], [0, 0, 1000, 699.8]], dtype="float32")
    scores = paddle.to_tensor([0.9, 0.5, 0.4])
    for category in (0, 5000):
        assert nms(boxes, scores, 0.7, paddle.full([3], category, "int64")).tolist() == [0, 2]


def test_equal_scores_stay_in_order():
    boxes = paddle.to_tensor([[10.0 * place, 0, 10.0 * place + 5, 5] for place in range(600)])
    scores = paddle.to_tensor([float(place % 2) for place in range(600)])
    assert nms(boxes, scores, 0.5).tolist() == [*range(1, 600, 2), *range(0, 600, 2)]


def test_what_is_no_box_is_not_kept():
    nan, inf = math.nan, math.inf
    boxes = paddle.to_tensor(
        [[0, 0, 5, 5], [nan, 0, 5, 5], [0, 0, inf, 5], [3, 3, 3, 9], [9, 9, 3, 3], [20, 20, 25, 25], [40, 40, 45, 45]]
    )
    scores = paddle.to_tensor([0.1, 0.9, 0.9, 0.9, 0.9, nan, 0.3])
    for categories in (None, paddle.to_tensor([0, 1, 2, 0, 1, 2, 0])):
        assert nms(boxes, scores, 0.5, categories).tolist() == [6, 0]
        assert nms(boxes[1:6], scores[1:6], 0.5).tolist() == []


def test_no_boxes():
    empty = nms(paddle.zeros([0, 4]), paddle.zeros([0]), 0.5, paddle.zeros([0], "int64"))
    assert empty.shape == [0] and empty.dtype == paddle.int64


@pytest.mark.parametrize(
    "boxes, scores, categories, threshold, message",
    [
        ([3, 5], [3], None, 0.5, r"boxes has shape \[3, 5\], expected \[B, 4\]"),
        ([3, 4], [2], None, 0.5, r"scores has shape \[2\], expected \[3\]"),
        ([3, 4], [3], [3, 1], 0.5, r"categories has shape \[3, 1\], expected \[3\]"),
        ([3, 4], [3], None, math.nan, "iou_threshold nan, expected a number from 0 to 1"),
    ],
)
def test_wrong_arguments(boxes, scores, categories, threshold, message):
    categories = None if categories is None else paddle.zeros(categories, "int64")
    with pytest.raises(ValueError, match=message):
        nms(paddle.zeros(boxes), paddle.zeros(scores), threshold, categories)
