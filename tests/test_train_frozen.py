"""Fine-tuning: what is frozen stays as it came, bit for bit, and costs no backward pass; the rest learns from there."""

import numpy as np
import paddle
import pytest
from conftest import ROOT, train_here

from data import Preparation
from engine.build import build_data, build_loaders, build_model, load_pretrained, make_learner
from engine.config import load_config
from engine.run import checkpoint
from engine.train.step import train_step
from models import load_weights, resnet
from models.weights import frozen_entries

DEFORMABLE = ["model.deformable_stages=[c2, c3]", "model.deformable_version=2"]


def arrays(values):
    return {name: value.numpy() for name, value in values.items()}


@pytest.fixture
def pretrained(tiny):
    """write(*overrides) -> a file of a network that has been trained for two steps."""

    def write(*overrides):
        config = load_config(tiny, [*overrides, "data.classes=4", "model.zero_init_last_norm=false"])
        learner, batch = learner_of(config)
        for step in (0, 1):
            train_step(learner, batch, step)
        path = tiny.parent / "pretrained.pdparams"
        paddle.save(learner.model.state_dict(), str(path))
        return path

    return write


def learner_of(config):
    train_set, validation_set = build_data(config)
    loader, _ = build_loaders(config, train_set, validation_set)
    model = build_model(config, train_set)
    if config.pretrained:
        load_pretrained(model, config)
    learner = make_learner(config, model, loader.steps_per_epoch)
    model.train()
    return learner, next(loader.epoch(0))


def is_frozen(name, parts):
    return name.startswith(tuple(f"backbone.{part}." for part in parts))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model.norm=bn", "batch.workers_per_pass=1"], ["stem", "c2"]),
        (["model.norm=bn", "ema_decay=0.9", "optimizer.name=adamw", *DEFORMABLE], ["stem", "c2"]),
        (["model.norm=sync_bn"], ["c3"]),
        (["model.norm=brn"], ["stem", "c3"]),
        (["model.norm=gn", "ema_decay=0.9"], ["stem", "c2", "c3", "c4", "c5"]),
        (["model.norm=gn", *DEFORMABLE], ["c3"]),
        (["model.norm=none"], ["stem"]),
    ],
    ids=str,
)
def test_frozen_parts_stay_bit_for_bit_and_the_rest_learns(tiny, pretrained, overrides, parts):
    path = pretrained(*overrides)
    config = load_config(tiny, [*overrides, f"model.frozen=[{', '.join(parts)}]", f"pretrained={path}"])
    learner, batch = learner_of(config)
    before = arrays(learner.model.state_dict())
    for step in (0, 1, 2):
        train_step(learner, batch, step, norms=True)
    after = [learner.model.state_dict(), *([learner.ema.average] if learner.ema else [])]
    for state in map(arrays, after):
        assert state.keys() == before.keys()
        for name, value in state.items():
            assert (value.tobytes() == before[name].tobytes()) == is_frozen(name, parts), name
    names = [value.name for name, value in learner.model.named_parameters() if not is_frozen(name, parts)]
    carried = {name for name in learner.optimizer.state_dict() if name not in ("LR_Scheduler", "master_weights")}
    assert names and all(name.startswith(tuple(f"{parameter}_" for parameter in names)) for name in carried)


def test_live_bn_in_frozen_parts_normalises_with_its_running_statistics(tiny, pretrained):
    overrides = ["model.norm=bn", f"pretrained={pretrained('model.norm=bn')}"]
    frozen, batch = learner_of(load_config(tiny, [*overrides, "model.frozen=[stem, c2]"]))
    live, _ = learner_of(load_config(tiny, overrides))
    image = paddle.to_tensor(batch["image"])
    live.model.eval()
    expected = live.model.backbone(image, last="c2")["c2"].numpy()
    np.testing.assert_allclose(frozen.model.backbone(image, last="c2")["c2"].numpy(), expected, rtol=1e-4, atol=1e-5)
    live.model.train()
    assert np.abs(live.model.backbone(image, last="c2")["c2"].numpy() - expected).max() > 0.1


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_frozen_parts_at_the_beginning_are_no_part_of_the_backward_pass(tiny, pretrained, norm):
    path = pretrained(f"model.norm={norm}")
    overrides = [f"model.norm={norm}", "model.frozen=[stem, c2, c3]", f"pretrained={path}"]
    learner, batch = learner_of(load_config(tiny, overrides))
    stages = learner.model.backbone(paddle.to_tensor(batch["image"]))
    assert [stages[stage].stop_gradient for stage in ("c2", "c3", "c4", "c5")] == [True, True, False, False]


def test_a_run_with_frozen_parts_goes_on_with_the_same_bits_and_a_head_of_its_own(tiny, pretrained, tmp_path):
    """Of other classes than the weights are: the head's arrays have another shape, which the beginning says."""
    overrides = [
        "model.norm=bn", "model.bn_running_statistics=precise", "bn_precise_images=20", "ema_decay=0.9",
        "model.frozen=[stem, c2]",
    ]
    path = pretrained("model.norm=bn")
    start = ["-c", tiny, "-o", *overrides, f"pretrained={path}", "optimizer.backbone_lr_multiplier=0.1"]
    train_here(*start)
    folder = tmp_path / "output" / "tiny"
    (began,) = [line for line in (folder / "train.log").read_text().splitlines() if "starting from" in line]
    assert "2 another shape (fc.bias [4] for [3], fc.weight [64, 4] for [64, 3])" in began and "missing" not in began
    metrics, whole = (folder / "metrics.jsonl").read_bytes(), checkpoint.load(folder / "latest")
    train_here(*start, "-r", "epoch_1")
    assert (folder / "metrics.jsonl").read_bytes() == metrics
    again, came = checkpoint.load(folder / "latest"), checkpoint.read(path)
    for ending in (".pdparams", ".pdema", ".pdopt"):
        assert whole[ending].keys() == again[ending].keys()
        for name, value in whole[ending].items():
            if isinstance(value, np.ndarray):
                assert value.tobytes() == again[ending][name].tobytes(), name
                assert not is_frozen(name, ["stem", "c2"]) or value.tobytes() == came[name].tobytes(), name


@pytest.mark.parametrize("times", [0.1, 0.0])
def test_the_backbone_has_its_own_rate(tiny, times):
    """With offset branches, whose multiplier comes on top."""
    moved = {}
    for chosen in (1.0, times):
        learner, batch = learner_of(load_config(tiny, [
            *DEFORMABLE, "optimizer.weight_decay=0", "model.zero_init_last_norm=false",
            f"optimizer.backbone_lr_multiplier={chosen}",
        ]))
        before = arrays(dict(learner.model.named_parameters()))
        train_step(learner, batch, 0)
        moved[chosen] = {name: value.numpy() - before[name] for name, value in learner.model.named_parameters()}
    for name, change in moved[1.0].items():
        factor = times if name.startswith("backbone.") else 1.0
        np.testing.assert_allclose(moved[times][name], factor * change, rtol=1e-3, atol=1e-7, err_msg=name)
    assert np.abs(moved[1.0]["fc.weight"]).max() > 0


@pytest.mark.parametrize(("name", "norm"), [("fine_tune", "gn"), ("few_garments", "gn"), ("few_garments", "frozen_bn")])
def test_what_the_configs_fine_tune_is_what_pretraining_makes(name, norm):
    def network(config, classes, *overrides):
        config = load_config(ROOT / "configs" / f"{config}.yaml", ["model.zero_init_last_norm=false", *overrides])
        return build_model(config, Preparation(classes, (3, 48, 48), (0.5,) * 3, (0.5,) * 3))

    trained = network("pretrain", "abcdef", f"model.norm={norm.removeprefix('frozen_')}")
    model = network(name, "ab", f"model.norm={norm}", *["data.root=FOLDER"] * (name == "fine_tune"))
    report = load_weights(model, arrays(trained.state_dict()))
    assert not report.missing and not report.unexpected
    assert [entry for entry, _, _ in report.reshaped] == ["fc.bias", "fc.weight"]


def test_nothing_of_a_network_that_learns_is_frozen():
    for norm in ("bn", "sync_bn", "gn"):
        assert not frozen_entries(resnet(depth=18, width=4, norm=norm, norm_groups=2)), norm
    frozen = frozen_entries(resnet(depth=18, width=4, norm="sync_bn", frozen=("stem",)))
    assert {"stem.conv.weight", "stem.norm._mean"} <= frozen and all(name.startswith("stem.") for name in frozen)
