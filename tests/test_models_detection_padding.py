"""What a picture is padded by decides nothing: not what a detector answers, nor what it learns in a pass."""

import numpy as np
import paddle
import pytest
from test_models_detection_network import ROWS, detector, finite, scenes

from data.detection import batch as data_batch
from models.detection.mask_rcnn import MULTIPLE

SIZES = [(64, 96), (90, 40), (57, 96), (64, 70)]  # height, width: the second stands alone once they are rounded up
GN = ["GN everywhere, from scratch", "C4, GN", "deformable"]


def padded(sizes, height, width):
    """scenes() of these sizes, padded to height x width."""
    rows = [scenes(images=1, height=tall, width=wide, seed=seed) for seed, (tall, wide) in enumerate(sizes)]
    batch = {name: np.concatenate([row[name].numpy() for row in rows]) for name in ("boxes", "classes", "objects")}
    batch["image"] = np.zeros([len(sizes), 3, height, width], "float32")
    batch["masks"] = np.zeros([len(sizes), 3, height, width // 8], "uint8")
    for name in ("image", "masks"):
        for place, row in zip(batch[name], rows, strict=True):
            place[:, : row[name].shape[2], : row[name].shape[3]] = row[name].numpy()[0]
    batch |= {"size": np.array(sizes), "sampling_seed": 100 + np.arange(len(sizes))}
    return {name: paddle.to_tensor(value) for name, value in batch.items()}


def same(one, two):
    assert list(one) == list(two)
    for name, value in one.items():
        np.testing.assert_allclose(two[name].numpy(), value.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", GN)
def test_a_picture_has_its_answer_whatever_shares_its_batch(name):
    model = detector(ROWS[name])
    model.rpn.deltas.weight.set_value(20 * model.rpn.deltas.weight)
    model.eval()
    with paddle.no_grad():
        together = model(padded(SIZES, 96, 128))
        for row, size in enumerate(SIZES):
            height, width = data_batch.padded(size)
            alone = scenes(images=1, height=size[0], width=size[1], seed=row)
            image = np.zeros([1, 3, height, width], "float32")
            image[:, :, : size[0], : size[1]] = alone["image"].numpy()
            alone = model({"image": paddle.to_tensor(image), "size": alone["size"]})
            assert int(alone["objects"][0])
            same(alone, {key: value[row : row + 1] for key, value in together.items()})


def test_pictures_of_one_size_pass_together():
    model, batches = detector(ROWS["BN*"]), []
    model.backbone.register_forward_pre_hook(lambda layer, inputs: batches.append(list(inputs[0].shape)))
    model.eval()
    with paddle.no_grad():
        model(padded(SIZES, 96, 128))
        model(scenes(images=3))
    assert batches == [[3, 3, 64, 96], [1, 3, 96, 64], [3, 3, 64, 96]]


@pytest.mark.parametrize("name", GN)
def test_a_pass_is_padded_to_its_own_largest_picture(name):
    model = detector(ROWS[name])
    for one, two in ((padded(SIZES[2:], 64, 96), padded(SIZES[2:], 96, 160)),
                     (padded(SIZES[:2], 96, 96), padded(SIZES[:2], 128, 128))):
        losses = model(one)
        assert finite(losses) and float(losses["loss_mask"])
        same(losses, model(two))


def test_network_and_data_round_up_alike():
    assert MULTIPLE == data_batch.MULTIPLE
