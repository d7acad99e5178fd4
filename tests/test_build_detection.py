"""Detectors behind the door: which keys they have, rates of offset layers, costs, what is known to fail."""

import logging
import math

import paddle
import pytest
from conftest import ROOT
from test_tasks_detection_journey import TINY

from engine.build import build_data, build_loaders, build_model, check_model, set_precise
from engine.build.learner import build_optimizer
from engine.config import load_config
from engine.config.sections import MODEL_SECTIONS
from engine.errors import Diverged, InputError
from engine.run.progress import Progress, settle
from models import resnet
from models.cost import multiply_adds
from models.detection.build import mask_rcnn
from ops import DeformConv2D, DeformRoIPool

pytest.importorskip("pycocotools")


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY + f"output: {tmp_path}\n")
    return lambda *overrides: load_config(path, overrides)


def built(config):
    return build_model(config, build_data(config)[0])


def test_the_name_says_whether_there_are_masks(load):
    fields = {name: set(section.model_fields) for name, section in MODEL_SECTIONS.items()}
    assert fields["mask_rcnn"] == fields["faster_rcnn"] > {"neck", "norm", "anchor_sizes"}
    assert not fields["mask_rcnn"] & {"masks", "images_per_worker", "num_classes", "backbone"}
    assert built(load()).heads.mask_head is not None
    faster = built(load("model.name=faster_rcnn", "model.mask_head_norm=none"))
    assert faster.heads.mask_head is None and faster.heads.images_per_worker == 2
    assert faster.backbone.out_channels == built(load()).backbone.out_channels  # what else was said stays
    with pytest.raises(InputError, match="mask_head_norm gn: there is no mask head"):
        built(load("model.name=faster_rcnn", "model.mask_head_norm=gn"))


def test_no_precise_statistics_for_batch_renormalisation_wherever_it_is(load):
    config = load("model.norm=frozen_bn", "model.fpn_norm=brn", "model.bn_running_statistics=first")
    with pytest.raises(InputError, match="--precise: is not for brn"):
        set_precise(config, built(config))


@pytest.mark.parametrize(("version", "pooling", "own", "of_convolutions", "of_pooling"), [
    (1, "deformable", [], 1.0, 0.01), (2, "modulated", [], 0.1, 1.0),
    (2, "deformable", ["optimizer.offset_lr_multiplier=0.5"], 0.5, 0.5),
    (1, "modulated", ["optimizer.roi_offset_lr_multiplier=0"], 1.0, 0.0),
    (1, "deformable", ["optimizer.offset_lr_multiplier=0.5", "optimizer.roi_offset_lr_multiplier=0.2"], 0.5, 0.2),
])
def test_offset_layers_learn_as_fast_as_in_the_papers(load, version, pooling, own, of_convolutions, of_pooling):
    config = load(
        "model.deformable_stages=[c5]", f"model.deformable_version={version}", f"model.roi_pooling={pooling}", *own,
    )
    model = built(config)
    rates = {
        id(parameter): group["learning_rate"]
        for group in build_optimizer(config, model)._param_groups for parameter in group["params"]
    }
    kinds = {DeformConv2D: of_convolutions, DeformRoIPool: of_pooling}
    for kind, rate in kinds.items():
        layers = [layer for layer in model.sublayers() if isinstance(layer, kind)]
        assert layers and {rates[id(p)] for layer in layers for p in layer.offset.parameters()} == {rate}
    assert rates[id(model.rpn.conv.weight)] == 1.0


@pytest.mark.parametrize(("overrides", "lines"), [
    ([], 2),  # bn in the backbone at two images, and in the box head
    (["model.norm=gn", "model.box_head_norm=gn", "model.fpn_norm=none"], 0),
    (["model.norm=bn", "model.box_head_norm=gn", "batch.images_per_worker=4"], 0),
    (["model.norm=gn", "model.box_head_norm=bn", "model.mask_head_norm=bn"], 2),
    (["model.neck=c4", "model.fpn_norm=none", "model.box_head=2fc", "model.box_head_norm=none",
      "model.mask_head_norm=none", "batch.images_per_worker=4"], 1),
    (["model.norm=gn", "model.box_head_norm=gn", "model.roi_pooling=modulated", "optimizer.name=adamw"], 1),
    (["model.norm=gn", "model.box_head_norm=gn", "model.roi_pooling=modulated", "optimizer.name=momentum"], 0),
    (["model.norm=gn", "model.box_head_norm=gn", "model.roi_pooling=deformable", "optimizer.name=adamw",
      "optimizer.roi_offset_lr_multiplier=0.001"], 0),
])
def test_what_is_known_to_fail_is_said(load, caplog, overrides, lines):
    config = load(*overrides)
    with caplog.at_level(logging.WARNING, "engine"):
        check_model(config, built(config), (3, 64, 64))
    found = [record.message for record in caplog.records if record.message.startswith("model.")]
    assert len(found) == lines


def test_a_classifier_is_not_given_pictures_with_boxes(load, tmp_path):
    config = load_config(ROOT / "configs" / "quickstart.yaml", ["data={name: garment_scenes}"])
    with pytest.raises(InputError, match="data: its pictures have not one class each"):
        build_loaders(config, *build_data(config))
    config = load("data={name: synthetic}")
    with pytest.raises(InputError, match="data: its pictures have no boxes"):
        build_loaders(config, *build_data(config))


def test_costs_count_each_box_and_mask():
    """Heads by hand: two linear layers and the predictors for 40 boxes, four convolutions and so on for 5 masks."""
    settings = {
        "fpn_channels": 8, "head_channels": 8, "box_head_features": 16, "proposals_after_nms": (60, 40),
        "detections_per_image": 5,
    }

    def cost(**changes):
        model = mask_rcnn(resnet(depth=18, width=4, norm_groups=2), 3, **settings | changes)
        return multiply_adds(model, [3, 64, 96])

    boxes = cost(masks=False)
    assert cost() - boxes == 5 * (4 * 9 * 8 * 8 * 14**2 + 4 * 8 * 8 * 14**2 + 8 * 3 * 28**2)
    assert cost(masks=False, proposals_after_nms=(60, 41)) - boxes == 8 * 7**2 * 16 + 16 * 16 + 16 * (4 + 12)


def test_the_loss_that_is_not_finite_is_named():
    losses = {"loss": math.nan, "loss_rpn_cls": 1.0, "loss_rpn_loc": math.inf, "loss_mask": math.nan}
    progress = Progress(step=7, window=[{name: paddle.to_tensor(value) for name, value in losses.items()}])
    with pytest.raises(Diverged, match=r"the loss is nan at step 7 \(loss_rpn_loc, loss_mask\)"):
        settle(progress)
