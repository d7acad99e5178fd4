"""Anchors by hand, and what is said where they fit nothing."""

import math

import numpy as np
import paddle
import pytest
from test_models_detection_parts import boxes_of, objects_of

from models.detection.anchors import FIRST, Anchors, cell_anchors, grid_anchors
from models.detection.rpn import RPN


def test_anchors_of_one_place():
    anchors = cell_anchors([32], [0.5, 1, 2])
    wide = 32 * math.sqrt(2)
    expected = [[-wide / 2, -wide / 4, wide / 2, wide / 4], [-16, -16, 16, 16]]
    expected.append([-wide / 4, -wide / 2, wide / 4, wide / 2])
    np.testing.assert_allclose(anchors, expected, rtol=1e-6)


def test_anchors_lie_at_multiples_of_the_stride_rows_outermost():
    grid = grid_anchors([[-4, -2, 4, 2], [-1, -1, 1, 1]], 2, 3, 8)
    assert list(grid.shape) == [12, 4]
    assert grid[0].tolist() == [-4, -2, 4, 2] and grid[1].tolist() == [-1, -1, 1, 1]
    assert grid[2].tolist() == [4, -2, 12, 2]  # one column on
    assert grid[7].tolist() == [-1, 7, 1, 9]  # one row down


def test_anchors_of_levels_and_how_well_they_fit():
    anchors = Anchors([[8], [16]], (1.0,), [4, 8])
    assert [level.shape[0] for level in anchors([(3, 4), (2, 2)])] == [12, 4]
    fit = anchors.best_overlap(boxes_of([[0, 0, 8, 8], [0, 0, 16, 16], [0, 0, 2, 2]]), 16, 16)
    np.testing.assert_allclose(fit.numpy(), [1, 1, 4 / 64], rtol=1e-6)
    with pytest.raises(ValueError, match="anchor_sizes: 1 for 2 levels, expected one a level"):
        Anchors([[8]], (1.0,), [4, 8])


@pytest.mark.parametrize(("large", "share"), [(0, "100"), (2, "33"), (3, None)])
def test_a_training_says_once_that_no_anchor_fits(caplog, large, share):
    """Of objects of 4 x 4 pixels and `large` ones of 8 x 8, which are anchors themselves."""
    rpn = RPN(4, Anchors([[8]], (1.0,), [4]), before_nms=(9, 9), after_nms=(9, 9))
    anchors, images = boxes_of([[0, 0, 8, 8], [20, 0, 28, 8]]), 150
    logits, deltas = [paddle.zeros([images, 2])], [paddle.zeros([images, 2, 4])]
    found = [objects_of([[0, 0, 4, 4]] + [[20, 0, 28, 8]] * large)] * images
    for _ in range(FIRST // images + 1):
        rpn.losses(logits, deltas, [anchors], found, range(images))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (share is not None)
    assert not said or said[0].startswith(f"no anchor fits {share} % of the first 30") and "anchor_sizes" in said[0]
