"""Every kind of input that the ops may be handed: views, 16 bits, nothing at all, and what is wrong."""

import itertools
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from test_ops_native import (
    GEOMETRIES,
    NAMES,
    assert_same,
    deformable,
    deformable_arrays,
    every_op,
    groups,
    needs_native,
    norm_arrays,
    outcome,
)

from ops import BatchNorm, DeformConv2D, GroupNorm, batch_norm, deform_conv2d, group_norm

# Paddle 2.6 cannot even multiply an empty tensor by a vector.
paddle_knows_empty = pytest.mark.skipif(not hasattr(F, "group_norm"), reason="Paddle 2.6 has no empty tensors")


@paddle_knows_empty
@pytest.mark.parametrize("name", NAMES)
def test_norms_of_a_batch_without_images(name):
    for relu in (False, True):
        got = outcome(groups(3), norm_arrays(0, 6, 5, 3), relu=relu, implementation=name)
        assert got["y"].shape == got["x"].shape == (0, 6, 5, 3)
        np.testing.assert_array_equal(got["weight"], np.zeros(6))
    vectors = paddle.zeros([6]), paddle.ones([6]), paddle.ones([6]), paddle.ones([6])
    assert batch_norm(paddle.zeros([0, 6, 5]), *vectors, training=False, implementation=name).shape == [0, 6, 5]


@paddle_knows_empty
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", [1, 2])
def test_deformable_convolution_of_a_batch_without_images(name, version):
    arrays, options = deformable_arrays(*GEOMETRIES["all"], images=0, version=version), GEOMETRIES["all"][-1]
    got = outcome(deformable(**options), arrays, implementation=name)
    assert got["y"].shape[:2] == (0, 6) and got["x"].shape == arrays["x"].shape
    np.testing.assert_array_equal(got["weight"], np.zeros(arrays["weight"].shape))


def strided(tensor):
    """The same values as a view with every axis turned round and every second value left out."""
    turned = list(range(tensor.ndim))[::-1]
    small = tensor.transpose(turned).contiguous()
    view = paddle.stack([small, small + 1], axis=-1)[..., 0].transpose(turned)
    assert view.shape == tensor.shape and not view.is_contiguous()
    return view


@needs_native
@every_op
def test_views_are_taken_for_their_values(op, arrays):
    tensors = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    gradients = []
    for views in (False, True):
        arguments = {name: strided(tensor) if views else tensor.clone() for name, tensor in tensors.items()}
        for tensor in arguments.values():
            tensor.stop_gradient = False
        y = op(**arguments)
        cotangent = paddle.to_tensor(np.random.default_rng(3).normal(size=y.shape).astype(np.float32))
        given = strided(cotangent) if views else cotangent
        results = [y, *paddle.grad(y, list(arguments.values()), grad_outputs=[given])]
        gradients.append({str(i): tensor.numpy() for i, tensor in enumerate(results)})
    assert_same(*gradients)


@needs_native
@every_op
def test_any_of_the_arguments_may_learn(op, arrays):
    all_of_them = outcome(op, arrays)
    for learning in itertools.chain.from_iterable(itertools.combinations(arrays, n) for n in range(1, len(arrays))):
        assert_same(outcome(op, arrays, learning=learning), {name: all_of_them[name] for name in ("y", *learning)})


@needs_native
@every_op
def test_without_gradients(op, arrays):
    tensors = {name: paddle.to_tensor(array, stop_gradient=False) for name, array in arrays.items()}
    with paddle.no_grad():
        y = op(**tensors)
    assert y.stop_gradient and y.is_leaf
    np.testing.assert_array_equal(y.numpy(), op(**tensors).numpy())
    for tensor in tensors.values():
        tensor.stop_gradient = True
    assert op(**tensors).stop_gradient


@needs_native
@every_op
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_computed_in_32(op, arrays, dtype):
    results = []
    for inside in (dtype, "float32"):  # what the op is handed: the same values, and the same roundings after it
        tensors = {name: paddle.to_tensor(array).astype(dtype) for name, array in arrays.items()}
        for tensor in tensors.values():
            tensor.stop_gradient = False
        y = op(**{name: tensor.astype(inside) for name, tensor in tensors.items()})
        assert str(y.dtype).endswith(inside)
        y = y.astype(dtype).astype("float32")
        (y**2).sum().backward()
        gradients = {name: tensor.grad.astype("float32").numpy() for name, tensor in tensors.items()}
        results.append({"y": y.numpy(), **gradients})
    assert_same(*results)


class Small(paddle.nn.Layer):
    """Each of the three, as a model has them."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(4, 2, relu=True), BatchNorm(6, images_per_worker=2, relu=True)
        self.conv1, self.conv2 = (DeformConv2D(4, 6, 3, padding=1), DeformConv2D(6, 3, 3, version=1))

    def forward(self, x):
        return self.conv2(self.norm2(self.conv1(self.norm1(x))))


def test_an_exported_model_needs_no_library_of_ours(tmp_path):
    model, x = Small(), paddle.to_tensor(norm_arrays(2, 4, 8, 7)["x"])
    model(x)
    model.eval()
    expected = model(x).numpy()
    own = [module for name, module in sys.modules.items() if name.split(".")[0] in ("ops", __name__)]
    paddle.jit.ignore_module(own)  # as in engine/tasks/export.py
    paddle.jit.save(model, str(tmp_path / "small"), input_spec=[paddle.static.InputSpec([2, 4, 8, 7], "float32")])
    files = {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}
    operators = [f"native_{name}".encode() for name in ("group_norm", "batch_norm", "deform_conv2d")]
    assert not any(operator in content for content in files.values() for operator in operators)
    assert any(b"deformable_conv" in content for content in files.values())  # so the names of operators are there
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "small"))(x).numpy(), expected, rtol=1e-4, atol=1e-4)


@needs_native
def test_kernels_asked_for_by_name_are_not_exported(tmp_path):
    model = GroupNorm(4, 2, implementation="native")
    paddle.jit.ignore_module([sys.modules["ops.group_norm"], sys.modules["ops.implementation"]])
    with pytest.raises(ValueError, match="a graph is being made"):
        paddle.jit.save(model, str(tmp_path / "model"), input_spec=[paddle.static.InputSpec([2, 4, 8, 7], "float32")])


def zeros(*shape, dtype="float32"):
    return paddle.zeros(shape, dtype)


def call_group_norm(name, x=(2, 6, 5, 3), count=3, dtype="float32", **vectors):
    group_norm(zeros(*x, dtype=dtype), count, **vectors, implementation=name)


def call_batch_norm(name, x=(6, 4, 5), dtype="float32", images_per_worker=None, training=True, **vectors):
    vectors = {"running_mean": zeros(4), "running_variance": zeros(4), **vectors}
    batch_norm(
        zeros(*x, dtype=dtype), **vectors, training=training, images_per_worker=images_per_worker, implementation=name
    )


def call_deform_conv(name, **changes):
    arguments = {
        "x": zeros(2, 4, 7, 4), "offset": zeros(2, 24, 4, 4), "weight": zeros(6, 2, 3, 2), "mask": zeros(2, 12, 4, 4),
        "stride": (2, 1), "padding": (1, 1), "dilation": (1, 2), "groups": 2, "deformable_groups": 2,
    }
    deform_conv2d(**{**arguments, **changes}, implementation=name)


double = {"dtype": "float64"}
BAD = [
    (call_group_norm, {"count": 4}, "4 groups do not divide 6 channels"),
    (call_group_norm, {"count": 0}, "0 groups do not divide 6 channels"),
    (call_group_norm, {"x": (6,)}, "x has shape"),
    (call_group_norm, {"x": (2, 0, 5)}, "x has shape"),
    (call_group_norm, {"x": (2, 6, 0, 3)}, "x has shape"),
    (call_group_norm, {"dtype": "int32"}, "x is of int32"),
    (call_group_norm, {"dtype": "bool"}, "x is of bool"),
    (call_group_norm, {"weight": zeros(3)}, "weight has shape"),
    (call_group_norm, {"bias": zeros(6, **double)}, "one dtype"),
    (call_group_norm, {"weight": zeros(6, dtype="int64")}, "weight is of int64"),
    (call_batch_norm, {"images_per_worker": 4}, "6 images do not divide"),
    (call_batch_norm, {"images_per_worker": 0}, "6 images do not divide"),
    (call_batch_norm, {"x": (0, 4, 5)}, "x has shape"),
    (call_batch_norm, {"x": (6, 4, 0)}, "x has shape"),
    (call_batch_norm, {"x": (6, 4, 0), "training": False}, "x has shape"),
    (call_batch_norm, {"dtype": "int64"}, "x is of int64"),
    (call_batch_norm, {"running_mean": zeros(3)}, "running_mean has shape"),
    (call_batch_norm, {"running_variance": zeros(4, **double)}, "one dtype"),
    (call_batch_norm, {"bias": zeros(2, 2)}, "bias has shape"),
    (call_batch_norm, {"running_mean": zeros(8)[::2]}, "running_mean changes in place"),
    (call_batch_norm, {"running_variance": zeros(8)[::2], "images_per_worker": 2}, "running_variance changes in place"),
    (call_deform_conv, {"x": zeros(2, 4, 7)}, "x "),
    (call_deform_conv, {"x": zeros(2, 4, 7, 4, **double)}, "one dtype"),
    (call_deform_conv, {"x": zeros(2, 4, 7, 4, dtype="int32")}, "x is of int32"),
    (call_deform_conv, {"x": zeros(2, 5, 7, 4)}, "does not fit 5 channels"),
    (call_deform_conv, {"x": zeros(2, 4, 0, 4)}, "no positions"),
    (call_deform_conv, {"x": zeros(2, 4, 7, 1), "padding": (1, 0)}, "no positions"),
    (call_deform_conv, {"offset": zeros(2, 12, 4, 4)}, "offset has shape"),
    (call_deform_conv, {"offset": zeros(2, 24, 4, 5)}, "offset has shape"),
    (call_deform_conv, {"offset": zeros(1, 24, 4, 4)}, "offset has shape"),
    (call_deform_conv, {"offset": zeros(2, 24, 16)}, "offset has shape"),
    (call_deform_conv, {"offset": zeros(2, 24, 4, 4, dtype="int64")}, "offset is of int64"),
    (call_deform_conv, {"mask": zeros(2, 24, 4, 4)}, "mask has shape"),
    (call_deform_conv, {"mask": zeros(2, 12, 4, 4, **double)}, "one dtype"),
    (call_deform_conv, {"bias": zeros(1)}, "bias has shape"),
    (call_deform_conv, {"weight": zeros(5, 2, 3, 2)}, "does not fit 4 channels"),
    (call_deform_conv, {"weight": zeros(0, 2, 3, 2)}, "no positions"),
    (call_deform_conv, {"weight": zeros(6, 2, 3)}, "weight "),
    (call_deform_conv, {"groups": 0}, "in 0 groups"),
    (call_deform_conv, {"deformable_groups": 3}, "3 deformable groups do not divide 4"),
    (call_deform_conv, {"stride": 0}, "stride"),
    (call_deform_conv, {"padding": (1, -1)}, "padding"),
    (call_deform_conv, {"dilation": (0, 1)}, "dilation"),
]


@pytest.mark.parametrize("call", [call_group_norm, call_batch_norm, call_deform_conv])
@pytest.mark.parametrize("name", NAMES)
def test_good_input_is_taken(call, name):
    call(name)


@pytest.mark.parametrize("call, changes, message", BAD)
def test_bad_input_meets_the_same_error_whichever_runs(call, changes, message):
    messages = set()
    for name in NAMES:
        with pytest.raises(ValueError) as error:
            call(name, **changes)
        messages.add(str(error.value))
    (only,) = messages
    assert message in only and "\n" not in only
