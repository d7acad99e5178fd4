"""Frozen batch norm against its definition and against the batch norm it is frozen from."""

from functools import partial

import numpy as np
import paddle
import pytest
import reference

from ops.batch_norm import BatchNorm
from ops.frozen_batch_norm import FrozenBatchNorm, frozen_batch_norm


def example(*shape):
    """x, mean, variance, gamma, beta as float64 arrays by name."""
    rng = np.random.default_rng(0)
    mean, weight, bias = rng.normal(size=[3, shape[1]])
    variance = rng.uniform(0.5, 2, size=shape[1])
    return {"x": rng.normal(size=shape), "mean": mean, "variance": variance, "weight": weight, "bias": bias}


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5), (2, 4, 5, 3), (2, 4, 2, 5, 3)], ids=str)
def test_matches_the_definition(shape):
    arrays = example(*shape)
    y = frozen_batch_norm(**{name: paddle.to_tensor(array) for name, array in arrays.items()}, eps=1e-3)
    assert list(y.shape) == list(shape)
    np.testing.assert_allclose(y.numpy(), reference.frozen_batch_norm(**arrays, eps=1e-3), atol=1e-12)


def test_gradient():
    """For x: the vectors are nobody's to train."""
    x, vectors = (values := example(2, 4, 5, 3)).pop("x"), values
    given = {name: paddle.to_tensor(array) for name, array in vectors.items()}
    reference.check_gradients(
        partial(frozen_batch_norm, **given), partial(reference.frozen_batch_norm, **vectors), {"x": x}
    )


def test_no_images_are_none_after_it():
    """As a detector's box head gets them where there is no box."""
    assert FrozenBatchNorm(3, relu=True)(paddle.zeros([0, 3, 2, 2])).shape == [0, 3, 2, 2]


def test_relu():
    arrays = example(2, 4, 5, 3)
    y = frozen_batch_norm(**{name: paddle.to_tensor(array) for name, array in arrays.items()}, relu=True)
    np.testing.assert_allclose(y.numpy(), np.maximum(0, reference.frozen_batch_norm(**arrays)), atol=1e-12)


def test_by_hand():
    # Deviations sqrt(3 + 1) = 2 and sqrt(15 + 1) = 4.
    x = paddle.to_tensor([[[5.0, 1.0], [0.0, 8.0]]], dtype="float64")
    vectors = [paddle.to_tensor(v, dtype="float64") for v in ([1.0, 4.0], [3.0, 15.0], [1.0, 3.0], [0.0, 10.0])]
    y = frozen_batch_norm(x, *vectors, eps=1.0)
    np.testing.assert_allclose(y.numpy(), [[[2.0, 0.0], [7.0, 13.0]]], atol=1e-12)


def test_layer_takes_over_a_trained_batch_norm_and_never_changes():
    x = paddle.to_tensor(example(4, 3, 5, 2)["x"].astype("float32"))
    trained, frozen = BatchNorm(3, eps=1e-3), FrozenBatchNorm(3, eps=1e-3)
    optimizer = paddle.optimizer.SGD(0.1, parameters=trained.parameters())
    for _ in range(2):
        (trained(2 * x + 1) ** 3).mean().backward()
        optimizer.step()
    trained.eval()
    missing, unexpected = frozen.set_state_dict(trained.state_dict())
    assert not missing and not unexpected
    before = {name: value.numpy().copy() for name, value in frozen.state_dict().items()}
    assert len({value.tobytes() for value in before.values()}) == 4  # four vectors that cannot stand for each other
    for mode in (frozen.train, frozen.eval):
        mode()
        np.testing.assert_allclose(frozen(x).numpy(), trained(x).numpy(), atol=1e-5)
    for name, value in frozen.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


def test_layer_has_nothing_to_train_and_lets_gradients_through():
    layer = FrozenBatchNorm(3, initial_scale=0.25)
    assert layer.parameters() == []
    assert list(layer.state_dict()) == ["weight", "bias", "_mean", "_variance"]
    x = paddle.to_tensor(example(4, 3, 5, 2)["x"].astype("float32"), stop_gradient=False)
    y = layer(x)
    y.sum().backward()
    np.testing.assert_allclose(y.numpy(), 0.25 * x.numpy(), atol=1e-5)  # it starts as a scale alone
    np.testing.assert_allclose(x.grad.numpy(), np.full([4, 3, 5, 2], 0.25), atol=1e-5)
    assert all(buffer.grad is None for buffer in layer.buffers())
