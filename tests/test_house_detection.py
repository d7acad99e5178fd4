"""The COCO recipes of configs/detection, on a folder that looks like COCO, only smaller."""

import math
import os

import numpy as np
import paddle
import pytest
from conftest import ROOT

from data import garment_scenes
from engine.build import build_data, build_loaders, build_model, check_model, load_pretrained, make_learner
from engine.config import load_config
from engine.sweep.definition import load_sweep
from engine.sweep.plan import make_plans
from engine.tasks.detection.coco_files import write_coco
from engine.train.step import train_step
from models import Classifier, resnet
from ops import DeformConv2D, DeformRoIPool, FrozenBatchNorm, GroupNorm

pytest.importorskip("pycocotools")
RECIPES = sorted(path.stem for path in (ROOT / "configs" / "detection").glob("coco_*.yaml"))
COCO_PICTURES = 117_266  # of train2017 show an object that is no crowd
STEPS = {  # of 16 pictures in all, and before each tenth of the rate, as Detectron has them
    "coco_fpn_frozen_bn": (180_000, 120_000, 160_000), "coco_fpn_gn_long": (270_000, 210_000, 250_000),
}
SMALL = [
    "data.train=annotations/instances_train.json", "data.validation=annotations/instances_val.json", "device=cpu",
    "data.resize_short=64", "data.resize_long=96", "batch.images_per_worker=1", "batch.workers=2",
    "reading.processes=0",
]
GN = ("_gn", "_gn_backbone", "_gn_long", "_gn_scratch")
THIN = ["width=4", "norm_groups=2", "fpn_channels=8", "head_channels=8", "box_head_features=16", "rois_per_image=16",
        "proposals_before_nms=[60,60]", "proposals_after_nms=[40,40]", "anchor_sizes=[8,16,32,64,128]"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection") / "coco"
    write_coco(garment_scenes(4, 2, image_size=64, most_garments=3), folder)
    return folder


def trained_backbone(config, folder):
    """The path of a classifier's weights, with statistics that no random network has."""
    model = Classifier(resnet(depth=50, width=config.model.width, norm="bn" if config.model.norm == "frozen_bn" else
                              config.model.norm, norm_groups=config.model.norm_groups, zero_init_last_norm=False), 7)
    chance = np.random.default_rng(0)
    for name, value in model.state_dict().items():
        if name.endswith("_variance"):
            value.set_value(chance.uniform(0.5, 2, value.shape).astype("float32"))
    path = folder / "classifier.pdparams"
    paddle.save(model.state_dict(), str(path))
    return path


def two_steps(name, coco, folder, *more):
    """(the config, the network before, and after two steps as its state, the losses of the second)."""
    path = ROOT / "configs" / "detection" / f"{name}.yaml"
    config = load_config(path, [f"data.root={coco}", *SMALL, *more])
    if config.model.frozen:
        config = load_config(path, [f"data.root={coco}", *SMALL, *more,
                                    f"pretrained={trained_backbone(config, folder)}", "pretrained_stride_in=3x3"])
    train_set, validation_set = build_data(config)
    loader, _ = build_loaders(config, train_set, validation_set)
    model = build_model(config, train_set)
    check_model(config, model, train_set.image_shape)
    if config.pretrained:
        load_pretrained(model, config)
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    learner = make_learner(config, model, loader.steps_per_epoch)
    model.train()
    for step, batch in enumerate(loader.epoch(0)):
        losses, _ = train_step(learner, batch, step)
    assert step == 1
    return config, model, before, {name: float(value) for name, value in losses.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_learn_and_keep_what_is_frozen(coco, tmp_path, name):
    thin = [f"model.{each}" for each in THIN if "c4" not in name or not each.startswith(("fpn", "box", "head"))]
    config, model, before, losses = two_steps(name, coco, tmp_path, *thin)
    assert config.lr == pytest.approx(0.02 * 2 / 16)
    assert len(losses) == (5 if "faster" in name else 6) and all(map(math.isfinite, losses.values()))
    moved = {name for name, value in model.state_dict().items() if (value.numpy() != before[name]).any()}
    still = ("backbone.stem", "backbone.c2") if config.model.frozen else ("nothing",)
    assert not [name for name in moved if name.startswith(still)]
    assert {"backbone.c3.0.conv1.weight", "rpn.conv.weight", "heads.predictor.logits.weight"} <= moved
    assert ("backbone.c3.0.norm1.bias" in moved) == (config.model.norm == "gn")


def test_recipes_are_the_papers():
    recipe = {name: load_config(ROOT / "configs" / "detection" / f"{name}.yaml") for name in RECIPES}
    for name, config in recipe.items():
        assert config.lr == (0.01 if "c4" in name else 0.02) and not config.optimizer.decay_norm_and_bias
        assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 1e-4)
        assert list(config.model.frozen) == ([] if "scratch" in name else ["stem", "c2"])
        assert config.batch.workers == 8 and config.model.norm == ("gn" if name.endswith(GN) else "frozen_bn")
    long = [name for name, config in recipe.items() if config.schedule.epochs == 37]
    assert long == ["coco_fpn_gn_long", "coco_fpn_gn_scratch"]
    for name, steps in STEPS.items():
        schedule = recipe[name].schedule
        ours = [COCO_PICTURES // 16 * epochs for epochs in (schedule.epochs, *schedule.milestones)]
        assert ours == pytest.approx(steps, rel=0.025)
        header = (ROOT / "configs" / "detection" / f"{name}.yaml").read_text()
        assert all(f"{each:,}" in header for each in ours)
    gn = recipe["coco_fpn_gn"].model
    assert {gn.norm, gn.fpn_norm, gn.box_head_norm, gn.mask_head_norm} == {"gn"} and gn.box_head == "4conv1fc"


def test_the_studies_have_plans_and_start_from_a_backbone_that_fits(tmp_path, monkeypatch):
    """scenes.yaml says what the backbone is, and pretrain_scenes.yaml says the same."""
    monkeypatch.chdir(tmp_path)
    names, start = {"gn": "pretrain_scenes", "bn": "pretrain_scenes_bn"}, {}
    for norm, name in names.items():
        more = [f"model.norm={norm}", "model.zero_init_last_norm=false", "data.train_images=2"]  # as if trained
        config = load_config(ROOT / "configs" / "pretrain_scenes.yaml", more)
        model = build_model(config, build_data(config)[0])
        (tmp_path / "output" / name).mkdir(parents=True)
        paddle.save(model.state_dict(), f"output/{name}/best.pdparams")
        start[norm] = {key: value.numpy() for key, value in model.state_dict().items() if key.startswith("backbone.")}
    for study, settings in {"from_scratch": 4, "fine_tuned": 5, "deformable": 7}.items():
        path = ROOT / "configs" / "sweeps" / f"scenes_{study}.yaml"
        sweep = load_sweep(path, ["data.train_images=8", "data.validation_images=4", "device=cpu"])
        runs = sweep.only(["seed=0"])
        assert len(make_plans(sweep, runs, timed=False)) == settings and len(sweep.runs) == 3 * settings
        for config in (run.config for run in runs if run.config.pretrained):
            model = build_model(config, build_data(config)[0])
            load_pretrained(model, config)
            state = model.state_dict()
            for key, value in start["gn" if config.model.norm == "gn" else "bn"].items():
                np.testing.assert_array_equal(state[key].numpy(), value, err_msg=key)


@pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes five minutes and 6 GB: set SLOW_TESTS=1")
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_at_full_size(coco, tmp_path, name):
    config, model, _, losses = two_steps(name, coco, tmp_path)
    assert all(map(math.isfinite, losses.values()))
    kinds = {kind: [layer for layer in model.sublayers() if isinstance(layer, kind)] for kind in (
        GroupNorm, FrozenBatchNorm, DeformConv2D, DeformRoIPool
    )}
    assert len(kinds[FrozenBatchNorm]) == (53 if config.model.norm == "frozen_bn" else 0)
    groups = 53 * (config.model.norm == "gn") + 8 * (config.model.fpn_norm == "gn")
    assert len(kinds[GroupNorm]) == groups + 4 * (config.model.box_head_norm == "gn") + 4 * (
        config.model.mask_head_norm == "gn")
    assert len(kinds[DeformConv2D]) == {0: 0, 1: 3, 3: 13}[len(config.model.deformable_stages)]
    offsets = sum(parameter.size for layer in kinds[DeformRoIPool] for parameter in layer.parameters())
    assert len(kinds[DeformRoIPool]) == (8 if "pooling" in name else 0)
    assert name != "coco_fpn_dcn_v2_pooling" or offsets == pytest.approx(270e6, rel=0.05)
