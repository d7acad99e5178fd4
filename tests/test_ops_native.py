"""The C++ kernels of ops/csrc: how exact they are, and that their bits are always the same."""

import gc
import hashlib
import os
import subprocess
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import reference
from conftest import ROOT, here
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops_deform_conv import example as deformable_example

from ops import (
    batch_norm,
    batch_renorm,
    deform_conv2d,
    evonorm_s0,
    filter_response_norm,
    group_norm,
    thresholded_linear,
)
from ops.group_norm import IMPLEMENTATIONS

NAMES = ["auto", *(name for name in here(IMPLEMENTATIONS) if name != "folded")]
needs_native = pytest.mark.skipif("native" not in NAMES, reason="the kernels cannot be built, or serve no GPU")
EPS = 2**-4  # exact in float32, and no set of a few values is blown up to more than 4 times its size


def workers(images, norm=batch_norm, **limits):
    """Batch norm or renorm in training as an op of x, weight and bias."""

    def op(x, weight, bias, relu=False, implementation="native"):
        dtype = "float64" if x.dtype == paddle.float64 else "float32"
        running = paddle.zeros(weight.shape, dtype), paddle.ones(weight.shape, dtype)
        return norm(
            x, *running, weight, bias, training=True, eps=EPS, images_per_worker=images, relu=relu,
            implementation=implementation, **limits,
        )

    return op


RENORM = {"r_max": 1.03125, "d_max": 0.0625}  # which cut off some of what the examples have


def renormed(images):
    return workers(images, batch_renorm, **RENORM)


def groups(count):
    def op(x, weight, bias, relu=False, implementation="native"):
        return group_norm(x, count, weight, bias, EPS, implementation, relu=relu)

    return op


def maps(implementation="native", **arguments):
    """Filter response norm as an op of x, weight, bias and maybe threshold."""
    return filter_response_norm(**arguments, eps=EPS, implementation=implementation)


def cut_off(implementation="native", **arguments):
    return thresholded_linear(**arguments, implementation=implementation)


def sloping_groups(count):
    """EvoNorm as an op of x, slope, weight and bias; without a slope it is 1."""

    def op(x, slope=None, implementation="native", **vectors):
        slope = paddle.ones([x.shape[1]], x.dtype) if slope is None else slope
        return evonorm_s0(x, count, slope, **vectors, eps=EPS, implementation=implementation)

    return op


def deformable(**options):
    def op(implementation="native", **arguments):
        return deform_conv2d(**arguments, **options, implementation=implementation)

    return op


def norm_arrays(*shape, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=[2, shape[1]])
    arrays = {"x": mean + rng.normal(size=shape), "weight": weight, "bias": bias}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def activated_arrays(vector, *shape):
    """With thresholds, which cut off about a half, or slopes."""
    return {**norm_arrays(*shape, mean=0.5), vector: np.random.default_rng(1).normal(size=shape[1]).astype(np.float32)}


def deformable_arrays(*geometry, **options):
    return {name: array.astype(np.float32) for name, array in deformable_example(*geometry, **options).items()}


def outcome(op, arrays, dtype="float32", learning=None, **options):
    """The output `y` and the gradients of all or of the `learning` arrays, at a fixed cotangent, as arrays by name."""
    tensors = {name: paddle.to_tensor(array).astype(dtype) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        tensor.stop_gradient = learning is not None and name not in learning
    y = op(**tensors, **options)
    cotangent = np.random.default_rng(7).normal(size=y.shape).astype(np.float32)
    (y * paddle.to_tensor(cotangent).astype(dtype)).sum().backward()
    results = {"y": y, **{name: tensor.grad for name, tensor in tensors.items() if not tensor.stop_gradient}}
    assert all(str(result.dtype).endswith(dtype) for result in results.values())
    return {name: result.numpy() for name, result in results.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def assert_exact(got, expected, terms, least=0.0):
    """Relative error, against the largest value, of at most 1e-6 * sqrt(the number of terms that are summed)."""
    for name, value in expected.items():
        error = np.abs(got[name] - value).max() / max(least, np.abs(value).max())
        assert error <= 1e-6 * terms[name] ** 0.5, f"{name}: {error:.1e} for {terms[name]} terms"


def norm_terms(shape, values_of_a_set):
    """x's gradient and y need the set's mean; gradients of vectors sum over images and positions."""
    channel = shape[0] * int(np.prod(shape[2:]))
    vectors = dict.fromkeys(("weight", "bias", "threshold", "slope"), channel)
    return {"y": values_of_a_set, "x": values_of_a_set, **vectors}


def deformable_terms(arrays, y, deformable_groups=1, groups=1):
    """Four pixels a sample; y sums them over taps and channels, the others over what each value has an influence on."""
    out, in_per_group, kh, kw = arrays["weight"].shape
    sampled = arrays["x"].shape[1] // deformable_groups * out // groups
    positions = y.size // out
    return {
        "y": 4 * in_per_group * kh * kw, "x": 4 * kh * kw * out // groups, "weight": 4 * positions, "bias": positions,
        "offset": 4 * sampled, "mask": 4 * sampled,
    }


def group_norm_definition(count):
    return lambda x, weight, bias: reference.group_norm(x, count, weight, bias, EPS)


def batch_norm_definition(images):
    return lambda x, weight, bias: reference.batch_norm(
        x, 0, 1, weight, bias, training=True, eps=EPS, images_per_worker=images
    )[0]


def batch_renorm_definition(images):
    return lambda x, weight, bias: reference.batch_renorm(
        x, np.zeros_like(bias), np.ones_like(bias), weight, bias, eps=EPS, images_per_worker=images, **RENORM
    )[0]


def filter_response_norm_definition(**arguments):
    return reference.filter_response_norm(**arguments, eps=EPS)


def evonorm_definition(count):
    return lambda x, **vectors: reference.evonorm_s0(x, count, np.ones(x.shape[1]), **vectors, eps=EPS)


# the op, x's shape, how many values have a mean in common, the definition
NORMS = {
    "gn": (groups(4), (3, 12, 13, 11), 3 * 143, group_norm_definition(4)),
    "gn, long runs": (groups(1), (1, 2, 90, 100), 18000, group_norm_definition(1)),
    "bn": (workers(2), (6, 5, 13, 11), 2 * 143, batch_norm_definition(2)),
    "bn, long runs": (workers(None), (2, 3, 90, 100), 18000, batch_norm_definition(None)),
    "brn": (renormed(2), (6, 5, 13, 11), 2 * 143, batch_renorm_definition(2)),
    "frn": (maps, (3, 12, 13, 11), 143, filter_response_norm_definition),
    "frn, long runs": (maps, (2, 3, 90, 100), 9000, filter_response_norm_definition),
    "evonorm": (sloping_groups(4), (3, 12, 13, 11), 3 * 143, evonorm_definition(4)),
    "evonorm, long runs": (sloping_groups(1), (1, 2, 90, 100), 18000, evonorm_definition(1)),
}
every_norm = pytest.mark.parametrize("op, shape, values, definition", NORMS.values(), ids=NORMS)
GEOMETRIES = {
    "1x1": (1, 2, 5, 4, (1, 1), {}),
    "3x3": (35, 18, 14, 11, (3, 3), {"padding": (1, 1)}),
    "all": (12, 6, 17, 14, (3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 3), "groups": 3,
                                    "deformable_groups": 2}),
}
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


# Exactness. Gradients are compared with those of "composed" in float64, which the other tests compare with differences.


@needs_native
@every_norm
def test_norms_in_float32_are_as_good_as_float32(op, shape, values, definition):
    arrays = norm_arrays(*shape)
    expected = outcome(op, arrays, "float64", implementation="composed")
    expected["y"] = definition(**{name: array.astype(np.float64) for name, array in arrays.items()})
    assert_exact(outcome(op, arrays), expected, norm_terms(shape, values))


@needs_native
@every_geometry
@pytest.mark.parametrize("version", [1, 2])
def test_deformable_convolution_in_float32_is_as_good_as_float32(geometry, version):
    arrays, options = deformable_arrays(*geometry, version=version), geometry[-1]
    expected = outcome(deformable(**options), arrays, "float64", implementation="composed")
    expected["y"] = reference.deform_conv2d(**arrays, **options)
    used = {name: options[name] for name in ("groups", "deformable_groups") if name in options}
    assert_exact(outcome(deformable(**options), arrays), expected, deformable_terms(arrays, expected["y"], **used))


@needs_native
@every_norm
@pytest.mark.parametrize("mean", [1000, 1e4])
def test_a_large_mean_costs_little(op, shape, values, definition, mean):
    arrays = norm_arrays(*shape, mean=mean)
    got, expected = outcome(op, arrays), outcome(op, arrays, "float64", implementation="composed")
    expected["y"] = definition(**{name: array.astype(np.float64) for name, array in arrays.items()})
    for name, value in expected.items():
        assert np.abs(got[name] - value).max() <= 2e-3 * max(1, np.abs(value).max()), name


@needs_native
@every_norm
def test_outliers_at_the_start(op, shape, values, definition):
    arrays = norm_arrays(*shape)
    arrays["x"][:, :, 0, 0] = 1e5
    got, expected = outcome(op, arrays), outcome(op, arrays, "float64", implementation="composed")
    expected["y"] = definition(**{name: array.astype(np.float64) for name, array in arrays.items()})
    assert_exact(got, expected, norm_terms(shape, values))
    others = {"y": got["y"][:, :, 1:]}, {"y": expected["y"][:, :, 1:]}
    assert_exact(*others, norm_terms(shape, values))


@needs_native
@every_norm
def test_a_mean_that_wanders(op, shape, values, definition):
    arrays = norm_arrays(*shape)
    arrays["x"] += np.linspace(0, 20, shape[2] * shape[3], dtype=np.float32).reshape(shape[2:])
    arrays["x"] += np.linspace(0, 50, shape[0] * shape[1], dtype=np.float32).reshape([*shape[:2], 1, 1])
    expected = outcome(op, arrays, "float64", implementation="composed")
    expected["y"] = definition(**{name: array.astype(np.float64) for name, array in arrays.items()})
    assert_exact(outcome(op, arrays), expected, norm_terms(shape, values))


def check_both_precisions(op, arrays, terms):
    expected = outcome(op, arrays, "float64", implementation="composed")
    for name, value in outcome(op, arrays, "float64").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
    assert_exact(outcome(op, arrays), expected, terms(expected), least=4.0)


few = st.integers(1, 4)


@needs_native
@settings(max_examples=30, deadline=None, derandomize=True)
@given(few, st.integers(1, 3), few, st.lists(st.integers(1, 9), max_size=3), st.booleans())
def test_group_norm_of_random_shapes(count, size, images, positions, relu):
    shape = images, count * size, *positions
    terms = norm_terms(shape, size * int(np.prod(positions)))
    check_both_precisions(
        lambda **arguments: groups(count)(**arguments, relu=relu), norm_arrays(*shape), lambda _: terms
    )


@needs_native
@settings(max_examples=30, deadline=None, derandomize=True)
@given(few, few, few, st.lists(st.integers(1, 9), max_size=3), st.booleans())
def test_batch_norm_of_random_shapes(count, images, channels, positions, relu):
    shape = count * images, channels, *positions
    terms = norm_terms(shape, images * int(np.prod(positions)))
    check_both_precisions(
        lambda **arguments: workers(images)(**arguments, relu=relu), norm_arrays(*shape), lambda _: terms
    )


@needs_native
@settings(max_examples=30, deadline=None, derandomize=True)
@given(few, few, st.lists(st.integers(1, 9), max_size=3))
def test_filter_response_norm_and_its_activation_of_random_shapes(images, channels, positions):
    shape = images, channels, *positions
    arrays, terms = activated_arrays("threshold", *shape), norm_terms(shape, int(np.prod(positions)))
    check_both_precisions(maps, arrays, lambda _: terms)
    check_both_precisions(cut_off, {name: arrays[name] for name in ("x", "threshold")}, lambda _: terms)


@needs_native
@settings(max_examples=30, deadline=None, derandomize=True)
@given(few, st.integers(1, 3), few, st.lists(st.integers(1, 9), max_size=3))
def test_evonorm_of_random_shapes(count, size, images, positions):
    shape = images, count * size, *positions
    terms = norm_terms(shape, size * int(np.prod(positions)))
    check_both_precisions(sloping_groups(count), activated_arrays("slope", *shape), lambda _: terms)


@needs_native
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_deformable_convolution_of_random_geometries(data):
    pair = st.tuples(few, few)
    kernel = data.draw(pair, "kernel")
    options = {name: data.draw(pair, name) for name in ("stride", "dilation")}
    options["padding"] = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)), "padding")
    options["groups"], options["deformable_groups"] = few_groups = data.draw(pair, "groups")
    channels = int(np.lcm(*few_groups)) * data.draw(st.integers(1, 6), "channels")
    size = [
        max(1, options["dilation"][axis] * (kernel[axis] - 1) + data.draw(few, "more") - 2 * options["padding"][axis])
        for axis in (0, 1)
    ]
    arrays = deformable_arrays(
        channels, few_groups[0] * data.draw(few, "out"), *size, kernel, options, images=data.draw(few, "images"),
        version=data.draw(st.sampled_from([1, 2]), "version"),
    )
    terms = lambda expected: deformable_terms(arrays, expected["y"], few_groups[1], few_groups[0])  # noqa: E731
    check_both_precisions(deformable(**options), arrays, terms)


OPS = {
    "gn": (groups(3), norm_arrays(2, 6, 17, 13)),
    "gn of one image": (groups(1), norm_arrays(1, 5, 70, 61)),
    "bn": (workers(2), norm_arrays(6, 5, 17, 13)),
    "brn": (renormed(2), norm_arrays(6, 5, 17, 13)),
    "frn": (maps, activated_arrays("threshold", 2, 6, 17, 13)),
    "threshold": (cut_off, {name: activated_arrays("threshold", 2, 6, 17, 13)[name] for name in ("x", "threshold")}),
    "evonorm": (sloping_groups(3), activated_arrays("slope", 2, 6, 17, 13)),
    "dcn v1": (deformable(padding=(1, 1)), deformable_arrays(20, 8, 9, 8, (3, 3), {"padding": (1, 1)}, version=1)),
    "dcn v2 of one image": (deformable(padding=(1, 1)),
                            deformable_arrays(20, 8, 29, 28, (3, 3), {"padding": (1, 1)}, images=1)),
}
every_op = pytest.mark.parametrize("op, arrays", OPS.values(), ids=OPS)


def bits():
    """A short name of all the bits that the kernels give for OPS, which must be right and the same however often."""
    for op, arrays in OPS.values():
        for name, value in outcome(op, arrays, implementation="composed").items():
            np.testing.assert_allclose(outcome(op, arrays)[name], value, rtol=1e-3, atol=1e-3, err_msg=name)
    names, kept = set(), []
    for _ in range(5):
        outcomes = [outcome(op, arrays) for op, arrays in OPS.values()]
        values = b"".join(value.tobytes() for results in outcomes for value in results.values())
        names.add(hashlib.sha256(values).hexdigest())
        kept.append(paddle.ones([1001 + 16 * len(kept)]))  # other addresses for the next
        gc.collect()
    (name,) = names
    return name


@needs_native
def test_the_same_bits_on_every_run():
    command = [sys.executable, "-c", "import test_ops_native; print(test_ops_native.bits())"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": path}
    processes = [
        subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    printed = [process.communicate() for process in processes]
    assert all(process.returncode == 0 for process in processes), printed
    assert printed[0][0].split()[-1] == printed[1][0].split()[-1]


@needs_native
@pytest.mark.parametrize("op, arrays", [OPS["gn"], OPS["bn"], OPS["brn"]], ids=["gn", "bn", "brn"])
def test_relu_in_the_kernel_is_relu_of_its_output(op, arrays):
    fused, apart = outcome(op, arrays, relu=True), outcome(lambda **arguments: F.relu(op(**arguments)), arrays)
    assert 0.2 < (fused["y"] > 0).mean() < 0.8
    assert_same(fused, apart)


@needs_native
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("at", [(1, 3, 0, 0), (1, 3, 16, 12)])
def test_what_is_no_number_stays_visible(relu, broken, at):
    arrays = {name: array.copy() for name, array in OPS["gn"][1].items()}
    arrays["x"][at] = broken
    y = outcome(groups(3), arrays, relu=relu)["y"]
    assert np.isnan(y[1, 2:4]).all() and np.isnan(y).sum() == y[1, 2:4].size
    y = outcome(workers(1), arrays, relu=relu)["y"]
    assert np.isnan(y[1, 3]).all() and np.isnan(y).sum() == y[1, 3].size


@needs_native
@pytest.mark.parametrize("slope", [1e-3, 1.0, 100.0, -1e30])
def test_evonorm_of_any_slope(slope):
    arrays = activated_arrays("slope", 2, 6, 17, 13)
    arrays["slope"][:] = slope
    expected = outcome(sloping_groups(3), arrays, "float64", implementation="composed")
    assert_exact(outcome(sloping_groups(3), arrays), expected, norm_terms((2, 6, 17, 13), 442), least=1.0)


@needs_native
def test_what_is_no_number_is_neither_cut_off_nor_bent():
    arrays = activated_arrays("threshold", 2, 6, 17, 13)
    arrays["x"][1, 3, 16, 12] = np.nan
    y = outcome(maps, arrays)["y"]
    assert np.isnan(y[1, 3]).all() and np.isnan(y).sum() == y[1, 3].size
    y = outcome(cut_off, {name: arrays[name] for name in ("x", "threshold")})["y"]
    assert np.isnan(y[1, 3, 16, 12]) and np.isnan(y).sum() == 1
    y = outcome(sloping_groups(3), {**norm_arrays(2, 6, 17, 13), "x": arrays["x"]})["y"]
    assert np.isnan(y[1, 2:4]).all() and np.isnan(y).sum() == y[1, 2:4].size


@needs_native
def test_offsets_that_are_far_or_no_numbers():
    arrays, options = deformable_arrays(*GEOMETRIES["all"]), GEOMETRIES["all"][-1]
    arrays["offset"][0, ::3] = 1e30
    arrays["offset"][1, 1::4] = -1e9
    got, expected = (outcome(deformable(**options), arrays, implementation=name) for name in ("native", "composed"))
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    arrays["offset"][1, 3, 4, 5] = np.nan
    got = outcome(deformable(**options), arrays)
    y = reference.deform_conv2d(**arrays, **options)
    assert 0 < np.isnan(y).sum() < y.size
    np.testing.assert_allclose(got["y"], y, rtol=1e-4, atol=1e-4)
    assert np.isnan(got["offset"][1, 3, 4, 5]) and np.isnan(got["weight"]).any()


@needs_native
def test_a_mask_that_is_no_number_stays_visible_where_its_point_is_outside():
    arrays, options = deformable_arrays(*GEOMETRIES["all"]), GEOMETRIES["all"][-1]
    arrays["mask"][1, 1, 4, 5], arrays["offset"][1, 2:4, 4, 5] = np.nan, 1e3
    y = reference.deform_conv2d(**arrays, **options)
    assert 0 < np.isnan(y).sum() < y.size
    np.testing.assert_allclose(outcome(deformable(**options), arrays)["y"], y, rtol=1e-4, atol=1e-4)
