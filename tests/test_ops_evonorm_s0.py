"""EvoNorm-S0 against its definition."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import reference
from conftest import here

from ops import EvoNormS0, evonorm_s0, group_norm
from ops.evonorm_s0 import IMPLEMENTATIONS

every_implementation = pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
SHAPES = [(2, 6), (2, 6, 5), (2, 6, 5, 4), (2, 6, 2, 5, 4)]


def example(*shape):
    """x with another level and size in every map, and vectors, all float64."""
    random = np.random.default_rng(0)
    level, size = random.normal(size=[2, *shape[:2]] + [1] * (len(shape) - 2))
    vectors = random.normal(size=[3, shape[1]])
    return {"x": level + np.exp(size) * random.normal(size=shape),
            **dict(zip(("slope", "weight", "bias"), vectors, strict=True))}


def tensors(arrays, dtype="float64"):
    return {name: paddle.to_tensor(array).astype(dtype) for name, array in arrays.items()}


def assert_close(tensor, array, tolerance=1e-12):
    np.testing.assert_allclose(tensor.astype("float64").numpy(), array, rtol=tolerance, atol=tolerance)


@every_implementation
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_matches_the_definition(implementation, shape, groups):
    arrays = example(*shape)
    y = evonorm_s0(**tensors(arrays), groups=groups, eps=2**-10, implementation=implementation)
    assert y.shape == list(shape)
    assert_close(y, reference.evonorm_s0(**arrays, groups=groups, eps=2**-10))


@every_implementation
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float16", 2e-2)])
def test_matches_the_definition_in_less_precision(implementation, dtype, tolerance):
    arrays = example(2, 6, 9, 7)
    given = tensors(arrays, "float32") | {"x": paddle.to_tensor(arrays["x"]).astype(dtype)}
    exact = {name: value.astype("float64").numpy() for name, value in given.items()}
    y = evonorm_s0(**given, groups=2, implementation=implementation)
    assert y.dtype == given["x"].dtype
    assert_close(y, reference.evonorm_s0(**exact, groups=2), tolerance)


@every_implementation
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3, 2), (2, 6, 2, 1, 3)], ids=str)
@pytest.mark.parametrize("left_out", [(), ("weight",), ("bias",)], ids=str)
def test_gradients(implementation, shape, left_out):
    arrays = {name: array for name, array in example(*shape).items() if name not in left_out}
    reference.check_gradients(
        lambda **given: evonorm_s0(**given, groups=2, eps=2**-4, implementation=implementation),
        lambda **given: reference.evonorm_s0(**given, groups=2, eps=2**-4), arrays,
    )


def test_by_hand():
    # 0 and 2 in two channels of one group: variance 1, and 3 more make 4. sigmoid(ln 3) is 3 / 4.
    x = paddle.to_tensor([[[0.0], [2.0]]], dtype="float64")
    vectors = tensors({"slope": [9.0, np.log(3) / 2], "weight": [5.0, 4.0], "bias": [1.0, -1.0]})
    assert_close(evonorm_s0(x, 1, **vectors, eps=3.0), [[[1.0], [4 * 2 * 0.75 / 2 - 1]]], 1e-6)


def test_a_steep_slope_makes_it_relu_over_the_groups_deviation():
    x = paddle.to_tensor(example(2, 6, 5, 4)["x"])
    centred = x - x.reshape([2, 3, -1]).mean(axis=2).repeat_interleave(2, axis=1).reshape([2, 6, 1, 1])
    deviation = centred / group_norm(x, 3, eps=1e-5)
    steep = evonorm_s0(x, 3, paddle.full([6], 1e9, "float64"))
    assert_close(steep, (paddle.nn.functional.relu(x) / deviation).numpy(), 1e-6)


def test_other_images_change_nothing():
    given = tensors(example(3, 6, 5, 4))
    whole = evonorm_s0(**given, groups=2)
    assert_close(evonorm_s0(**(given | {"x": given["x"][1:2]}), groups=2), whole[1:2].numpy())


def test_what_does_not_fit_is_named():
    given = tensors(example(2, 6, 4))
    with pytest.raises(ValueError, match="evonorm: 4 groups do not divide 6 channels"):
        evonorm_s0(**given, groups=4)
    with pytest.raises(ValueError, match=r"evonorm: slope has shape \[5\], expected \[6\]"):
        evonorm_s0(**(given | {"slope": given["slope"][:5]}), groups=2)
    with pytest.raises(ValueError, match="evonorm: 4 groups"):
        EvoNormS0(6, 4)


def test_layers_hand_their_settings_on_and_one_that_is_not_activated_is_affine():
    x = paddle.to_tensor(example(2, 6, 5, 4)["x"]).astype("float32")
    layer, plain = EvoNormS0(6, 2, eps=0.25, initial_scale=0.5, activated=True), EvoNormS0(6, 2, initial_scale=3.0)
    assert list(layer.state_dict()) == ["weight", "bias", "slope"] and list(plain.state_dict()) == ["weight", "bias"]
    expected = reference.evonorm_s0(x.numpy(), 2, np.ones(6), np.full(6, 0.5), eps=0.25)
    assert_close(layer(x), expected, 1e-5)
    assert_close(plain(x), 3 * x.numpy(), 1e-5)
    low = plain(x.astype("float16"))
    assert low.dtype == paddle.float16
    assert_close(low.astype("float32"), 3 * x.numpy(), 1e-2)


@pytest.mark.skipif(not hasattr(F, "group_norm"), reason="Paddle 2.6 has no empty tensors")
@pytest.mark.parametrize("activated", [True, False])
def test_no_images_are_none_after_it(activated):
    assert EvoNormS0(6, 2, activated=activated)(paddle.zeros([0, 6, 2, 2])).shape == [0, 6, 2, 2]
