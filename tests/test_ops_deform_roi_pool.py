"""Deformable RoI pooling and its position-sensitive form against definition and limits, and where the layers start."""

import sys

import numpy as np
import paddle
import pytest
import reference
import reference_roi
from conftest import here
from paddle.vision.ops import psroi_pool, roi_align

from ops import DeformPSRoIPool, DeformRoIPool, deform_ps_roi_pool, deform_roi_pool
from ops.deform_roi_pool import IMPLEMENTATIONS, bin_points

every_implementation = pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
every_version = pytest.mark.parametrize("version", [1, 2])

# op, definition, channels, boxes of each image, bins, and what else the call takes; nothing square and nothing equal
CASES = {
    "plain": (deform_roi_pool, reference_roi.deform_roi_pool, 2, (2, 0, 3), (3, 2), {}),
    "plain, all settings": (
        deform_roi_pool, reference_roi.deform_roi_pool, 3, (1, 4), (2, 3),
        {"spatial_scale": 0.25, "sampling_ratio": 3, "gamma": 0.3},
    ),
    "plain, one image, one sample": (
        deform_roi_pool, reference_roi.deform_roi_pool, 2, (3,), (1, 4), {"sampling_ratio": 1, "spatial_scale": 0.5},
    ),
    "position-sensitive": (deform_ps_roi_pool, reference_roi.deform_ps_roi_pool, 12, (1, 0, 2), (3, 2), {}),
    "position-sensitive, all settings": (
        deform_ps_roi_pool, reference_roi.deform_ps_roi_pool, 12, (1, 2), (1, 3),
        {"spatial_scale": 0.25, "sampling_ratio": 3, "gamma": 0.3, "deformable_groups": 2},
    ),
    "position-sensitive, offsets of each class": (
        deform_ps_roi_pool, reference_roi.deform_ps_roi_pool, 6, (0, 2), (2, 1), {"deformable_groups": 3},
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def example(channels, boxes_num, bins, options, *, height=7, width=9, spread=1.5, seed=0):
    """The arrays by name, float64, those that learn and those that do not; some boxes leave the picture."""
    rng = np.random.default_rng(seed)
    found, groups, scale = sum(boxes_num), options.get("deformable_groups", 1), options.get("spatial_scale", 1)
    corner = rng.uniform([-2, -2], [width - 3, height - 3], size=[found, 2])
    size = rng.uniform([1.5, 1], [width - 2, height - 1], size=[found, 2])
    learning = {
        "x": rng.normal(size=[len(boxes_num), channels, height, width]),
        "offset": rng.normal(scale=spread, size=[found, 2 * groups, *bins]),
        "mask": rng.uniform(0, 2, size=[found, groups, *bins]),
    }
    boxes = np.concatenate([corner, corner + size], axis=1) / scale
    return learning, {"boxes": boxes, "boxes_num": np.array(boxes_num)}


def tensors(arrays, dtype="float64"):
    dtypes = {"boxes_num": "int32"}
    return {name: paddle.to_tensor(array).astype(dtypes.get(name, dtype)) for name, array in arrays.items()}


@every_case
@every_implementation
@pytest.mark.parametrize("without", [(), ("mask",), ("offset",), ("offset", "mask")], ids=str)
def test_matches_the_definition(case, without, implementation):
    op, definition, channels, boxes_num, bins, options = case
    learning, fixed = example(channels, boxes_num, bins, options)
    arrays = {name: array for name, array in {**learning, **fixed}.items() if name not in without}
    y = op(**tensors(arrays), output_size=bins, implementation=implementation, **options)
    np.testing.assert_allclose(y.numpy(), definition(**arrays, output_size=bins, **options), atol=1e-12)


@every_case
def test_matches_the_definition_in_float32(case):
    op, definition, channels, boxes_num, bins, options = case
    learning, fixed = example(channels, boxes_num, bins, options)
    y = op(**tensors({**learning, **fixed}, "float32"), output_size=bins, **options)
    assert y.dtype == paddle.float32
    np.testing.assert_allclose(y.numpy(), definition(**learning, **fixed, output_size=bins, **options), atol=1e-5)


@every_case
@pytest.mark.parametrize("dtype, tolerance", [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_half_precision_samples_in_float32(case, dtype, tolerance):
    op, definition, channels, boxes_num, bins, options = case
    learning, fixed = example(channels, boxes_num, bins, options)
    arrays = tensors({**learning, **fixed}, dtype)
    arrays["boxes"] = arrays["boxes"].astype("float32")  # 16 bits beside 32
    arrays["x"].stop_gradient = arrays["offset"].stop_gradient = False
    y = op(**arrays, output_size=bins, **options)
    assert y.dtype == arrays["x"].dtype
    exact = {name: array.astype("float64").numpy() for name, array in arrays.items() if name != "boxes_num"}
    expected = definition(**exact, boxes_num=boxes_num, output_size=bins, **options)
    np.testing.assert_allclose(y.astype("float64").numpy(), expected, rtol=tolerance, atol=tolerance)
    y.astype("float32").sum().backward()
    assert arrays["x"].grad.dtype == arrays["x"].dtype and arrays["offset"].grad.dtype == arrays["x"].dtype


@every_case
@every_implementation
def test_gradients(case, implementation):
    op, definition, channels, boxes_num, bins, options = case
    options = {**options, "sampling_ratio": min(2, options.get("sampling_ratio", 2))}
    learning, fixed = example(channels, boxes_num, bins, options, height=3, width=4)
    given = tensors(fixed)
    reference.check_gradients(
        lambda **arguments: op(**arguments, **given, output_size=bins, implementation=implementation, **options),
        lambda **arguments: definition(**arguments, **fixed, output_size=bins, **options), learning,
    )


@every_case
def test_the_kernel_is_the_composition_wherever_points_lie(case):
    """On centres, far away, at infinity; values and gradients. At 0 the derivative jumps, and Paddles differ."""
    op, _, channels, boxes_num, bins, options = case
    learning, fixed = example(channels, boxes_num, bins, options, spread=40)
    scale = options.get("spatial_scale", 1)
    fixed["boxes"][0] = np.array([1, 1, 1 + 2 * bins[1], 1 + 2 * bins[0]]) / scale  # of two samples each on a centre
    learning["offset"].ravel()[::17] = np.inf
    learning["offset"].ravel()[1::3] = 0
    found = []
    for implementation in here(IMPLEMENTATIONS):
        arrays = tensors({**learning, **fixed})
        for name in learning:
            arrays[name].stop_gradient = False
        y = op(**arrays, output_size=bins, implementation=implementation, **options)
        (y * paddle.to_tensor(np.random.default_rng(1).normal(size=y.shape))).sum().backward()
        found.append([y.numpy(), *(arrays[name].grad.numpy() for name in learning)])
    assert np.isfinite(found[0][0]).all()
    for one, other in zip(found[0], found[-1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


@every_case
def test_no_gradient_reaches_the_boxes_and_none_is_kept_without_need(case):
    op, _, channels, boxes_num, bins, options = case
    learning, fixed = example(channels, boxes_num, bins, options)
    arrays = tensors({**learning, **fixed})
    arrays["boxes"].stop_gradient = arrays["offset"].stop_gradient = False
    y = op(**arrays, output_size=bins, **options)
    y.sum().backward()
    assert arrays["boxes"].grad is None and np.abs(arrays["offset"].grad.numpy()).max() > 0
    with paddle.no_grad():
        again = op(**arrays, output_size=bins, **options)
    assert again.stop_gradient
    np.testing.assert_array_equal(again.numpy(), y.numpy())


def test_by_hand():
    # Two bins side by side in a box of two pixels by two, one sample in each: the centre of the bin, between two rows.
    x = paddle.to_tensor([[[[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]]], dtype="float64")
    boxes, boxes_num = paddle.to_tensor([[0.0, 0.0, 2.0, 2.0]], dtype="float64"), paddle.to_tensor([1], dtype="int32")
    offset, mask = np.zeros([1, 2, 1, 2]), np.ones([1, 1, 1, 2])
    given = {"output_size": (1, 2), "sampling_ratio": 1}
    y = deform_roi_pool(x, boxes, boxes_num, **given)
    np.testing.assert_allclose(y.numpy(), [[[[5.0, 6.0]]]], atol=1e-12)
    offset[0, 0, 0, 1] = 2.5  # the right bin moves 0.1 * 2.5 * 2 = half a pixel to the right: + 0.5
    offset[0, 1, 0, 0] = 1.25  # the left bin a quarter of a pixel down: + 2.5
    mask[0, 0, 0, 1] = 2
    y = deform_roi_pool(x, boxes, boxes_num, **given, **tensors({"offset": offset, "mask": mask}))
    np.testing.assert_allclose(y.numpy(), [[[[7.5, 13.0]]]], atol=1e-12)
    offset[0, 1, 0, 0] = -2.5  # half a pixel up: on the centres of the first row
    boxes *= 2  # the same box in a picture of twice the size
    y = deform_roi_pool(x, boxes, boxes_num, **given, **tensors({"offset": offset}), spatial_scale=0.5)
    np.testing.assert_allclose(y.numpy(), [[[[0.0, 6.5]]]], atol=1e-12)


def test_position_sensitive_by_hand():
    # Two classes, two bins one above the other, so four maps: each has a level of its own and rises to the right.
    level, rise = np.array([100.0, 200.0, 300.0, 400.0]).reshape([1, 4, 1, 1]), np.arange(5.0)
    x = paddle.to_tensor(level + rise + np.zeros([1, 4, 3, 5]))
    boxes, boxes_num = paddle.to_tensor([[1.0, 0.0, 4.0, 3.0]], dtype="float64"), paddle.to_tensor([1], dtype="int32")
    offset = np.zeros([1, 4, 2, 1])
    offset[0, 2, 1, 0] = 1  # the second class's lower bin moves 0.1 * 3 to the right
    plain = deform_ps_roi_pool(x, boxes, boxes_num, (2, 1))
    np.testing.assert_allclose(plain.numpy()[0, :, :, 0], [[102, 202], [302, 402]], atol=1e-12)
    y = deform_ps_roi_pool(x, boxes, boxes_num, (2, 1), **tensors({"offset": offset}), deformable_groups=2)
    np.testing.assert_allclose(y.numpy()[0, :, :, 0], [[102, 202], [302, 402.3]], atol=1e-12)


def test_bin_points_by_hand():
    boxes = paddle.to_tensor([[2.0, 4.0, 10.0, 16.0]], dtype="float64")
    y, x = bin_points(boxes, (3, 2), spatial_scale=0.5)  # rows 2 to 8, columns 1 to 5, less half a pixel
    np.testing.assert_allclose(y.numpy().ravel(), [2, 3, 4, 5, 6, 7], atol=1e-12)
    np.testing.assert_allclose(x.numpy().ravel(), [1, 2, 3, 4], atol=1e-12)
    offset = np.arange(12.0).reshape([1, 2, 3, 2])
    moved_y, moved_x = bin_points(boxes, (3, 2), paddle.to_tensor(offset), 0.5)
    assert list(moved_y.shape) == list(moved_x.shape) == [1, 1, 3, 2, 2]
    np.testing.assert_allclose(moved_y.numpy()[0, 0], y.numpy()[0, 0] + 0.6 * offset[0, 1, ..., None], atol=1e-12)
    np.testing.assert_allclose(moved_x.numpy()[0, 0], x.numpy()[0, 0] + 0.4 * offset[0, 0, ..., None], atol=1e-12)


def plain_of_each_bin(x, boxes, boxes_num, bins, **settings):
    """Plain position-sensitive RoI pooling: roi_align of every map, and of each that bin which it belongs to."""
    pooled = roi_align(x, boxes, boxes_num, bins, **settings).numpy()
    kh, kw = bins
    pooled = pooled.reshape([len(pooled), -1, kh, kw, kh, kw])
    return np.einsum("rcijij->rcij", pooled)


@every_case
def test_zero_offsets_and_a_mask_of_one_are_roi_align(case):
    op, _, channels, boxes_num, bins, options = case
    learning, fixed = example(channels, boxes_num, bins, options)
    arrays = tensors({**learning, **fixed})
    arrays["offset"], arrays["mask"] = paddle.zeros_like(arrays["offset"]), paddle.ones_like(arrays["mask"])
    y = op(**arrays, output_size=bins, **options)
    settings = {"spatial_scale": options.get("spatial_scale", 1.0), "sampling_ratio": options.get("sampling_ratio", 2)}
    place = arrays["x"], arrays["boxes"], arrays["boxes_num"], bins
    plain = roi_align(*place, **settings).numpy() if op is deform_roi_pool else plain_of_each_bin(*place, **settings)
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(y.numpy(), plain, atol=1e-12)
    without = op(arrays["x"], arrays["boxes"], arrays["boxes_num"], bins, **settings)
    np.testing.assert_allclose(without.numpy(), plain, atol=1e-12)


def test_gradient_of_the_picture_is_roi_aligns():
    learning, fixed = example(2, (2, 0, 3), (3, 2), {})  # boxes of one pixel or more: roi_align's gradient of smaller
    arrays, gradients = tensors({"x": learning["x"], **fixed}), []  # ones is wrong on a CPU, in Paddle 2.6 and 3.3
    arrays["x"].stop_gradient = False
    for op in (deform_roi_pool, roi_align):
        pooled = op(**arrays, output_size=(3, 2), sampling_ratio=2)
        gradients.append(paddle.grad((pooled**3).sum(), arrays["x"])[0].numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-12)


def test_maps_lie_as_in_psroi_pool():
    x = paddle.arange(24, dtype="float32").reshape([1, 24, 1, 1]).expand([1, 24, 9, 8])  # map k is k all over
    boxes, boxes_num = paddle.to_tensor([[1.0, 1.0, 7.0, 8.0]]), paddle.to_tensor([1], dtype="int32")
    y = deform_ps_roi_pool(x, boxes, boxes_num, (3, 2))
    np.testing.assert_allclose(y.numpy(), psroi_pool(x, boxes, boxes_num, (3, 2)).numpy(), atol=1e-5)
    np.testing.assert_allclose(y.numpy().ravel(), np.arange(24), atol=1e-5)


@every_case
def test_offsets_of_one_bin_move_the_box(case):
    op, _, channels, boxes_num, bins, options = case
    gamma = options.get("gamma", 0.1)
    learning, fixed = example(channels, boxes_num, bins, options)
    learning["offset"][:, 0::2], learning["offset"][:, 1::2] = -1 / (gamma * bins[1]), 1 / (gamma * bins[0])
    y = op(**tensors({**learning, **fixed}), output_size=bins, **options)
    left, top, right, bottom = fixed["boxes"].T
    bin_width, bin_height = (right - left) / bins[1], (bottom - top) / bins[0]
    moved = fixed["boxes"] + np.stack([-bin_width, bin_height, -bin_width, bin_height], axis=1)
    plain = tensors({"x": learning["x"], "mask": learning["mask"], **fixed, "boxes": moved})
    np.testing.assert_allclose(y.numpy(), op(**plain, output_size=bins, **options).numpy(), atol=1e-10)


@pytest.mark.parametrize(
    "x, y, expected",
    [
        (0, 0, 1), (-0.5, 0, 1), (-1, -1, 1), (2, 3, 32), (1.75, 2.75, 32), (1.5, 0.5, (2 + 8) / 2), (-0.25, 1.5, 10),
        (-1.01, 0, 0), (0, -1.01, 0), (2.01, 1, 0), (1, 3.01, 0), (1e6, 0, 0), (0, -1e6, 0), (np.inf, 1, 0),
        (np.nan, 1, np.nan), (0, np.nan, np.nan),
    ],
)
def test_points_beyond_the_border(x, y, expected):
    picture = paddle.to_tensor([[[[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]]], [[[np.inf] * 2] * 3]])
    boxes, boxes_num = paddle.to_tensor([[0.0, 0.0, 1.0, 1.0]]), paddle.to_tensor([1, 0], dtype="int32")
    offset = paddle.to_tensor([x, y], dtype="float32").reshape([1, 2, 1, 1])  # from the centre of the first pixel
    pooled = deform_roi_pool(picture, boxes, boxes_num, 1, offset, sampling_ratio=1, gamma=1.0)
    np.testing.assert_allclose(pooled.numpy(), [[[[expected]]]], atol=1e-6)


def test_boxes_of_no_size_and_turned_round_are_roi_aligns():
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=[1, 2, 5, 6]))
    boxes = paddle.to_tensor([[1.3, 2.2, 1.3, 4.0], [2.0, 2.0, 2.0, 2.0], [5.0, 4.5, 1.0, 0.5]], dtype="float64")
    boxes_num = paddle.to_tensor([3], dtype="int32")
    y, plain = deform_roi_pool(x, boxes, boxes_num, (3, 2)), roi_align(x, boxes, boxes_num, (3, 2), sampling_ratio=2)
    np.testing.assert_allclose(y.numpy(), plain.numpy(), atol=1e-12)


def test_each_box_sees_its_own_image():
    learning, fixed = example(2, (2, 0, 3), (3, 2), {})
    whole = deform_roi_pool(**tensors({**learning, **fixed}), output_size=(3, 2)).numpy()
    for image, boxes in ((0, slice(0, 2)), (2, slice(2, 5))):
        alone = {name: array[boxes] for name, array in {**learning, **fixed}.items()}
        alone.update(x=learning["x"][image : image + 1], boxes_num=np.array([boxes.stop - boxes.start]))
        y = deform_roi_pool(**tensors(alone), output_size=(3, 2))
        np.testing.assert_allclose(y.numpy(), whole[boxes], atol=1e-12)


def plain_layer(version, **options):
    return DeformRoIPool(4, (3, 2), 0.5, version=version, hidden=() if version == 1 else (5, 7), **options)


def position_sensitive_layer(version, **options):
    return DeformPSRoIPool(5, (3, 2), 0.5, version=version, deformable_groups=2, **options)


def run(layer, x, boxes, boxes_num):
    if isinstance(layer, DeformRoIPool):
        return layer(x, boxes, boxes_num)
    features = paddle.to_tensor(np.random.default_rng(9).normal(size=[x.shape[0], 5, *x.shape[2:]]).astype("float32"))
    return layer(x, features, boxes, boxes_num)


LAYERS = {
    "plain": (plain_layer, deform_roi_pool, 4),
    "position-sensitive": (position_sensitive_layer, deform_ps_roi_pool, 24),
}
every_layer = pytest.mark.parametrize("make, op, channels", LAYERS.values(), ids=LAYERS)


def inputs(channels):
    learning, fixed = example(channels, (2, 0, 3), (3, 2), {"spatial_scale": 0.5})
    return list(tensors({"x": learning["x"], **fixed}, "float32").values())


@every_layer
@pytest.mark.parametrize(
    "options, share",
    [({"version": 1}, 1), ({"version": 2}, 1), ({"version": 2, "modulation": "sigmoid"}, 0.5)], ids=str,
)
def test_layer_starts_as_plain_pooling(make, op, channels, options, share):
    layer, given = make(**options), inputs(channels)
    plain = op(*given, (3, 2), spatial_scale=0.5).numpy()
    np.testing.assert_allclose(run(layer, *given).numpy(), share * plain, atol=1e-6)


def test_layers_of_the_papers():
    first, second = DeformRoIPool(2, (3, 2), version=1), DeformRoIPool(2, (3, 2))
    assert {name: list(value.shape) for name, value in first.state_dict().items()} == {
        "offset.weight": [12, 12], "offset.bias": [12],
    }
    sizes = {name: list(value.shape) for name, value in second.state_dict().items()}
    assert sizes["hidden.fc1.weight"] == [12, 1024] and sizes["hidden.fc2.weight"] == [1024, 1024]
    assert sizes["offset.weight"] == [1024, 18]
    assert abs(float(second.hidden[2].weight.std()) - 0.01) < 1e-3 and float(second.hidden[2].bias.abs().max()) == 0
    assert list(DeformPSRoIPool(5, 7, version=1, deformable_groups=21).offset.weight.shape) == [2 * 49 * 21, 5, 1, 1]


@every_layer
@every_version
def test_branch_learns(make, op, channels, version):
    layer, given = make(version), inputs(channels)
    optimizer = paddle.optimizer.SGD(0.1, parameters=layer.parameters())
    (run(layer, *given) ** 2).mean().backward()
    optimizer.step()
    learnt = layer.offset.bias.numpy()
    assert learnt.shape == ((version + 1) * 6 * (1 if op is deform_roi_pool else 2),) and (np.abs(learnt) > 1e-7).all()
    optimizer.clear_grad()
    (run(layer, *given) ** 2).mean().backward()
    assert all(np.abs(parameter.grad.numpy()).max() > 0 for parameter in layer.parameters())  # the hidden ones too


@pytest.mark.parametrize("axis", [0, 1])
def test_branch_holds_all_dx_then_all_dy_then_the_modulation(axis):
    layer, given = plain_layer(2, modulation="sigmoid"), inputs(4)
    bias = np.zeros([3, 3, 2], "float32")
    bias[axis, 2, 1], bias[2, 1, 0] = 3, 50  # one bin moves, another's modulation opens from a half to one
    layer.offset.bias.set_value(bias.ravel())
    offset, mask = np.zeros([5, 2, 3, 2], "float32"), np.full([5, 1, 3, 2], 0.5, "float32")
    offset[:, axis, 2, 1], mask[:, 0, 1, 0] = 3, 1
    expected = deform_roi_pool(*given, (3, 2), *map(paddle.to_tensor, (offset, mask)), spatial_scale=0.5)
    np.testing.assert_allclose(run(layer, *given).numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("group", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_position_sensitive_branch_holds_dx_and_dy_of_each_group_then_the_modulations(group, axis):
    layer, given = position_sensitive_layer(2, modulation="sigmoid"), inputs(24)
    bias = np.zeros([6, 3, 2], "float32")
    bias[2 * group + axis, 2, 1], bias[4 + group, 1, 0] = 3, 50
    layer.offset.bias.set_value(bias.ravel())
    given[1] = paddle.to_tensor([[2.0, 2.0, 9.0, 11.0]] * 5)  # inside the picture, so that a field pools to its bias
    offset, mask = np.zeros([5, 4, 3, 2], "float32"), np.full([5, 2, 3, 2], 0.5, "float32")
    offset[:, 2 * group + axis, 2, 1], mask[:, group, 1, 0] = 3, 1
    expected = deform_ps_roi_pool(
        *given, (3, 2), *map(paddle.to_tensor, (offset, mask)), spatial_scale=0.5, deformable_groups=2
    )
    np.testing.assert_allclose(run(layer, *given).numpy(), expected.numpy(), atol=1e-5)


def test_branches_see_what_the_pooling_pools():
    given = inputs(4)
    layer = plain_layer(1)
    layer.offset.weight.set_value(np.random.default_rng(1).normal(size=[24, 12]).astype("float32"))
    pooled = roi_align(*given, (3, 2), spatial_scale=0.5, sampling_ratio=2).numpy().reshape([5, 24])
    expected = (pooled @ layer.offset.weight.numpy()).reshape([5, 2, 3, 2])
    np.testing.assert_allclose(layer.offset_and_mask(*given)[0].numpy(), expected, atol=1e-4)
    layer = DeformPSRoIPool(4, (3, 2), 0.5, version=1)
    layer.offset.weight.set_value(np.random.default_rng(1).normal(size=[12, 4, 1, 1]).astype("float32"))
    expected = plain_of_each_bin(layer.offset(given[0]), *given[1:], (3, 2), spatial_scale=0.5, sampling_ratio=2)
    np.testing.assert_allclose(layer.offset_and_mask(*given)[0].numpy(), expected, atol=1e-5)


@every_layer
@every_version
def test_no_boxes_at_all(make, op, channels, version):
    layer, (x, boxes, boxes_num) = make(version), inputs(channels)
    x.stop_gradient = False
    none = boxes[:0].detach(), paddle.zeros_like(boxes_num)
    out = [0, channels if op is deform_roi_pool else channels // 6, 3, 2]
    offset = paddle.zeros([0, 2, 3, 2])
    assert list(op(x, *none, (3, 2)).shape) == list(op(x, *none, (3, 2), offset, offset[:, :1]).shape) == out
    y = run(layer, x, *none)
    assert list(y.shape) == out and y.dtype == x.dtype
    if paddle.__version__.startswith("3."):  # Paddle 2.6 has no sum of nothing
        y.sum().backward()
        for tensor in (x, *layer.parameters()):  # so that devices that found none wait for no one
            np.testing.assert_array_equal(tensor.grad.numpy(), 0)
    with pytest.raises(ValueError, match="does not sum to the 0 boxes"):
        run(layer, x, none[0], boxes_num)


class _Both(paddle.nn.Layer):
    """The two layers on the same maps, with offsets that matter, for export."""

    def __init__(self):
        super().__init__()
        self.plain = DeformRoIPool(6, (3, 2), 0.5, hidden=(5,))
        self.position_sensitive = DeformPSRoIPool(6, (3, 2), 0.5)
        for layer in (self.plain, self.position_sensitive):
            layer.offset.bias.set_value(np.linspace(-3, 3, 18).astype("float32"))

    def forward(self, x, boxes, boxes_num):
        pooled = self.plain(x, boxes, boxes_num)
        return paddle.concat([pooled, self.position_sensitive(x, x, boxes, boxes_num)], axis=1)


@pytest.mark.parametrize("shape", [[2, 6, 7, 9], [None, 6, None, None]], ids=str)
def test_export(tmp_path, shape):
    model = _Both()
    model.eval()
    paddle.jit.ignore_module([module for name, module in sys.modules.items() if name.split(".")[0] == "ops"])
    spec = [
        paddle.static.InputSpec(shape, "float32", "x"), paddle.static.InputSpec([None, 4], "float32", "boxes"),
        paddle.static.InputSpec(shape[:1], "int32", "boxes_num"),
    ]
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=spec)
    loaded = paddle.jit.load(str(tmp_path / "model"))
    loaded.eval()
    for boxes_num in ((3, 2), (0, 1)):
        learning, fixed = example(6, boxes_num, (3, 2), {"spatial_scale": 0.5})
        given = tensors({"x": learning["x"], **fixed}, "float32")
        expected = model(**given).numpy()
        for _ in range(3):  # a graph must not write into what it is given
            np.testing.assert_allclose(loaded(*given.values()).numpy(), expected, atol=1e-5)
            np.testing.assert_array_equal(given["boxes"].numpy(), fixed["boxes"].astype("float32"))


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("offset", [5, 4, 2, 3], "[5, 4, 3, 2]"), ("offset", [5, 2, 3, 2], "[5, 4, 3, 2]"),
        ("offset", [4, 4, 3, 2], "[5, 4, 3, 2]"), ("offset", [5, 4, 6], "[5, 4, 3, 2]"),
        ("mask", [5, 1, 3, 2], "[5, 2, 3, 2]"), ("mask", [5, 2, 3, 1], "[5, 2, 3, 2]"),
        ("boxes", [5, 5], "[R, 4]"), ("boxes", [4], "[R, 4]"), ("boxes_num", [2], "[3]"), ("boxes_num", [3, 1], "[3]"),
        ("x", [3, 24, 7], "[N, C, H, W], none of them 0"), ("x", [3, 24, 0, 9], "[N, C, H, W], none of them 0"),
    ],
)
def test_wrong_shapes(name, shape, expected):
    options = {"deformable_groups": 2}
    learning, fixed = example(24, (2, 0, 3), (3, 2), options)
    arrays = {**learning, **fixed, name: np.zeros(shape)}
    with pytest.raises(ValueError) as error:
        deform_ps_roi_pool(**tensors(arrays), output_size=(3, 2), **options)
    assert str(error.value).endswith(f"{name} has shape {shape}, expected {expected}")


@every_layer
@pytest.mark.parametrize("boxes_num", [(2, 1, 3), (2, 0, 2), (6, -1, 0)], ids=str)
def test_boxes_num_sums_to_the_boxes(make, op, channels, boxes_num):
    x, boxes, _ = inputs(channels)
    for call in (lambda *given: op(*given, (3, 2)), lambda *given: run(make(1), *given)):
        with pytest.raises(ValueError) as error:
            call(x, boxes, paddle.to_tensor(boxes_num, dtype="int64"))
        assert str(error.value).endswith(f"boxes_num {list(boxes_num)} does not sum to the 5 boxes")


def test_boxes_num_may_be_int64():
    x, boxes, boxes_num = inputs(2)
    y, expected = (deform_roi_pool(x, boxes, count, 2) for count in (boxes_num.astype("int64"), boxes_num))
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize(
    "name, dtype, message",
    [
        ("x", "int64", "x is of int64, expected float32 or float64"), ("boxes", "int32", "boxes is of int32"),
        ("offset", "bool", "offset is of bool"), ("mask", "float64", "mask of float64; expected one dtype"),
        ("boxes", "float64", "boxes of float64, .*expected one dtype"),
        ("boxes_num", "float32", "boxes_num is of float32, expected int32 or int64"),
    ],
)
def test_wrong_dtypes(name, dtype, message):
    learning, fixed = example(2, (2, 0, 3), (3, 2), {})
    arrays = tensors({**learning, **fixed}, "float32")
    arrays[name] = arrays[name].astype(dtype)
    with pytest.raises(ValueError, match=message.replace("bool", "(bool|BOOL)")):
        deform_roi_pool(**arrays, output_size=(3, 2))


def test_channels_make_classes_and_groups():
    x, boxes, boxes_num = inputs(24)
    with pytest.raises(ValueError, match="24 channels are no multiple of the 3 x 3 bins"):
        deform_ps_roi_pool(x, boxes, boxes_num, 3)
    with pytest.raises(ValueError, match="3 deformable groups do not divide 4 channels"):
        deform_ps_roi_pool(x, boxes, boxes_num, (3, 2), deformable_groups=3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output_size": 0}, "output_size 0, expected"),
        ({"output_size": (3, 2, 1)}, r"output_size \(3, 2, 1\), expected"),
        ({"output_size": (3, 1.5)}, "output_size .* expected a positive integer or"),
        ({"spatial_scale": 0.0}, "spatial_scale 0.0, expected"), ({"spatial_scale": float("nan")}, "spatial_scale nan"),
        ({"sampling_ratio": 0}, "sampling_ratio 0, expected"), ({"sampling_ratio": -1}, "sampling_ratio -1, expected"),
    ],
)
def test_wrong_settings(options, message):
    given = {"output_size": (3, 2), **options}
    for op in (deform_roi_pool, deform_ps_roi_pool):
        with pytest.raises(ValueError, match=message):
            op(*inputs(24), **given)
    for layer in (DeformRoIPool, DeformPSRoIPool):
        with pytest.raises(ValueError, match=message):
            layer(4, **given)


@pytest.mark.parametrize("layer", [DeformRoIPool, DeformPSRoIPool])
@pytest.mark.parametrize(
    "options, message",
    [
        ({"version": 3}, "version 3, expected 1 or 2"),
        ({"modulation": "tanh"}, "'tanh', expected one of .*2sigmoid.*sigmoid"),
    ],
)
def test_layers_refuse_wrong_settings(layer, options, message):
    with pytest.raises(ValueError, match=message):
        layer(4, 3, **options)


def test_layers_refuse_what_they_were_not_made_for():
    x, boxes, boxes_num = inputs(24)
    with pytest.raises(ValueError, match=r"x has shape \[3, 24, 7, 9\], expected \[-1, 4, -1, -1\]"):
        plain_layer(1)(x, boxes, boxes_num)
    with pytest.raises(ValueError, match="0 deformable groups, expected at least 1"):
        DeformPSRoIPool(4, 3, deformable_groups=0)
    layer = position_sensitive_layer(1)
    with pytest.raises(ValueError, match=r"features has shape \[3, 5, 7, 8\], expected \[3, 5, 7, 9\]"):
        layer(x, paddle.zeros([3, 5, 7, 8]), boxes, boxes_num)
