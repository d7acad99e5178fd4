"""Convolution and pooling of clips: the definitions' values and gradients, whoever computes them."""

import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from test_ops_conv2d import needs_onednn, used
from test_ops_native import assert_exact, outcome

import ops.conv3d  # noqa: F401
from ops import Conv3D, conv3d

module = sys.modules["ops.conv3d"]  # whose name in the package is the function's


def arrays(channels, out, size, kernel, images=2, bias=True, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"x": [images, channels, *size], "weight": [out, channels, *kernel], "bias": [out]}
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn if bias else {name: drawn[name] for name in ("x", "weight")}


def check_exact(given, learning=None, **options):
    """oneDNN's in float32 against Paddle's conv3d in float64."""
    expected = outcome(lambda x, weight, bias=None: F.conv3d(x, weight, bias, **options), given, "float64", learning)
    got = outcome(conv3d, given, "float32", learning, implementation="native", **options)
    out, *taps = given["weight"].shape
    positions = expected["y"].size // out
    terms = {"y": np.prod(taps), "x": out * np.prod(taps[1:]), "weight": positions, "bias": positions}
    assert got.keys() == expected.keys()
    assert_exact(got, expected, terms, least=1e-3)


# channels, output channels, (time, height, width), kernel, options
GEOMETRIES = {
    "over time alone": (16, 32, (5, 4, 3), (3, 1, 1), {"padding": (1, 0, 0)}),
    "over time alone, stride 2": (3, 5, (7, 4, 3), (5, 1, 1), {"padding": (2, 0, 0), "stride": (2, 1, 1)}),
    "a point": (32, 16, (2, 5, 3), (1, 1, 1), {}),
    "a point, stride 2 in the plane": (32, 16, (3, 7, 4), (1, 1, 1), {"stride": (1, 2, 2)}),
    "the plane alone": (16, 16, (3, 6, 5), (1, 3, 3), {"padding": (0, 1, 1)}),
    "the plane alone, stride 2, odd": (17, 33, (3, 7, 9), (1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),
    "a cube": (16, 8, (4, 5, 6), (3, 3, 3), {"padding": 1}),
    "a stem": (3, 16, (6, 13, 10), (5, 7, 7), {"padding": (2, 3, 3), "stride": (2, 2, 2)}),
    "nothing alike": (5, 18, (6, 9, 7), (2, 4, 3), {"stride": (2, 3, 1), "padding": (0, 2, 1), "dilation": (2, 1, 3)}),
    "over time, padded in the plane": (4, 6, (4, 3, 2), (3, 1, 1), {"padding": (1, 1, 0)}),
    "one frame": (16, 16, (1, 4, 5), (3, 1, 1), {"padding": (1, 0, 0)}),
}
TINY = {  # that finite differences can be taken of
    "over time alone": ((2, 3, (4, 2, 3), (3, 1, 1)), {"padding": (1, 0, 0), "stride": (2, 1, 1)}),
    "over time alone, dilated": ((2, 2, (5, 1, 2), (2, 1, 1)), {"dilation": (3, 1, 1)}),
    "the plane alone": ((2, 2, (2, 4, 3), (1, 3, 2)), {"padding": (0, 1, 1), "stride": (1, 2, 1)}),
    "all three": ((1, 2, (3, 4, 3), (2, 3, 2)), {"padding": (1, 0, 1), "stride": (1, 2, 1)}),
}


def spread(options):
    return {name: (value,) * 3 if isinstance(value, int) else value for name, value in options.items()}


@pytest.mark.parametrize("shape, options", TINY.values(), ids=TINY)
def test_values_and_gradients_are_the_definitions(shape, options):
    arguments = {name: array.astype(np.float64) for name, array in arrays(*shape, images=1).items()}
    definition = lambda **values: reference.conv3d(**values, **options)  # noqa: E731
    op = lambda **values: conv3d(**values, **options, implementation="paddle")  # noqa: E731
    tensors = {name: paddle.to_tensor(array) for name, array in arguments.items()}
    np.testing.assert_allclose(op(**tensors).numpy(), definition(**arguments), rtol=1e-9, atol=1e-9)
    reference.check_gradients(op, definition, arguments)


@needs_onednn
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("images, bias", [(1, True), (3, False)])
def test_values_and_gradients_are_as_good_as_float32(geometry, images, bias):
    *shape, options = geometry
    given = arrays(*shape, images=images, bias=bias)
    check_exact(given, **options)
    definition = reference.conv3d(**given, **spread(options))
    tensors = {name: paddle.to_tensor(array) for name, array in given.items()}
    for implementation in ("native", "paddle"):
        y = conv3d(**tensors, **options, implementation=implementation)
        np.testing.assert_allclose(y.numpy(), definition, rtol=1e-4, atol=1e-3)


few = st.integers(1, 3)


@needs_onednn
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_random_geometries(data):
    kernel, stride, dilation = (data.draw(st.tuples(few, few, few), name) for name in ("kernel", "stride", "dilation"))
    padding = data.draw(st.tuples(*[st.integers(0, 2)] * 3), "padding")
    size = [
        max(1, dilation[axis] * (kernel[axis] - 1) + data.draw(few, "more") - 2 * padding[axis]) for axis in range(3)
    ]
    channels, out = (data.draw(st.sampled_from([1, 3, 16, 17, 32]), name) for name in ("channels", "out"))
    given = arrays(channels, out, size, kernel, images=data.draw(few, "images"), bias=data.draw(st.booleans(), "bias"))
    check_exact(given, stride=stride, padding=padding, dilation=dilation)


@needs_onednn
@pytest.mark.parametrize("learning", [["weight"], ["x"], ["x", "weight"]])
def test_only_what_learns_gets_a_gradient(learning):
    check_exact(arrays(16, 16, (3, 6, 5), (3, 1, 1)), learning, padding=(1, 0, 0))


def test_without_onednn_a_kernel_over_time_alone_is_computed_as_the_plane_that_it_is(monkeypatch):
    planes, run = [], F.conv2d
    monkeypatch.setattr(module.F, "conv2d", lambda x, *more: planes.append(x.shape) or run(x, *more))
    x = paddle.randn([2, 4, 6, 5, 3])
    for channels, options in (
        (2, {"padding": (1, 0, 0), "groups": 2}), (4, {"stride": (2, 1, 1), "dilation": (2, 1, 1)}),
    ):
        weight, bias = paddle.randn([6, channels, 3, 1, 1]), paddle.randn([6])
        y, expected = (function(x, weight, bias, **options) for function in (ours, F.conv3d))
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    assert planes == [[2, 4, 6, 15]] * 2
    for options in ({"padding": (1, 1, 0)}, {"stride": (1, 2, 1)}, {"padding": "SAME"}):
        assert ours(x, paddle.randn([7, 4, 3, 1, 1]), None, **options).ndim == 5
    assert len(planes) == 2


def ours(*arguments, **options):
    return conv3d(*arguments, **options, implementation="paddle")


@needs_onednn
def test_the_layer_is_paddles_and_gives_its_numbers():
    for options in (
        {"padding": 1}, {"stride": (2, 1, 1), "padding": (0, 2, 1), "bias_attr": False}, {"padding": "SAME"},
        {"groups": 2}, {"dilation": (1, 2, 1)},
    ):
        theirs, layer = nn.Conv3D(6, 4, 3, **options), Conv3D(6, 4, 3, **options)
        assert isinstance(layer, nn.Conv3D) and layer.state_dict().keys() == theirs.state_dict().keys()
        layer.set_state_dict(theirs.state_dict())
        x = paddle.randn([2, 6, 5, 8, 7])
        np.testing.assert_allclose(layer(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-4, err_msg=str(options))


@needs_onednn
def test_what_it_does_not_serve_goes_to_paddle(monkeypatch):
    names = used(monkeypatch)
    x, weight = paddle.randn([2, 4, 3, 6, 5]), paddle.randn([6, 4, 3, 3, 3])
    conv3d(x, weight, padding=1)
    assert names == ["conv"]
    for clip, kernel, options in (
        (x.astype("float64"), weight.astype("float64"), {}), (x, weight[:, :2], {"groups": 2}),
        (x, weight, {"padding": "SAME"}),
    ):
        assert conv3d(clip, kernel, **options).dtype == clip.dtype
        with pytest.raises(ValueError, match="'native' does not serve"):
            conv3d(clip, kernel, implementation="native", **options)
    with pytest.raises(ValueError):
        conv3d(paddle.randn([2, 4, 6, 5]), paddle.randn([6, 4, 3, 3]))
    assert names == ["conv"]
    with pytest.raises(ValueError, match="expected one of auto, native, paddle"):
        Conv3D(3, 4, 3, implementation="fast")


# What else I3D asks of Paddle on five dimensions.
POOLS = [((2, 3, 3), (2, 2, 2), (0, 0, 0)), ((1, 3, 3), (1, 2, 2), (0, 1, 1)), ((2, 1, 1), (2, 1, 1), (0, 0, 0))]


@pytest.mark.parametrize("window, stride, padding", POOLS)
def test_paddles_maximum_over_clips_is_the_definitions(window, stride, padding):
    arguments = {"x": np.random.default_rng(0).permutation(2 * 5 * 6 * 4).reshape(1, 2, 5, 6, 4) / 50.0}
    op = lambda x: F.max_pool3d(x, window, stride, padding)  # noqa: E731
    definition = lambda x: reference.pool3d(x, window, stride, padding, np.max)  # noqa: E731
    np.testing.assert_array_equal(op(paddle.to_tensor(arguments["x"])).numpy(), definition(**arguments))
    reference.check_gradients(op, definition, arguments)


def test_paddles_mean_over_clips_is_the_definitions():
    arguments = {"x": np.random.default_rng(0).normal(size=(2, 2, 4, 3, 5))}
    op = lambda x: F.avg_pool3d(x, (2, 3, 4), 1)  # noqa: E731
    definition = lambda x: reference.pool3d(x, (2, 3, 4), (1, 1, 1), (0, 0, 0), np.mean)  # noqa: E731
    np.testing.assert_allclose(op(paddle.to_tensor(arguments["x"])).numpy(), definition(**arguments), atol=1e-12)
    reference.check_gradients(op, definition, arguments)
