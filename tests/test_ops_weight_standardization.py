"""Weight standardisation against its definition, and the convolutions that use it."""

import numpy as np
import paddle
import pytest
import reference

from models import i3d, resnet, vgg
from ops import Conv2D, Conv3D, DeformConv2D, conv2d, conv3d, deform_conv2d, standardize

SHAPES = [(5, 3, 3, 2), (4, 6, 1, 1), (3, 2, 2, 3, 1)]


def filters(*shape, dtype="float64"):
    """Filters of all levels and sizes."""
    random = np.random.default_rng(0)
    level, size = random.normal(size=[2, shape[0]] + [1] * (len(shape) - 1))
    return (0.1 * level + 0.05 * np.exp(size) * random.normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_matches_the_definition(shape, dtype, tolerance):
    weight = filters(*shape, dtype=dtype)
    got = standardize(paddle.to_tensor(weight))
    assert got.shape == list(shape) and got.dtype == getattr(paddle, dtype)
    np.testing.assert_allclose(got.numpy(), reference.standardize(weight), atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient(shape):
    reference.check_gradients(standardize, reference.standardize, {"weight": filters(*shape)}, tolerance=1e-5)


def test_by_hand():
    # 1 and 5: mean 3, deviation 2.
    weight = paddle.to_tensor([[[[1.0]], [[5.0]]], [[[0.0]], [[-3.0]]]], dtype="float64")
    np.testing.assert_allclose(standardize(weight, eps=0.0).numpy().ravel(), [-1, 1, 1, -1], atol=1e-12)


def test_level_and_size_of_a_filter_change_nothing():
    weight = filters(5, 3, 3, 2)
    moved = standardize(paddle.to_tensor(3 * weight + np.arange(5)[:, None, None, None])).numpy()
    np.testing.assert_allclose(moved, standardize(paddle.to_tensor(weight)).numpy(), atol=1e-6)


def test_a_filter_of_one_value_is_0_and_gets_no_gradient():
    weight = paddle.to_tensor([[[[2.0]]], [[[-1.0]]]], stop_gradient=False)
    (standardize(weight) * paddle.to_tensor([[[[3.0]]], [[[1.0]]]])).sum().backward()
    assert not standardize(weight).numpy().any() and not weight.grad.numpy().any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("layer", "op", "size"), [(Conv2D, conv2d, (6, 5)), (Conv3D, conv3d, (3, 6, 5))])
def test_a_standardized_convolution_is_the_convolution_by_standardised_filters(layer, op, size, groups):
    made = layer(4, 6, 3, stride=2, padding=1, groups=groups, standardized=True)
    made.bias.set_value(np.arange(6, dtype=np.float32))
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 4, *size)).astype(np.float32))
    used = paddle.to_tensor(reference.standardize(made.weight.numpy()).astype(np.float32))
    expected = op(x, used, made.bias, stride=2, padding=1, groups=groups)
    np.testing.assert_allclose(made(x).numpy(), expected.numpy(), atol=1e-4)
    assert list(made.state_dict()) == ["weight", "bias"]
    made(x).sum().backward()
    assert made.weight.grad is not None


def test_a_deformable_convolution_standardises_all_but_its_offset_branch():
    made = DeformConv2D(4, 6, 3, padding=1, standardized=True)
    random = np.random.default_rng(0)
    made.offset.weight.set_value(random.normal(0, 0.1, made.offset.weight.shape).astype(np.float32))
    x = paddle.to_tensor(random.normal(size=(2, 4, 6, 5)).astype(np.float32))
    used = paddle.to_tensor(reference.standardize(made.weight.numpy()).astype(np.float32))
    offset, mask = made.offset_and_mask(x)
    expected = deform_conv2d(x, offset, used, made.bias, mask, padding=1)
    np.testing.assert_allclose(made(x).numpy(), expected.numpy(), atol=1e-4)
    assert not made.offset.standardized


def test_paddings_that_have_no_numbers_are_refused():
    with pytest.raises(ValueError, match="standardized convolution: expected channels first"):
        Conv2D(4, 6, 3, padding="SAME", standardized=True)


@pytest.mark.parametrize("build", [resnet, i3d, vgg])
def test_one_word_standardises_a_network(build):
    depth, convolutions = (16, 13) if build is vgg else (26, 1 + 8 * 3 + 4)
    options = {"deformable_stages": ("c5",)} if build is resnet else {}
    network = build(depth=depth, width=4, norm_groups=2, weight_standardization=True, **options)
    made = {name: layer for name, layer in network.named_sublayers() if hasattr(layer, "standardized")}
    plain = {name for name, layer in made.items() if not layer.standardized}
    assert len(made) - len(plain) == convolutions and bool(plain) == (build is resnet)
    assert all(name.endswith(".offset") for name in plain)
    assert not any(layer.standardized for layer in build(depth=depth, width=4, norm_groups=2).sublayers()
                   if hasattr(layer, "standardized"))
    for norm in ("none", *["evonorm_s0"] * (build is not vgg)):  # of which a residual block's last is affine alone
        with pytest.raises(ValueError, match=f"weight_standardization: gives all filters one size, and norm {norm}"):
            build(norm=norm, weight_standardization=True)


def test_evonorm_divides_standardised_filters_where_every_convolution_has_its_activation():
    network = vgg(depth=11, width=4, norm="evonorm_s0", norm_groups=2, weight_standardization=True, head_widths=())
    assert network.conv1_1.standardized and network.norm1_1.slope is not None
