"""RoIAlign against a definition, and inputs that end Paddle's process, read beyond its memory or answer nan."""

import math

import numpy as np
import paddle
import pytest
import reference_roi

from ops import roi_align


def example(dtype="float32"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=[3, 2, 7, 9])
    corner, size = rng.uniform([-2, -2], [20, 14], [5, 2]), rng.uniform(2, 16, [5, 2])
    return x.astype(dtype), np.concatenate([corner, corner + size], axis=1).astype(dtype), [2, 0, 3]


@pytest.mark.parametrize("counts_as", [list, lambda counts: paddle.to_tensor(counts, dtype="int64")])
def test_matches_the_definition(counts_as):
    x, boxes, counts = example("float64")
    y = roi_align(paddle.to_tensor(x), paddle.to_tensor(boxes), counts_as(counts), (3, 2), 0.5, 2)
    np.testing.assert_allclose(
        y.numpy(), reference_roi.deform_roi_pool(x, boxes, counts, (3, 2), spatial_scale=0.5), atol=1e-12
    )


def test_samples_every_pixel_of_a_bin():
    x, boxes, _ = example("float64")
    boxes = np.array([[0.5, 0.5, 6.5, 4.5]])  # bins of 2 x 3 pixels: ceil(4 / 2) by ceil(6 / 2) samples
    y = roi_align(paddle.to_tensor(x[:1]), paddle.to_tensor(boxes), [1], 2).numpy()
    samples = x[0, :, 0:4, 0:6] + x[0, :, 1:5, 0:6] + x[0, :, 0:4, 1:7] + x[0, :, 1:5, 1:7]  # at the pixels' corners
    expected = samples.reshape([2, 2, 2, 2, 3]).mean(axis=(2, 4)) / 4
    np.testing.assert_allclose(y[0], expected, atol=1e-12)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("scale", [1.0, 1 / 16])
def test_boxes_without_area_are_sampled_at_their_corner(sampling_ratio, scale):
    x = paddle.arange(100.0).reshape([1, 1, 10, 10])
    boxes = paddle.to_tensor([[3, 4, 3, 4], [3, 4, 3, 8], [3, 4, 8, 4], [3, 4, 1, 2]], dtype="float32") / scale
    y = roi_align(x, boxes, [4], 2, scale, sampling_ratio).numpy()
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[[0, 3]], 37.5, atol=0.01)  # column 2.5, row 3.5
    large = roi_align(paddle.zeros([1, 1, 2000, 4]), paddle.full([1, 4], 1999.0), [1], 2, 1.0, sampling_ratio)
    assert np.isfinite(large.numpy()).all()


def test_no_boxes_leave_a_gradient_of_zeros():
    x = paddle.rand([2, 3, 5, 4])
    x.stop_gradient = False
    y = roi_align(x, paddle.zeros([0, 4]), [0, 0], (3, 2))
    assert y.shape == [0, 3, 3, 2]
    (paddle.concat([y, paddle.ones([1, 3, 3, 2])]) * 2).sum().backward()
    assert x.grad is None or not x.grad.numpy().any()


def test_gradient_reaches_the_features_alone():
    x, boxes, counts = example()
    x, boxes = paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(boxes, stop_gradient=False)
    roi_align(x, boxes, counts, 3, 0.5).sum().backward()
    assert np.abs(x.grad.numpy()).max() > 0.1 and boxes.grad is None


def test_half_precision_is_computed_in_float32():
    x, boxes, counts = example()
    y = roi_align(paddle.to_tensor(x).astype("float16"), paddle.to_tensor(boxes), counts, 3, 0.5)
    assert y.dtype == paddle.float16
    expected = roi_align(paddle.to_tensor(x), paddle.to_tensor(boxes), counts, 3, 0.5).numpy()
    np.testing.assert_allclose(y.astype("float32").numpy(), expected, atol=5e-3)
    low = paddle.to_tensor(boxes).astype("float16")
    expected = roi_align(paddle.to_tensor(x), low.astype("float32"), counts, 3, 0.5).numpy()
    np.testing.assert_array_equal(roi_align(paddle.to_tensor(x), low, counts, 3, 0.5).numpy(), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, 1e4])
@pytest.mark.parametrize("axis", range(4))
def test_boxes_beyond_reason(value, axis):
    x, boxes, counts = example()
    boxes[3, axis] = value
    with pytest.raises(ValueError, match=r"roi_align: box 3 is \[.*, expected numbers within \+-306"):
        roi_align(paddle.to_tensor(x), paddle.to_tensor(boxes), counts, 3, 0.5)


@pytest.mark.parametrize("counts", [[2, 0, 2], [2, 0, 4], [6, -1, 0], [5], [2, 0, 3, 0], []], ids=str)
def test_counts_sum_to_the_boxes(counts):
    x, boxes, _ = example()
    with pytest.raises(ValueError) as error:
        roi_align(paddle.to_tensor(x), paddle.to_tensor(boxes), counts, 3)
    assert str(error.value) == f"roi_align: boxes_num {counts}, expected 3 counts that sum to the 5 boxes"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": paddle.zeros([3, 2, 0, 9])}, r"x has shape \[3, 2, 0, 9\], expected"),
        ({"x": paddle.zeros([3, 2, 7])}, r"x has shape \[3, 2, 7\], expected"),
        ({"x": paddle.zeros([3, 2, 7, 9], "int64")}, "x is of int64"),
        ({"boxes": paddle.zeros([5, 5])}, r"boxes has shape \[5, 5\], expected \[R, 4\]"),
        ({"boxes": paddle.zeros([5, 4], "float64")}, "boxes of float64; expected one dtype"),
        ({"output_size": 0}, r"output_size \(0, 0\), expected"),
        ({"spatial_scale": 0.0}, "spatial_scale 0.0 and sampling_ratio 0, expected"),
        ({"sampling_ratio": -1}, "spatial_scale 1.0 and sampling_ratio -1, expected"),
    ],
)
def test_wrong_arguments(change, message):
    x, boxes, counts = example()
    given = {"x": paddle.to_tensor(x), "boxes": paddle.to_tensor(boxes), "boxes_num": counts, "output_size": 3}
    with pytest.raises(ValueError, match=message):
        roi_align(**{**given, **change})
