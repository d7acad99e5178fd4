"""Batch norm of one and of several emulated workers against its definition and Paddle's own layers."""

import numpy as np
import paddle
import pytest
import reference
from conftest import here

from ops.batch_norm import IMPLEMENTATIONS, BatchNorm, SyncBatchNorm, batch_norm

every_implementation = pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
# Paddle's CPU kernel knows no 16-bit floats.
every_half_precision_implementation = pytest.mark.parametrize(
    "implementation", [name for name in here(IMPLEMENTATIONS) if name != "paddle"]
)

EPS = 2**-10  # like the momentum of 0.75 exact in float32, in which Paddle's float64 kernels keep the two


def example(*shape, seed=0):
    """x with another level and spread in every image and channel, running mean and variance, gamma, beta: float64."""
    rng = np.random.default_rng(seed)
    level, spread = rng.normal(size=[2, *shape[:2]] + [1] * (len(shape) - 2))
    x = level + np.exp(spread) * rng.normal(size=shape)
    mean, weight, bias = rng.normal(size=[3, shape[1]])
    return x, mean, rng.uniform(0.5, 2, size=shape[1]), weight, bias


def tensors(*arrays, dtype="float64"):
    return [paddle.to_tensor(array).astype(dtype) for array in arrays]


def assert_close(tensor, array, tolerance=1e-10):
    np.testing.assert_allclose(tensor.astype("float64").numpy(), array, rtol=tolerance, atol=tolerance)


@every_implementation
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3), (6, 4, 2, 5, 3)], ids=str)
@pytest.mark.parametrize("images_per_worker", [None, 2, 3, 6])
@pytest.mark.parametrize("running_statistics", ["first", "mean"])
def test_training_matches_the_definition(implementation, shape, images_per_worker, running_statistics):
    arrays = example(*shape)
    options = {
        "training": True, "momentum": 0.75, "eps": EPS,
        "images_per_worker": images_per_worker, "running_statistics": running_statistics,
    }
    expected, expected_mean, expected_variance = reference.batch_norm(*arrays, **options)
    x, mean, variance, weight, bias = tensors(*arrays)
    y = batch_norm(x, mean, variance, weight, bias, **options, implementation=implementation)
    assert list(y.shape) == list(shape)
    assert_close(y, expected)
    assert_close(mean, expected_mean)
    assert_close(variance, expected_variance)


@every_implementation
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2), (3, 4, 2, 5, 3)], ids=str)
def test_evaluation_matches_the_definition(implementation, shape):
    arrays = example(*shape)
    expected, *_ = reference.batch_norm(*arrays, training=False, eps=EPS)
    x, mean, variance, weight, bias = tensors(*arrays)
    y = batch_norm(x, mean, variance, weight, bias, training=False, eps=EPS, implementation=implementation)
    assert_close(y, expected)
    assert_close(mean, arrays[1], 0)
    assert_close(variance, arrays[2], 0)


@every_implementation
def test_matches_the_definition_in_float32(implementation):
    arrays = example(6, 4, 9, 7)
    expected, expected_mean, expected_variance = reference.batch_norm(*arrays, training=True, images_per_worker=3)
    x, mean, variance, weight, bias = tensors(*arrays, dtype="float32")
    y = batch_norm(
        x, mean, variance, weight, bias, training=True, images_per_worker=3, implementation=implementation
    )
    assert y.dtype == paddle.float32
    assert_close(y, expected, 2e-5)
    assert_close(mean, expected_mean, 1e-5)
    assert_close(variance, expected_variance, 1e-5)


@every_implementation
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("has_weight, has_bias", [(False, False), (True, False), (False, True)])
def test_gamma_and_beta_may_be_left_out(implementation, training, has_weight, has_bias):
    x, mean, variance, weight, bias = example(4, 3, 5, 2)
    weight, bias = weight if has_weight else None, bias if has_bias else None
    expected, *_ = reference.batch_norm(x, mean, variance, weight, bias, training=training)
    vectors = [None if vector is None else paddle.to_tensor(vector) for vector in (weight, bias)]
    y = batch_norm(*tensors(x, mean, variance), *vectors, training=training, implementation=implementation)
    assert_close(y, expected)


@every_implementation
@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (4, 3), (4, 2, 2, 3, 1)], ids=str)
@pytest.mark.parametrize("training, images_per_worker", [(True, None), (True, 2), (False, None)])
def test_gradients(implementation, shape, training, images_per_worker):
    x, mean, variance, weight, bias = example(*shape)
    options = {"training": training, "eps": EPS, "images_per_worker": images_per_worker}
    reference.check_gradients(
        lambda x, weight, bias: batch_norm(
            x, *tensors(mean, variance), weight, bias, **options, implementation=implementation
        ),
        lambda x, weight, bias: reference.batch_norm(x, mean, variance, weight, bias, **options)[0],
        {"x": x, "weight": weight, "bias": bias},
    )


@every_implementation
@pytest.mark.parametrize(
    "running_statistics, expected_mean, expected_variance",
    [
        ("first", [0.75 * 8 + 0.25 * 2, 0.25 * 2], [0.75 + 0.25 * 4, 0.75 + 0.25 * 1]),
        ("mean", [0.75 * 8 + 0.25 * 11, 0.25 * 4.5], [0.75 + 0.25 * 52, 0.75 + 0.25 * 2.5]),
    ],
)
def test_two_workers_by_hand(implementation, running_statistics, expected_mean, expected_variance):
    # Worker 1: channel 0 holds 0 4 (mean 2, variance 4), channel 1 holds 1 3 (2, 1).
    # Worker 2: channel 0 holds 30 10 (mean 20, variance 100), channel 1 holds 5 9 (7, 4).
    x, weight, bias = tensors([[[0.0, 4.0], [1.0, 3.0]], [[30.0, 10.0], [5.0, 9.0]]], [1.0, 3.0], [0.0, 50.0])
    mean, variance = tensors([8.0, 0.0], [1.0, 1.0])
    y = batch_norm(
        x, mean, variance, weight, bias, training=True, momentum=0.75, eps=0.0, images_per_worker=1,
        running_statistics=running_statistics, implementation=implementation,
    )
    assert_close(y, [[[-1.0, 1.0], [47.0, 53.0]], [[1.0, -1.0], [47.0, 53.0]]])
    assert_close(mean, expected_mean)
    assert_close(variance, expected_variance)


@pytest.mark.parametrize("implementation", here(IMPLEMENTATIONS))
@pytest.mark.parametrize("shape", [(1, 3), (2, 3, 1, 1)], ids=str)
def test_one_value_a_channel_becomes_beta(implementation, shape):
    x, mean, variance, weight, bias = tensors(*example(*shape))
    y = batch_norm(
        x, mean, variance, weight, bias, training=True, images_per_worker=1, implementation=implementation
    )
    assert_close(y.reshape([-1, 3]), np.broadcast_to(bias.numpy(), [shape[0], 3]))


@every_implementation
@pytest.mark.parametrize("running_statistics", ["first", "mean"])
def test_workers_in_one_call_equal_a_call_for_each(implementation, running_statistics):
    arrays = example(6, 4, 5, 3)
    x, mean, variance, weight, bias = tensors(*arrays)
    for tensor in (x, weight, bias):
        tensor.stop_gradient = False
    y = batch_norm(
        x, mean, variance, weight, bias, training=True, images_per_worker=2,
        running_statistics=running_statistics, implementation=implementation,
    )
    (y**3).sum().backward()

    outputs, gradients, means, variances = [], [], [], []
    _, _, _, shared_weight, shared_bias = tensors(*arrays)
    shared_weight.stop_gradient = shared_bias.stop_gradient = False
    for start in (0, 2, 4):
        part, own_mean, own_variance, _, _ = tensors(arrays[0][start : start + 2], *arrays[1:])
        part.stop_gradient = False
        own = batch_norm(
            part, own_mean, own_variance, shared_weight, shared_bias, training=True, implementation=implementation
        )
        (own**3).sum().backward()
        outputs.append(own.numpy())
        gradients.append(part.grad.numpy())
        means.append(own_mean.numpy())
        variances.append(own_variance.numpy())
    assert_close(y, np.concatenate(outputs))
    assert_close(x.grad, np.concatenate(gradients))
    assert_close(weight.grad, shared_weight.grad.numpy())
    assert_close(bias.grad, shared_bias.grad.numpy())
    assert_close(mean, means[0] if running_statistics == "first" else np.mean(means, axis=0))
    assert_close(variance, variances[0] if running_statistics == "first" else np.mean(variances, axis=0))


@every_implementation
@pytest.mark.parametrize("images_per_worker", [None, 2])
def test_running_vectors_change_in_place_and_need_no_gradient(implementation, images_per_worker):
    x = tensors(example(4, 3, 5, 2)[0], dtype="float32")[0]
    x.stop_gradient = False
    layer = BatchNorm(3, images_per_worker, "mean", implementation=implementation)
    buffers = layer._mean, layer._variance
    (layer(x) ** 3).sum().backward()
    assert layer._mean is buffers[0] and layer._variance is buffers[1]
    for buffer, start in zip(buffers, (0, 1), strict=True):
        assert buffer.stop_gradient and buffer.is_leaf and buffer.grad is None
        assert not np.isclose(buffer.numpy(), start, atol=1e-4).any()


@every_implementation
def test_evaluation_knows_no_workers(implementation):
    x = tensors(example(5, 3, 4, 2)[0], dtype="float32")[0]  # 5 images: no whole number of workers of 2
    emulated, plain = (BatchNorm(3, images, implementation=implementation) for images in (2, None))
    emulated(x[:4])
    plain.set_state_dict(emulated.state_dict())
    emulated.eval()
    plain.eval()
    before = emulated._mean.numpy().copy()
    np.testing.assert_array_equal(emulated(x).numpy(), plain(x).numpy())
    np.testing.assert_array_equal(emulated._mean.numpy(), before)
    np.testing.assert_allclose(emulated(x).numpy()[3:], emulated(x[3:]).numpy(), atol=1e-6)


@every_implementation
def test_a_large_mean_changes_nothing(implementation):
    x = np.random.default_rng(0).integers(-2048, 2048, [6, 3, 20, 15]) / 1024  # exact in float32, + 1000 too
    outputs = [
        batch_norm(
            moved, paddle.zeros([3]), paddle.ones([3]), training=True, images_per_worker=2,
            implementation=implementation,
        ).numpy()
        for moved in tensors(x, x + 1000, dtype="float32")
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-3)


@every_half_precision_implementation
@pytest.mark.parametrize("dtype, tolerance", [("float16", 4e-3), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_takes_its_statistics_in_float32(implementation, dtype, tolerance, training):
    x, mean, variance, weight, bias = example(6, 4, 10, 15)
    x = tensors(200 + 300 * x, dtype=dtype)[0]  # sums and squares overflow float16
    vectors = tensors(200 + 300 * mean, 9e4 * variance, weight, bias, dtype="float32")
    options = {"training": training, "images_per_worker": 3}
    exact = [t.astype("float64").numpy() for t in (x, *vectors)]
    expected, expected_mean, expected_variance = reference.batch_norm(*exact, **options)
    y = batch_norm(x, *vectors, **options, implementation=implementation)
    assert y.dtype == x.dtype
    assert vectors[0].dtype == vectors[1].dtype == paddle.float32
    assert_close(y, expected, tolerance)
    assert_close(vectors[0], expected_mean, 1e-4)
    assert_close(vectors[1], expected_variance, 1e-4)


def test_auto_is_the_first_implementation_that_runs_here():
    x, mean, variance, weight, bias = tensors(*example(4, 3, 5, 2))
    first, auto = (
        batch_norm(x, mean.clone(), variance.clone(), weight, bias, training=True, implementation=implementation)
        for implementation in (here(IMPLEMENTATIONS)[0], "auto")
    )
    np.testing.assert_array_equal(first.numpy(), auto.numpy())


@every_implementation
@pytest.mark.parametrize("shape, paddles", [((4, 3, 5, 2), "BatchNorm2D"), ((4, 3, 2, 5, 3), "BatchNorm3D")])
def test_layer_equals_paddles_own_over_training_and_in_evaluation(implementation, shape, paddles):
    ours, theirs = BatchNorm(3, implementation=implementation), getattr(paddle.nn, paddles)(3)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias", "_mean", "_variance"]
    optimizers = [paddle.optimizer.SGD(0.1, parameters=layer.parameters()) for layer in (ours, theirs)]
    for step in range(4):
        x = tensors(example(*shape, seed=step)[0], dtype="float32")[0]
        outputs = []
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            outputs.append(layer(x))
            (outputs[-1] ** 3).mean().backward()
            optimizer.step()
            optimizer.clear_grad()
        np.testing.assert_allclose(outputs[0].numpy(), outputs[1].numpy(), atol=1e-5)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), atol=1e-5, err_msg=name)
    assert not np.allclose(ours.weight.numpy(), 1, atol=1e-3)
    ours.eval()
    theirs.eval()
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), atol=1e-5)


@every_implementation
@pytest.mark.parametrize("running_statistics", ["first", "mean"])
def test_layer_hands_its_settings_on(implementation, running_statistics):
    options = {"momentum": 0.75, "eps": EPS, "images_per_worker": 2, "running_statistics": running_statistics}
    layer = BatchNorm(3, initial_scale=0.25, implementation=implementation, **options)
    np.testing.assert_array_equal(layer.weight.numpy(), [0.25] * 3)
    np.testing.assert_array_equal(layer.bias.numpy(), [0.0] * 3)
    mean, variance, weight, bias = np.zeros(3), np.ones(3), np.full(3, 0.25), np.zeros(3)
    for step in range(2):
        x = example(6, 3, 5, 2, seed=step)[0]
        expected, mean, variance = reference.batch_norm(x, mean, variance, weight, bias, training=True, **options)
        assert_close(layer(*tensors(x, dtype="float32")), expected, 1e-5)
    assert_close(layer._mean, mean, 1e-5)
    assert_close(layer._variance, variance, 1e-5)
    layer.eval()
    expected, *_ = reference.batch_norm(x, mean, variance, weight, bias, training=False, **options)
    assert_close(layer(*tensors(x, dtype="float32")), expected, 1e-5)


def test_layer_runs_the_implementation_it_was_given(monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS, "spy", lambda x, *_: x + 1)
    np.testing.assert_array_equal(BatchNorm(3, implementation="spy")(paddle.ones([4, 3, 2])).numpy(), 2)


def test_sync_batch_norm_on_one_process_sees_all_images():
    if paddle.device.get_device() != "cpu":
        pytest.skip("on a GPU this is Paddle's own layer")
    layer = SyncBatchNorm(3, momentum=0.75, eps=EPS, initial_scale=0.25)
    mean, variance, weight, bias = np.zeros(3), np.ones(3), np.full(3, 0.25), np.zeros(3)
    for step in range(2):
        x = example(6, 3, 5, 2, seed=step)[0]
        expected, mean, variance = reference.batch_norm(
            x, mean, variance, weight, bias, training=True, momentum=0.75, eps=EPS
        )
        assert_close(layer(*tensors(x, dtype="float32")), expected, 1e-5)
    assert_close(layer._mean, mean, 1e-5)
    assert_close(layer._variance, variance, 1e-5)
    layer.eval()
    expected, *_ = reference.batch_norm(x, mean, variance, weight, bias, training=False, eps=EPS)
    assert_close(layer(*tensors(x, dtype="float32")), expected, 1e-5)
    assert list(layer.state_dict()) == list(BatchNorm(3).state_dict())


def test_sync_batch_norm_refuses_several_processes_without_gpus(monkeypatch):
    layer = SyncBatchNorm(3)
    x = paddle.to_tensor(example(4, 3, 5, 2)[0].astype("float32"), place=paddle.CPUPlace())
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="sync_bn: Paddle has no CPU kernel"):
        layer(x)
    layer.eval()  # evaluation needs no other process
    assert list(layer(x).shape) == [4, 3, 5, 2]


@pytest.mark.parametrize("images_per_worker", [4, 5, 12, 0, -2])
def test_images_must_divide_into_workers(images_per_worker):
    with pytest.raises(ValueError, match=f"6 images do not divide into workers of {images_per_worker} images"):
        BatchNorm(3, images_per_worker)(paddle.zeros([6, 3, 5, 2]))


def test_unknown_running_statistics():
    for training in (True, False):
        with pytest.raises(ValueError, match="'last': expected 'first' or 'mean'"):
            batch_norm(
                paddle.zeros([4, 3, 5, 2]), paddle.zeros([3]), paddle.ones([3]), training=training,
                running_statistics="last",
            )


def test_unknown_implementation():
    with pytest.raises(ValueError, match="'fast': expected one of auto, .*composed"):
        BatchNorm(3, implementation="fast")
    with pytest.raises(ValueError, match="'fast'"):
        batch_norm(
            paddle.zeros([4, 3, 5, 2]), paddle.zeros([3]), paddle.ones([3]), training=True, implementation="fast"
        )


@every_implementation
@pytest.mark.parametrize("training", [True, False])
def test_sixteen_bits_beside_thirty_two_are_computed_in_thirty_two(implementation, training):
    x, mean, variance, weight, bias = tensors(*example(4, 3, 5, 2), dtype="float32")
    low = [vector.astype("float16") for vector in (x, weight, bias)]
    wide = [vector.astype("float32") for vector in low]
    running = [mean, variance] if training else [mean.astype("float16"), variance.astype("float16")]

    def outcome(x, weight, bias, running):
        return batch_norm(x, *running, weight, bias, training=training, implementation=implementation)

    expected = outcome(*wide, [vector.astype("float32") for vector in running]).numpy()
    y = outcome(*low, running)
    assert y.dtype == paddle.float16
    assert_close(y.astype("float32"), expected, 1e-2)
    assert_close(outcome(wide[0], *low[1:], running), expected, 1e-2)


@every_implementation
def test_a_step_in_training_changes_no_gradient_of_an_evaluation_before(implementation):
    gradients = []
    for steps in (0, 1):
        x, mean, variance, weight, bias = tensors(*example(4, 3, 5, 2), dtype="float32")
        x.stop_gradient = weight.stop_gradient = bias.stop_gradient = False
        y = batch_norm(x, mean, variance, weight, bias, training=False, implementation=implementation)
        for _ in range(steps):
            batch_norm(5 + 9 * x, mean, variance, weight, bias, training=True, implementation=implementation)
        (y * y).sum().backward()
        gradients.append([vector.grad.numpy() for vector in (x, weight, bias)])
    for before, after in zip(*gradients, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("learning", [["x"], ["weight"], ["bias"], ["x", "weight"], ["x", "bias"], ["weight", "bias"]])
def test_any_of_the_arguments_may_learn(learning, training):
    gradients = []
    for implementation in ("composed", "paddle"):
        arguments = dict(
            zip(("x", "running_mean", "running_variance", "weight", "bias"), tensors(*example(2, 3, 5, 4)), strict=True)
        )
        for name in ("x", "weight", "bias"):
            arguments[name].stop_gradient = name not in learning
        (batch_norm(**arguments, training=training, implementation=implementation) ** 3).sum().backward()
        gradients.append({name: arguments[name].grad.numpy() for name in learning})
    for name in learning:
        np.testing.assert_allclose(gradients[1][name], gradients[0][name], rtol=1e-5, atol=1e-5)
