"""Deformable convolution against its definition, its limits, and where its layer starts."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import reference
from conftest import here
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.deform_conv import IMPLEMENTATIONS, DeformConv2D, bilinear_sample, deform_conv2d, sampling_points

every_implementation = pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
every_version = pytest.mark.parametrize("version", [1, 2])

# channels in, channels out, height, width, kernel, and what else the call takes; nothing square and nothing equal
GEOMETRIES = {
    "plain": (3, 4, 5, 4, (3, 2), {}),
    "stride": (3, 4, 7, 5, (3, 2), {"stride": (2, 1)}),
    "padding": (3, 4, 4, 3, (3, 2), {"padding": (1, 2)}),
    "dilation": (3, 4, 6, 7, (3, 2), {"dilation": (2, 3)}),
    "groups": (4, 6, 5, 4, (3, 2), {"groups": 2}),
    "deformable groups": (6, 3, 5, 4, (2, 3), {"deformable_groups": 3}),
    "all": (6, 8, 7, 5, (3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 3), "groups": 2,
                                 "deformable_groups": 2}),
    "deformable groups that do not divide the output": (4, 3, 5, 4, (1, 2), {"deformable_groups": 2}),
}
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


def example(channels, out_channels, height, width, kernel, options, images=2, version=2, spread=2.0, seed=0):
    """The op's arrays by name, float64. Offsets stay clear of whole pixels, where bilinear sampling has a kink."""
    rng = np.random.default_rng(seed)
    stride, padding, dilation = (options.get(name, default) for name, default in (
        ("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1))
    ))
    out = [
        (size + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis, size in enumerate((height, width))
    ]
    taps = options.get("deformable_groups", 1) * kernel[0] * kernel[1]
    offset = rng.normal(scale=spread, size=[images, 2 * taps, *out])
    arrays = {
        "x": rng.normal(size=[images, channels, height, width]),
        "offset": np.floor(offset) + rng.uniform(0.1, 0.9, size=offset.shape),
        "weight": rng.normal(size=[out_channels, channels // options.get("groups", 1), *kernel]),
        "bias": rng.normal(size=out_channels),
    }
    if version == 2:
        arrays["mask"] = rng.uniform(0, 2, size=[images, taps, *out])
    return arrays


def tensors(arrays, dtype="float64"):
    return {name: paddle.to_tensor(array).astype(dtype) for name, array in arrays.items()}


@every_implementation
@every_geometry
@every_version
def test_matches_the_definition(implementation, geometry, version):
    arrays, options = example(*geometry, version=version), geometry[-1]
    y = deform_conv2d(**tensors(arrays), **options, implementation=implementation)
    np.testing.assert_allclose(y.numpy(), reference.deform_conv2d(**arrays, **options), atol=1e-10)


@every_implementation
def test_matches_the_definition_in_float32_and_without_bias(implementation):
    geometry = GEOMETRIES["all"]
    arrays, options = example(*geometry), geometry[-1]
    del arrays["bias"]
    y = deform_conv2d(**tensors(arrays, "float32"), **options, implementation=implementation)
    assert y.dtype == paddle.float32
    np.testing.assert_allclose(y.numpy(), reference.deform_conv2d(**arrays, **options), atol=1e-4)


@every_implementation
@pytest.mark.parametrize("dtype, tolerance", [("float16", 5e-3), ("bfloat16", 4e-2)])
def test_half_precision_samples_in_float32(implementation, dtype, tolerance):
    geometry = GEOMETRIES["all"]
    arrays, options = tensors(example(*geometry), dtype), geometry[-1]
    y = deform_conv2d(**arrays, **options, implementation=implementation)
    assert y.dtype == arrays["x"].dtype
    exact = {name: tensor.astype("float64").numpy() for name, tensor in arrays.items()}
    expected = reference.deform_conv2d(**exact, **options)
    np.testing.assert_allclose(y.astype("float64").numpy(), expected, rtol=tolerance, atol=tolerance)


SMALL = {
    "v1": (1, (2, 3, 4, 3, (2, 1), {})),
    "v2": (2, (2, 3, 3, 4, (1, 2), {"dilation": (1, 2)})),
    "v2, all options": (2, (4, 6, 4, 3, (3, 2), {"stride": (2, 1), "padding": (1, 0), "groups": 2,
                                                 "deformable_groups": 2})),
    "v2, odd output": (2, (4, 3, 3, 2, (2, 1), {"padding": (0, 1), "deformable_groups": 2})),
}


@every_implementation
@pytest.mark.parametrize("version, geometry", SMALL.values(), ids=SMALL)
def test_gradients(implementation, version, geometry):
    options = geometry[-1]
    reference.check_gradients(
        lambda **arguments: deform_conv2d(**arguments, **options, implementation=implementation),
        lambda **arguments: reference.deform_conv2d(**arguments, **options),
        example(*geometry, version=version, spread=1.0),
    )


@pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
@pytest.mark.parametrize("alone", ["x", "offset", "weight", "bias", "mask"])
def test_each_argument_may_learn_alone(implementation, alone):
    geometry = GEOMETRIES["all"]
    gradients = []
    for learning in (None, alone):
        arguments = tensors(example(*geometry))
        for name, tensor in arguments.items():
            tensor.stop_gradient = learning not in (None, name)
        (deform_conv2d(**arguments, **geometry[-1], implementation=implementation) ** 3).sum().backward()
        gradients.append(arguments[alone].grad.numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-12)


@every_implementation
def test_by_hand(implementation):
    # Two taps side by side, weighed 1 and 100, slide over a picture of two rows and three columns.
    x = paddle.to_tensor([[[[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]]], dtype="float64")
    weight = paddle.to_tensor([[[[1.0, 100.0]]]], dtype="float64")
    offset, mask = np.zeros([1, 4, 2, 2]), np.ones([1, 2, 2, 2])  # channels: dy and dx of tap 0, dy and dx of tap 1
    offset[0, 0, 0, 0] = 0.5  # top left output: tap 0 half a row down sees 5,
    offset[0, 3, 0, 0] = 0.25  # tap 1 a quarter of a column to the right sees 1.25
    offset[0, 2, 0, 1] = -0.25  # top right output: tap 1 a quarter of a row above the border sees 0.75 * 2
    mask[0, 1, 1, 1] = 0.5  # bottom right output: half of tap 1
    arguments = tensors({"offset": offset, "mask": mask, "bias": [1000.0]})
    y = deform_conv2d(x, weight=weight, **arguments, implementation=implementation)
    np.testing.assert_allclose(y.numpy(), [[[[1130.0, 1151.0], [2110.0, 1611.0]]]], atol=1e-10)


@every_implementation
@every_geometry
@every_version
def test_zero_offsets_and_a_mask_of_one_are_the_convolution(implementation, geometry, version):
    arrays, options = example(*geometry, version=version), dict(geometry[-1])
    arrays["offset"] *= 0
    if version == 2:
        arrays["mask"] = np.ones_like(arrays["mask"])
    arguments = tensors(arrays)
    y = deform_conv2d(**arguments, **options, implementation=implementation)
    options.pop("deformable_groups", None)
    expected = F.conv2d(arguments["x"], arguments["weight"], arguments["bias"], **options)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-10)


@every_implementation
def test_a_whole_offset_shifts_the_picture(implementation):
    # The first deformable group (channels 0 and 1) looks 2 rows down and 1 column left, the second 1 row up.
    arrays = example(4, 6, 7, 5, (3, 2), {"groups": 2, "deformable_groups": 2}, version=1)
    arrays["offset"][:, 0:12:2], arrays["offset"][:, 1:12:2] = 2, -1
    arrays["offset"][:, 12::2], arrays["offset"][:, 13::2] = -1, 0
    shifted = np.zeros_like(arrays["x"])
    shifted[:, :2, :-2, 1:] = arrays["x"][:, :2, 2:, :-1]
    shifted[:, 2:, 1:, :] = arrays["x"][:, 2:, :-1, :]
    arguments = tensors(arrays)
    y = deform_conv2d(**arguments, groups=2, deformable_groups=2, implementation=implementation)
    expected = F.conv2d(paddle.to_tensor(shifted), arguments["weight"], arguments["bias"], groups=2)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-10)


@every_implementation
@pytest.mark.parametrize(
    "point_y, point_x, expected",
    [
        (-0.5, 0, 0.5 * 1), (-0.5, -0.5, 0.25 * 1), (0, -0.75, 0.25 * 1), (2.5, 1, 0.5 * 32), (2, 1.25, 0.75 * 32),
        (2.5, 1.5, 0.25 * 32), (-0.5, 0.5, 0.25 * (1 + 2)), (1.5, -0.5, 0.25 * (4 + 16)), (1.5, 1.5, 0.25 * (8 + 32)),
        (-1, 0, 0), (0, -1, 0), (3, 1, 0), (2, 2, 0), (-1.5, 0, 0), (0, -1.5, 0), (3.5, 1, 0), (2, 2.5, 0),
        (0.5, 2.5, 0), (4.5, 0.5, 0), (-1e6, 0.5, 0), (1, 1e6, 0),
    ],
)
def test_points_beyond_the_border(implementation, point_y, point_x, expected):
    x = paddle.to_tensor([[[[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]]]])
    offset = np.zeros([1, 2, 3, 2], "float32")
    offset[0, :, 1, 0] = point_y - 1, point_x  # the output of row 1 and column 0 looks at the point
    y = deform_conv2d(x, paddle.to_tensor(offset), paddle.ones([1, 1, 1, 1]), implementation=implementation)
    np.testing.assert_allclose(y.numpy(), [[[[1.0, 2.0], [expected, 8.0], [16.0, 32.0]]]], atol=1e-6)


# Along an axis of pixels 2, 5, 11: the slope towards larger coordinates, and none from a whole pixel outside on.
SLOPES = {-2: 0, -1.5: 0, -1: 0, -0.5: 2, 0: 3, 0.5: 3, 1: 6, 2: -11, 2.5: -11, 3: 0, 3.5: 0}


@every_implementation
@every_version
@pytest.mark.parametrize("axis", [0, 1])
def test_the_gradient_of_offsets_where_sampling_has_a_kink(implementation, version, axis):
    picture = np.array([2.0, 5.0, 11.0]).reshape([1, 1, 3, 1] if axis == 0 else [1, 1, 1, 3])
    found = {}
    for point in SLOPES:
        offset = np.zeros([1, 2, *picture.shape[2:]])
        offset[0, axis].flat[0] = point
        offset = paddle.to_tensor(offset, stop_gradient=False)
        mask = paddle.ones([1, 1, *picture.shape[2:]], "float64") if version == 2 else None
        weight = paddle.ones([1, 1, 1, 1], "float64")
        if version == 2:
            mask.stop_gradient = False  # Paddle's kernel wants the gradients of both
        y = deform_conv2d(paddle.to_tensor(picture), offset, weight, mask=mask, implementation=implementation)
        y.flatten()[0].backward()
        found[point] = float(offset.grad[0, axis].flatten()[0])
    assert found == SLOPES


@every_implementation
@every_version
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9])
def test_offsets_that_lead_nowhere_are_seen_and_harmless(implementation, version, value):
    arrays = tensors(example(*GEOMETRIES["all"], version=version), "float32")
    plain = deform_conv2d(**arrays, **GEOMETRIES["all"][-1], implementation=implementation).numpy()
    offset = arrays["offset"].numpy()
    offset[1, :4, 0, 0] = value
    arrays["offset"] = paddle.to_tensor(offset)
    with paddle.no_grad():
        alone = deform_conv2d(**arrays, **GEOMETRIES["all"][-1], implementation=implementation).numpy()
    for array in arrays.values():
        array.stop_gradient = False
    y = deform_conv2d(**arrays, **GEOMETRIES["all"][-1], implementation=implementation)
    y.sum().backward()
    assert np.isfinite(y.numpy()[1, :, 0, 0]).all() == np.isfinite(value)
    np.testing.assert_array_equal(alone, y.numpy())
    np.testing.assert_array_equal(np.delete(y.numpy()[1], 0, axis=1), np.delete(plain[1], 0, axis=1))
    np.testing.assert_array_equal(y.numpy()[0], plain[0])
    if np.isfinite(value):
        assert all(np.isfinite(array.grad.numpy()).all() for array in arrays.values())
        assert not arrays["offset"].grad.numpy()[1, :4, 0, 0].any()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_implementations_agree_on_random_geometries(data):
    few = st.integers(1, 3)
    groups, deformable_groups = data.draw(few, "groups"), data.draw(few, "deformable groups")
    kernel, stride, dilation = (data.draw(st.tuples(few, few), name) for name in ("kernel", "stride", "dilation"))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)), "padding")
    height, width = (dilation[axis] * (kernel[axis] - 1) + data.draw(st.integers(1, 4), "more") for axis in (0, 1))
    options = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "deformable_groups": deformable_groups,
    }
    arrays = example(
        groups * deformable_groups * data.draw(few, "channels"), groups * data.draw(few, "out"), height, width, kernel,
        options, images=data.draw(few, "images"), version=data.draw(st.sampled_from([1, 2]), "version"),
    )
    outcomes = {}
    for implementation in here(IMPLEMENTATIONS):
        arguments = tensors(arrays)
        for tensor in arguments.values():
            tensor.stop_gradient = False
        y = deform_conv2d(**arguments, **options, implementation=implementation)
        (y**2).sum().backward()
        outcomes[implementation] = {"y": y, **{name: tensor.grad for name, tensor in arguments.items()}}
    for implementation, outcome in outcomes.items():
        for name, value in outcomes["composed"].items():
            np.testing.assert_allclose(
                outcome[name].numpy(), value.numpy(), rtol=1e-8, atol=1e-8, err_msg=f"{implementation}: {name}"
            )


def test_sampling_points_by_hand():
    # Kernel (2, 3), stride (2, 1), padding (1, 2), dilation (1, 3); output row 1, column 2, two deformable groups.
    offset = np.zeros([1, 24, 3, 4])
    offset[0, :, 1, 2] = np.arange(24) / 100
    y, x = sampling_points(paddle.to_tensor(offset), (2, 3), (2, 1), (1, 2), (1, 3))
    assert list(y.shape) == list(x.shape) == [1, 2, 6, 3, 4]
    rows, columns = [1, 1, 1, 2, 2, 2], [0, 3, 6, 0, 3, 6]
    np.testing.assert_allclose(y[0, 0, :, 1, 2].numpy(), rows + np.arange(0, 12, 2) / 100, atol=1e-12)
    np.testing.assert_allclose(x[0, 0, :, 1, 2].numpy(), columns + np.arange(1, 12, 2) / 100, atol=1e-12)
    np.testing.assert_allclose(y[0, 1, :, 1, 2].numpy(), rows + np.arange(12, 24, 2) / 100, atol=1e-12)
    np.testing.assert_allclose(x[0, 1, :, 1, 2].numpy(), columns + np.arange(13, 24, 2) / 100, atol=1e-12)


def test_bilinear_sample_matches_the_sum_over_all_pixels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=[2, 6, 4, 3])
    y_points, x_points = rng.uniform(-2, 6, size=[2, 2, 2, 5, 3, 7])  # 2 images, 2 groups, 5 taps, 3 x 7 outputs
    sampled = bilinear_sample(*(paddle.to_tensor(array) for array in (x, y_points, x_points))).numpy()
    assert sampled.shape == (2, 6, 5, 3, 7)
    for image, part, tap, row, column in np.ndindex(y_points.shape):
        members = slice(3 * part, 3 * part + 3)
        point = image, part, tap, row, column
        expected = reference.bilinear(x[image, members], y_points[point], x_points[point])
        np.testing.assert_allclose(sampled[image, members, tap, row, column], expected, atol=1e-12)


def test_auto_is_the_first_implementation_that_runs_here():
    geometry = GEOMETRIES["plain"]
    arguments = tensors(example(*geometry))
    first = here(IMPLEMENTATIONS)[0]
    y, expected = deform_conv2d(**arguments), deform_conv2d(**arguments, implementation=first)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


def layer_and_picture(*arguments, height=7, width=6, **options):
    layer = DeformConv2D(*arguments, **options)
    x = np.random.default_rng(0).normal(size=[2, layer.offset.weight.shape[1], height, width])
    if layer.bias is not None:
        layer.bias.set_value(np.linspace(-1, 1, layer.bias.shape[0]).astype("float32"))
    return layer, paddle.to_tensor(x.astype("float32"))


@every_implementation
@pytest.mark.parametrize("options", [{"version": 1}, {"version": 2}, {"version": 2, "modulation": "2sigmoid"}], ids=str)
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2,
         "bias_attr": False},
        {"kernel_size": (1, 2), "deformable_groups": 2, "stride": 2},
    ],
    ids=str,
)
def test_layer_starts_as_the_plain_convolution(implementation, options, arguments):
    layer, x = layer_and_picture(4, 6, **arguments, **options, implementation=implementation)
    plain = paddle.nn.Conv2D(4, 6, **{name: value for name, value in arguments.items() if "deform" not in name})
    own = {name: value for name, value in layer.state_dict().items() if not name.startswith("offset.")}
    missing, unexpected = plain.set_state_dict(own)
    assert not missing and not unexpected and (layer.bias is None) == ("bias_attr" in arguments)
    np.testing.assert_allclose(layer(x).numpy(), plain(x).numpy(), atol=1e-5)


@every_implementation
def test_layer_with_the_papers_sigmoid_starts_at_half(implementation):
    layer, x = layer_and_picture(4, 6, (3, 2), padding=(1, 0), modulation="sigmoid", implementation=implementation)
    plain = F.conv2d(x, layer.weight, padding=(1, 0)).numpy()
    np.testing.assert_allclose(layer(x).numpy(), plain / 2 + layer.bias.numpy().reshape([6, 1, 1]), atol=1e-5)


def test_layer_takes_the_start_of_a_plain_convolutions_weight():
    constant = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.25))
    layer = DeformConv2D(4, 6, (3, 2), weight_attr=constant)
    np.testing.assert_array_equal(layer.weight.numpy(), np.full([6, 4, 3, 2], 0.25, "float32"))
    np.testing.assert_array_equal(layer.offset.weight.numpy(), 0)


@every_implementation
@every_version
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("tap", range(6))
@pytest.mark.parametrize("axis", [0, 1])
def test_branch_holds_dy_and_dx_for_each_tap_in_row_major_order(implementation, version, part, tap, axis):
    layer, x = layer_and_picture(
        4, 6, (3, 2), version=version, deformable_groups=2, height=8, width=7, implementation=implementation
    )
    before = layer(x).numpy()
    branch_bias = np.zeros(layer.offset.bias.shape, "float32")
    branch_bias[(part * 6 + tap) * 2 + axis] = 1
    layer.offset.bias.set_value(branch_bias)
    # One tap of half of the channels now looks one pixel further down (axis 0) or right (axis 1).
    row, column = divmod(tap, 2)
    pictures = np.pad(x.numpy(), [(0, 0), (0, 0), (0, 1), (0, 1)])[:, 2 * part : 2 * part + 2]
    seen = pictures[:, :, row : row + 6, column : column + 6]
    row, column = row + (axis == 0), column + (axis == 1)
    moved = pictures[:, :, row : row + 6, column : column + 6]
    kernel = layer.weight.numpy()[:, 2 * part : 2 * part + 2, tap // 2, tap % 2]
    change = np.einsum("oc,nchw->nohw", kernel, moved - seen)
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(layer(x).numpy() - before, change, atol=1e-5)


@every_implementation
@pytest.mark.parametrize("modulation, before, after", [("2sigmoid", 1.0, 2.0), ("sigmoid", 0.5, 1.0)])
@pytest.mark.parametrize("channel", [0, 4, 7, 11])
def test_branch_holds_the_modulation_after_the_offsets(implementation, modulation, before, after, channel):
    layer, x = layer_and_picture(
        4, 6, (3, 2), modulation=modulation, deformable_groups=2, implementation=implementation
    )
    start = layer(x).numpy()
    branch_bias = np.zeros(layer.offset.bias.shape, "float32")
    branch_bias[24 + channel] = 50  # wide open
    layer.offset.bias.set_value(branch_bias)
    part, tap = divmod(channel, 6)
    row, column = divmod(tap, 2)
    seen = x.numpy()[:, 2 * part : 2 * part + 2, row : row + 5, column : column + 5]
    kernel = layer.weight.numpy()[:, 2 * part : 2 * part + 2, row, column]
    change = np.einsum("oc,nchw->nohw", kernel, seen) * (after - before)
    np.testing.assert_allclose(layer(x).numpy() - start, change, atol=1e-5)


@every_implementation
@every_version
def test_branch_is_a_convolution_of_the_same_geometry_and_learns(implementation, version):
    layer, x = layer_and_picture(
        4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3), version=version, implementation=implementation
    )
    offset, mask = layer.offset_and_mask(x)
    positions = list(F.conv2d(x, layer.weight, stride=(2, 1), padding=(1, 2), dilation=(1, 3)).shape[2:])
    assert list(offset.shape) == [2, 12, *positions]
    assert mask is None if version == 1 else list(mask.shape) == [2, 6, *positions]
    optimizer = paddle.optimizer.SGD(0.1, parameters=layer.parameters())
    (layer(x) ** 2).mean().backward()
    optimizer.step()
    learnt = np.abs(layer.offset.weight.numpy()).max(axis=(1, 2, 3))  # by output channel of the branch
    assert learnt.shape == ((version + 1) * 6,) and (learnt > 1e-5).all()
    expected = F.conv2d(x, layer.offset.weight, layer.offset.bias, stride=(2, 1), padding=(1, 2), dilation=(1, 3))
    offset, mask = layer.offset_and_mask(x)
    np.testing.assert_allclose(offset.numpy(), expected.numpy()[:, :12], atol=1e-6)
    if version == 2:
        np.testing.assert_allclose(mask.numpy(), 2 / (1 + np.exp(-expected.numpy()[:, 12:])), atol=1e-6)


def test_layer_runs_the_implementation_it_was_given(monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS, "spy", lambda x, *_: x + 1)
    layer = DeformConv2D(4, 6, (3, 2), implementation="spy")
    np.testing.assert_array_equal(layer(paddle.ones([2, 4, 6, 5])).numpy(), 2)


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("offset", [2, 12, 4, 4], [2, 24, 4, 4]),
        ("offset", [2, 24, 4, 5], [2, 24, 4, 4]),
        ("offset", [1, 24, 4, 4], [2, 24, 4, 4]),
        ("mask", [2, 24, 4, 4], [2, 12, 4, 4]),
        ("mask", [2, 12, 3, 4], [2, 12, 4, 4]),
        ("bias", [4], [6]),
        ("bias", [1], [6]),
    ],
)
def test_wrong_shapes(name, shape, expected):
    arrays = {
        "x": np.zeros([2, 4, 7, 4]), "offset": np.zeros([2, 24, 4, 4]), "weight": np.zeros([6, 2, 3, 2]),
        "bias": np.zeros([6]), "mask": np.zeros([2, 12, 4, 4]),
    }
    options = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 2), "groups": 2, "deformable_groups": 2}
    assert list(deform_conv2d(**tensors(arrays), **options).shape) == [2, 6, 4, 4]  # it was right before
    arrays[name] = np.zeros(shape)
    with pytest.raises(ValueError) as error:
        deform_conv2d(**tensors(arrays), **options)
    assert f"{name} has shape {shape}, expected {expected}" in str(error.value)


@pytest.mark.parametrize("weight, groups", [([6, 4, 3, 2], 2), ([6, 2, 3, 2], 1), ([3, 2, 3, 2], 2), ([6, 4, 3, 2], 0)])
def test_weight_must_fit_the_channels_and_groups(weight, groups):
    with pytest.raises(ValueError) as error:
        deform_conv2d(paddle.zeros([2, 4, 7, 4]), paddle.zeros([2, 12, 5, 3]), paddle.zeros(weight), groups=groups)
    assert f"weight {weight} does not fit 4 channels in {groups} groups" in str(error.value)


@pytest.mark.parametrize("deformable_groups", [3, 0])
def test_deformable_groups_must_divide_the_channels(deformable_groups):
    with pytest.raises(ValueError, match=f"{deformable_groups} deformable groups do not divide 4 channels"):
        deform_conv2d(
            paddle.zeros([2, 4, 7, 4]), paddle.zeros([2, 36, 5, 3]), paddle.zeros([6, 4, 3, 2]),
            deformable_groups=deformable_groups,
        )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"version": 3}, "version 3, expected 1 or 2"),
        ({"modulation": "tanh"}, "'tanh', expected one of .*2sigmoid.*sigmoid"),
        ({"deformable_groups": 3}, "3 deformable groups do not divide 4 channels"),
        ({"implementation": "fast"}, "'fast': expected one of auto, .*composed"),
    ],
)
def test_layer_refuses_wrong_settings(options, message):
    with pytest.raises(ValueError, match=message):
        DeformConv2D(4, 6, 3, **options)


def test_unknown_implementation():
    with pytest.raises(ValueError, match="'fast': expected one of auto, .*composed"):
        deform_conv2d(**tensors(example(*GEOMETRIES["plain"])), implementation="fast")
