"""Filter response normalisation and its thresholded linear unit against their definitions."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import reference
from conftest import here

from ops import FilterResponseNorm, ThresholdedLinearUnit, filter_response_norm, group_norm, thresholded_linear
from ops.filter_response_norm import IMPLEMENTATIONS

every_implementation = pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
SHAPES = [(2, 3), (2, 3, 5), (2, 3, 5, 4), (2, 3, 2, 5, 4)]


def example(*shape):
    """x with another level and size in every map; gamma, beta and thresholds that cut off about a half."""
    random = np.random.default_rng(0)
    level, size = random.normal(size=[2, *shape[:2]] + [1] * (len(shape) - 2))
    vectors = random.normal(size=[3, shape[1]])
    return {"x": level + np.exp(size) * random.normal(size=shape),
            **dict(zip(("weight", "bias", "threshold"), vectors, strict=True))}


def tensors(arrays, dtype="float64"):
    return {name: paddle.to_tensor(array).astype(dtype) for name, array in arrays.items()}


def assert_close(tensor, array, tolerance=1e-12):
    np.testing.assert_allclose(tensor.astype("float64").numpy(), array, rtol=tolerance, atol=tolerance)


@every_implementation
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("left_out", [(), ("threshold",), ("weight", "bias"), ("weight", "bias", "threshold")], ids=str)
def test_matches_the_definition(implementation, shape, left_out):
    arrays = {name: array for name, array in example(*shape).items() if name not in left_out}
    expected = reference.filter_response_norm(**arrays, eps=2**-10)
    y = filter_response_norm(**tensors(arrays), eps=2**-10, implementation=implementation)
    assert y.shape == list(shape)
    assert_close(y, expected)


@every_implementation
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-2), ("bfloat16", 1e-1)])
def test_matches_the_definition_in_less_precision(implementation, dtype, tolerance):
    if dtype != "float32" and paddle.get_device() != "cpu":
        pytest.skip("a GPU's kernels for 16 bits are tried by the trainings there")
    arrays = example(2, 3, 9, 7)
    given = tensors(arrays, "float32") | {"x": paddle.to_tensor(arrays["x"]).astype(dtype)}
    exact = {name: value.astype("float64").numpy() for name, value in given.items()}
    y = filter_response_norm(**given, implementation=implementation)
    assert y.dtype == given["x"].dtype
    assert_close(y, reference.filter_response_norm(**exact), tolerance)


@every_implementation
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 3), (2, 3, 2, 2, 3)], ids=str)
@pytest.mark.parametrize("left_out", [(), ("threshold",), ("weight",), ("bias", "threshold")], ids=str)
def test_gradients(implementation, shape, left_out):
    arrays = {name: array for name, array in example(*shape).items() if name not in left_out}
    reference.check_gradients(
        lambda **given: filter_response_norm(**given, eps=2**-4, implementation=implementation),
        lambda **given: reference.filter_response_norm(**given, eps=2**-4), arrays,
    )


@every_implementation
def test_only_what_learns_gets_a_gradient(implementation):
    arrays = example(2, 3, 4, 3)
    whole = tensors(arrays)
    for learning in arrays:
        given = tensors(arrays)
        for name, value in given.items():
            value.stop_gradient = name != learning
            whole[name].stop_gradient = False
        (filter_response_norm(**given, implementation=implementation) ** 3).sum().backward()
        assert [name for name, value in given.items() if value.grad is not None] == [learning]
        for value in whole.values():
            value.clear_gradient()
        (filter_response_norm(**whole, implementation=implementation) ** 3).sum().backward()
        assert_close(given[learning].grad, whole[learning].grad.numpy())


@every_implementation
def test_the_thresholded_linear_unit(implementation):
    arrays = {name: example(2, 3, 4, 3)[name] for name in ("x", "threshold")}
    y = thresholded_linear(**tensors(arrays), implementation=implementation)
    assert_close(y, reference.thresholded_linear(**arrays))
    reference.check_gradients(
        lambda **given: thresholded_linear(**given, implementation=implementation), reference.thresholded_linear, arrays
    )


@every_implementation
def test_on_the_threshold_the_gradient_is_the_thresholds(implementation):
    x, threshold = (paddle.full(shape, 2.0) for shape in ([1, 1, 2], [1]))
    x.stop_gradient = threshold.stop_gradient = False
    thresholded_linear(x, threshold, implementation).sum().backward()
    assert not x.grad.numpy().any() and threshold.grad.tolist() == [2.0]


def test_by_hand():
    # The mean square of 3 and -1 is 5, and 4 more make 9.
    x, one = paddle.to_tensor([[[3.0, -1.0]]]), paddle.ones([1])
    y = filter_response_norm(x, 6 * one, 2 * one, 1 * one, eps=4.0)
    assert_close(y, [[[6 * 1 + 2, 1.0]]], 1e-6)  # the second would be 0


def test_of_centred_maps_it_is_instance_norm():
    x = example(2, 3, 5, 4)["x"]
    x = paddle.to_tensor(x - x.mean(axis=(2, 3), keepdims=True))
    assert_close(filter_response_norm(x, eps=1e-5), group_norm(x, 3, eps=1e-5).numpy(), 1e-7)


def test_size_changes_nothing_and_other_images_do_not_either():
    x = paddle.to_tensor(example(3, 3, 5, 4)["x"])
    whole = filter_response_norm(x, eps=0.0)
    assert_close(filter_response_norm(1000 * x, eps=0.0), whole.numpy())
    assert_close(filter_response_norm(x[1:2], eps=0.0), whole[1:2].numpy())


@pytest.mark.skipif(not hasattr(F, "group_norm"), reason="Paddle 2.6 has no empty tensors")
def test_no_images_are_none_after_it():
    assert FilterResponseNorm(3, activated=True)(paddle.zeros([0, 3, 2, 2])).shape == [0, 3, 2, 2]
    assert ThresholdedLinearUnit(3)(paddle.zeros([0, 3, 2, 2])).shape == [0, 3, 2, 2]


def test_what_does_not_fit_is_named():
    x = paddle.zeros([2, 3, 4])
    with pytest.raises(ValueError, match=r"filter response norm: threshold has shape \[2\], expected \[3\]"):
        filter_response_norm(x, threshold=paddle.zeros([2]))
    with pytest.raises(ValueError, match="filter response norm: x is of int64"):
        filter_response_norm(x.astype("int64"))
    with pytest.raises(ValueError, match="none of C"):
        filter_response_norm(paddle.zeros([2, 3, 0]))
    for shape, dtype, message in (([2, 0, 3], "float32", "no C, ... of 0"), ([3], "float32", "x has shape"),
                                  ([2, 3], "int64", "thresholded linear unit: x is of int64")):
        with pytest.raises(ValueError, match=message):
            thresholded_linear(paddle.zeros(shape, dtype), paddle.zeros([shape[-1] if len(shape) < 2 else shape[1]]))


def test_layers_start_as_relu_and_hand_their_settings_on():
    x = paddle.to_tensor(example(2, 3, 5, 4)["x"]).astype("float32")
    layer, plain = FilterResponseNorm(3, eps=0.25, initial_scale=0.5, activated=True), FilterResponseNorm(3)
    assert list(layer.state_dict()) == ["weight", "bias", "threshold"]
    assert list(plain.state_dict()) == ["weight", "bias"]
    half = np.full(3, 0.5)
    assert_close(layer(x), np.maximum(0, reference.filter_response_norm(x.numpy(), half, eps=0.25)), 1e-5)
    layer.threshold.set_value(paddle.to_tensor([1.0, -1.0, 0.5]))
    expected = reference.filter_response_norm(x.numpy(), half, threshold=layer.threshold.numpy(), eps=0.25)
    assert_close(layer(x), expected, 1e-5)
    assert_close(plain(x), reference.filter_response_norm(x.numpy()), 1e-5)
    unit = ThresholdedLinearUnit(3)
    assert_close(unit(x), np.maximum(0, x.numpy()), 1e-6)
    unit.threshold.set_value(layer.threshold)
    assert_close(unit(x), reference.thresholded_linear(x.numpy(), layer.threshold.numpy()), 1e-6)
