"""Batch renormalisation against its definition, and against batch norm, which is one of its limits."""

import numpy as np
import paddle
import pytest
import reference
from conftest import here
from test_ops_batch_norm import EPS, assert_close, example, tensors

from ops import BatchNorm, BatchRenorm, batch_norm, batch_renorm
from ops.batch_norm import IMPLEMENTATIONS
from ops.batch_renorm import limits_at

every_implementation = pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
TIGHT = {"r_max": 1.25, "d_max": 0.125}  # cut off most of what the examples have
LOOSE = {"r_max": 1e6, "d_max": 1e6}


@every_implementation
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5, 3), (6, 4, 2, 5, 3)], ids=str)
@pytest.mark.parametrize("images_per_worker", [None, 2])
@pytest.mark.parametrize("running_statistics", ["first", "mean"])
@pytest.mark.parametrize("limits", [TIGHT, {"r_max": 1.5, "d_max": 0.5}, LOOSE], ids=str)
def test_training_matches_the_definition(implementation, shape, images_per_worker, running_statistics, limits):
    arrays = example(*shape)
    options = {
        "momentum": 0.75, "eps": EPS, "images_per_worker": images_per_worker, "running_statistics": running_statistics,
        **limits,
    }
    expected = reference.batch_renorm(*arrays, **options)
    x, mean, variance, weight, bias = tensors(*arrays)
    y = batch_renorm(x, mean, variance, weight, bias, training=True, **options, implementation=implementation)
    assert y.shape == list(shape)
    for got, wanted in zip((y, mean, variance), expected, strict=True):
        assert_close(got, wanted)


@every_implementation
def test_matches_the_definition_in_float32_and_relu_is_of_its_output(implementation):
    arrays = example(6, 4, 9, 7)
    options = {"images_per_worker": 3, "r_max": 1.5, "d_max": 0.5}
    expected, *running = reference.batch_renorm(*arrays, **options)
    options |= {"training": True, "implementation": implementation}
    x, mean, variance, weight, bias = tensors(*arrays, dtype="float32")
    y = batch_renorm(x, mean, variance, weight, bias, relu=True, **options)
    assert y.dtype == paddle.float32
    assert_close(y, np.maximum(0, expected), 3e-5)
    assert_close(mean, running[0], 1e-5)
    assert_close(variance, running[1], 1e-5)


@every_implementation
@pytest.mark.parametrize("limits", [TIGHT, {"r_max": 1.5, "d_max": 0.5}, LOOSE], ids=str)
@pytest.mark.parametrize("images_per_worker", [None, 2])
def test_gradients_take_r_and_d_for_constants(implementation, limits, images_per_worker):
    x, mean, variance, weight, bias = example(4, 3, 3, 2)
    options = {"eps": EPS, "images_per_worker": images_per_worker, **limits}
    reference.check_gradients(
        lambda x, weight, bias: batch_renorm(
            x, *tensors(mean, variance), weight, bias, training=True, implementation=implementation, **options
        ),
        lambda x, weight, bias, fixed=x: reference.batch_renorm(
            x, mean, variance, weight, bias, fixed=fixed, **options
        )[0],
        {"x": x, "weight": weight, "bias": bias},
    )


@every_implementation
@pytest.mark.parametrize("images_per_worker", [None, 2])
@pytest.mark.parametrize("running_statistics", ["first", "mean"])
def test_r_max_1_and_d_max_0_are_batch_norm(implementation, images_per_worker, running_statistics):
    outcomes = []
    for op, limits in ((batch_norm, {}), (batch_renorm, {"r_max": 1.0, "d_max": 0.0})):
        x, mean, variance, weight, bias = tensors(*example(6, 4, 5, 3))
        for value in (x, weight, bias):
            value.stop_gradient = False
        y = op(
            x, mean, variance, weight, bias, training=True, images_per_worker=images_per_worker,
            running_statistics=running_statistics, implementation=implementation, **limits,
        )
        (y**3).sum().backward()
        outcomes.append([y, mean, variance, x.grad, weight.grad, bias.grad])
    for ours, theirs in zip(*outcomes, strict=True):
        assert_close(ours, theirs.numpy(), 1e-12)


@every_implementation
@pytest.mark.parametrize("limits", [LOOSE, {"r_max": np.inf, "d_max": np.inf}], ids=str)
def test_without_limits_training_normalises_as_evaluation_does(implementation, limits):
    x, mean, variance, weight, bias = tensors(*example(6, 4, 5, 3))
    options = {"images_per_worker": 2, "implementation": implementation, **limits}
    evaluated = batch_renorm(x, mean, variance, weight, bias, training=False, **options)
    assert_close(batch_renorm(x, mean, variance, weight, bias, training=True, **options), evaluated.numpy())


def test_one_worker_by_hand():
    # 0 and 4: mean 2, deviation 2. Running mean 1 and deviation 1: r = 2, cut to 1.5, and d = 1, cut to 0.5.
    vectors = tensors([1.0], [1.0], [10.0], [3.0])
    y = batch_renorm(*tensors([[[0.0, 4.0]]]), *vectors, training=True, eps=0.0, momentum=0.75)
    assert_close(y, [[[10 * (-1.5 + 0.5) + 3, 10 * (1.5 + 0.5) + 3]]])
    assert_close(vectors[0], [0.75 + 0.25 * 2])
    assert_close(vectors[1], [0.75 + 0.25 * 4])


def test_gamma_and_beta_may_be_left_out():
    x, mean, variance, *_ = example(4, 3, 5, 2)
    expected, *_ = reference.batch_renorm(x, mean, variance, **TIGHT)
    assert_close(batch_renorm(*tensors(x, mean, variance), training=True, **TIGHT), expected)


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"r_max": 0.9}, "r_max 0.9"), ({"d_max": -0.1}, "d_max -0.1"), ({"r_max": float("nan")}, "r_max nan")],
)
def test_limits_that_are_none_are_refused(limits, words):
    with pytest.raises(ValueError, match=f"batch renorm: .*{words}"):
        batch_renorm(*tensors(*example(4, 3, 2)), training=True, **limits)


@pytest.mark.parametrize("steps", [(-1, 5, 5), (5, 5, 9), (5, 9, 4)])
def test_limits_that_never_grow_are_refused(steps):
    with pytest.raises(ValueError, match="batch renorm: relax_steps"):
        BatchRenorm(3, relax_steps=steps)


def test_limits_that_no_step_reaches_are_refused():
    with pytest.raises(ValueError, match="batch renorm: r_max inf and d_max 0.5 are never reached"):
        BatchRenorm(3, r_max=np.inf, relax_steps=(0, 10, 10))


def test_what_does_not_fit_is_named():
    x, mean, variance, weight, bias = tensors(*example(4, 3, 2))
    with pytest.raises(ValueError, match="batch renorm: 4 images do not divide into workers of 3 images"):
        batch_renorm(x, mean, variance, training=True, images_per_worker=3)
    with pytest.raises(ValueError, match=r"batch renorm: bias has shape \[2\], expected \[3\]"):
        batch_renorm(x, mean, variance, weight, bias[:2], training=True)
    with pytest.raises(ValueError, match="'last': expected 'first' or 'mean'"):
        batch_renorm(x, mean, variance, training=True, running_statistics="last")


def test_limits_are_constant_or_grow_from_batch_norms():
    assert {limits_at(step, 1.5, 0.5, None) for step in (0, 10**6)} == {(1.5, 0.5)}
    papers = [limits_at(step, 3.0, 5.0, (5000, 40000, 25000)) for step in (0, 5000, 15000, 25000, 40000, 10**6)]
    assert papers == [(1, 0), (1, 0), (pytest.approx(1 + 2 * 10 / 35), 2.5), (pytest.approx(1 + 2 * 20 / 35), 5),
                      (3, 5), (3, 5)]


def test_layer_hands_its_settings_on_and_goes_by_its_step():
    options = {"momentum": 0.75, "eps": EPS, "images_per_worker": 2, "running_statistics": "mean"}
    layer = BatchRenorm(3, r_max=3.0, d_max=2.0, relax_steps=(1, 3, 2), initial_scale=0.25, **options)
    plain = BatchNorm(3)
    assert list(layer.state_dict()) == list(plain.state_dict())
    mean, variance, weight, bias = np.zeros(3), np.ones(3), np.full(3, 0.25), np.zeros(3)
    for step, (r_max, d_max) in enumerate([(1, 0), (1, 0), (2, 2), (3, 2)]):
        layer.step = step
        x = example(6, 3, 5, 2, seed=step)[0]
        expected, mean, variance = reference.batch_renorm(
            x, mean, variance, weight, bias, r_max=r_max, d_max=d_max, **options
        )
        assert_close(layer(*tensors(x, dtype="float32")), expected, 1e-5)
    assert_close(layer._mean, mean, 1e-5)
    layer.eval()
    plain.set_state_dict(layer.state_dict())
    plain.eval()
    x = paddle.to_tensor(x, "float32")
    plain.eps = EPS
    np.testing.assert_array_equal(layer(x).numpy(), plain(x).numpy())
