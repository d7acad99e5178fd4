"""Detectors as graphs: loaded again they answer as the network does, for pictures of any size and for none found."""

import numpy as np
import paddle
import pytest
from PIL import Image

from data.detection.preparation import DetectionPreparation
from engine.tasks import task_of
from engine.tasks.export import export
from models import DetectionGraph, mask_rcnn, resnet

PREPARATION = DetectionPreparation(
    ("a", "b", "c"), (3, 64, 96), (0.5,) * 3, (0.5,) * 3, 64, resize_long=96, category_ids=(1, 2, 3)
)
NETWORKS = {
    "fpn": {},
    "c4": {"neck": "c4"},
    "deformable": {"roi_pooling": "modulated", "deformable_stages": ("c5",), "masks": False},
    "nothing found": {"score_threshold": 0.999},
}


def detector(*, deformable_stages=(), **settings):
    """A network whose random weights say something."""
    paddle.seed(0)
    backbone = resnet(depth=18, width=4, norm_groups=2, deformable_stages=deformable_stages, zero_init_last_norm=False)
    model = mask_rcnn(
        backbone, 3, fpn_channels=8, head_channels=8, box_head_features=16, norm_groups=2,
        anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0), canonical_box_size=36.0, proposals_before_nms=(100, 60),
        proposals_after_nms=(60, 40), detections_per_image=30, **settings,
    )
    for layer in (model.heads.predictor.logits, model.heads.predictor.deltas, model.rpn.deltas):
        layer.weight.set_value(20 * layer.weight)
    model.eval()
    return model


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_the_graph_answers_as_the_network(tmp_path, settings):
    model = detector(**settings)
    task = task_of("faster_rcnn" if settings.get("masks") is False else "mask_rcnn")
    assert export(model, task, PREPARATION, tmp_path / "export") < 1e-5
    loaded = paddle.jit.load(str(tmp_path / "export" / "inference"))
    image = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 3, 64, 128)), "float32")
    with paddle.no_grad():
        answer, graph = model({"image": image}), loaded(image)
    found = int(answer["objects"][0])
    assert (found == 0) == ("score_threshold" in settings)
    names = [name for name in ("boxes", "scores", "classes", "masks") if name in answer]
    assert len(graph) == len(names)
    for name, tensor in zip(names, graph, strict=True):
        assert list(tensor.shape) == [found, *answer[name].shape[2:]]
        np.testing.assert_allclose(tensor.numpy(), answer[name][0, :found].numpy(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"neck": "c4"}], ids=["fpn", "c4"])
def test_a_picture_of_odd_sides_has_the_answer_of_infer(tmp_path, settings):
    pytest.importorskip("pycocotools")
    model, task = detector(**settings), task_of("mask_rcnn")
    export(model, task, PREPARATION, tmp_path / "export")
    loaded = paddle.jit.load(str(tmp_path / "export" / "inference"))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (71, 93, 3), np.uint8))
    picture.save(tmp_path / "odd.png")
    (answer,) = task.answers(model, PREPARATION, [tmp_path / "odd.png"], least=0.0)
    image = PREPARATION(picture)
    assert image.shape == (3, 64, 84)  # 64 is a multiple of 32, 84 is none
    boxes, scores, classes, _ = (tensor.numpy() for tensor in loaded(paddle.to_tensor(image[None])))
    assert len(boxes) == len(answer["objects"]) > 0 and boxes[:, 2].max() <= 84
    np.testing.assert_allclose(scores, [each["score"] for each in answer["objects"]], rtol=1e-5)
    assert [PREPARATION.category_ids[label] for label in classes] == [each["category_id"] for each in answer["objects"]]
    scale = np.float32([93 / 84, 71 / 64] * 2)
    np.testing.assert_allclose(scale * boxes, [each["box"] for each in answer["objects"]], rtol=1e-4, atol=1e-3)


def test_a_network_of_which_no_anchor_stays_in_the_picture_has_no_answer():
    model = detector()
    model.rpn.deltas.bias.set_value(np.tile(np.float32([1e4, 0, 0, 0]), 3))
    with paddle.no_grad():
        assert DetectionGraph(model)(paddle.zeros([1, 3, 64, 64]))[0].shape == [0, 4]
        assert int(model({"image": paddle.zeros([1, 3, 64, 64])})["objects"][0]) == 0
