"""The door and the step: what a config turns into, and that emulated workers are what they stand for."""

import json

import numpy as np
import paddle
import pytest
from conftest import ROOT, is_one_line, run_tool

from data import Loader
from engine.build import (
    build_data,
    build_loaders,
    build_model,
    build_schedule,
    check_model,
    make_learner,
)
from engine.config import load_config
from engine.errors import InputError
from engine.run.result import read_metrics
from engine.train.ema import Ema
from engine.train.running_statistics import make_precise
from engine.train.step import train_step

WORKERS = ["schedule.epochs=1", "batch.images_per_worker=3", "batch.workers=8", "data.train_images=48"]


def learner_of(config, steps_per_epoch=2):
    model = build_model(config, build_data(config)[0])
    learner = make_learner(config, model, steps_per_epoch)
    model.train()
    return learner


def first_batch(config):
    train_set, validation_set = build_data(config)
    return next(build_loaders(config, train_set, validation_set)[0].epoch(0))


def gradients_of(model, batch, parts):
    """Loss and gradients of the mean over separate forward passes of equal parts."""
    images, losses = len(batch["label"]), []
    for start in range(0, images, images // parts):
        part = {name: paddle.to_tensor(value[start : start + images // parts]) for name, value in batch.items()}
        loss = model(part)["loss"]
        (loss / parts).backward()
        losses.append(float(loss))
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    model.clear_gradients()
    return np.mean(losses), gradients


def assert_close(left, right, tolerance=1e-5):
    for name, value in left.items():
        scale = max(1e-3, np.abs(value).max())
        np.testing.assert_allclose(right[name] / scale, value / scale, atol=tolerance, err_msg=name)


def test_emulated_bn_workers_are_separate_forward_passes(tiny):
    config = load_config(tiny, [*WORKERS, "model.norm=bn", "model.zero_init_last_norm=false"])
    batch = first_batch(config)
    model = learner_of(config).model
    together = gradients_of(model, batch, parts=1)
    apart = gradients_of(model, batch, parts=8)  # eight forward passes of one worker's three images
    assert together[0] == pytest.approx(apart[0], rel=1e-5)
    assert_close(apart[1], together[1])
    whole = load_config(tiny, ["batch.images_per_worker=24", "batch.workers=1", *WORKERS[3:], "model.norm=bn",
                               "model.zero_init_last_norm=false"])
    assert gradients_of(learner_of(whole).model, batch, parts=1)[0] != pytest.approx(apart[0], rel=1e-4)


@pytest.mark.parametrize("norm", ["gn", "ln", "in"])
def test_norms_of_one_image_are_the_same_under_any_split(tiny, norm):
    config = load_config(tiny, [*WORKERS, f"model.norm={norm}"])
    batch, model = first_batch(config), learner_of(config).model
    loss, gradients = gradients_of(model, batch, parts=1)
    for parts in (2, 8, 24):
        other_loss, others = gradients_of(model, batch, parts)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert_close(gradients, others)


@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("running", ["first", "mean"])
@pytest.mark.parametrize("per_pass", [1, 2])
def test_passes_of_whole_workers_give_the_same_step(tiny, norm, running, per_pass):
    options = [*WORKERS, f"model.norm={norm}", f"model.bn_running_statistics={running}"]
    whole, cut = load_config(tiny, options), load_config(tiny, [*options, f"batch.workers_per_pass={per_pass}"])
    batch = first_batch(whole)
    states = []
    for config in (whole, cut):
        learner = learner_of(config)
        outputs, norms = train_step(learner, batch, 0, norms=True)
        state = {name: value.numpy() for name, value in learner.model.state_dict().items()}
        states.append((float(outputs["loss"]), float(norms["gradient_norm"]), state))
    assert states[0][0] == pytest.approx(states[1][0], rel=1e-5)
    assert states[0][1] == pytest.approx(states[1][1], rel=1e-4)
    assert_close(states[0][2], states[1][2])


def changes(config, batch, steps=1):
    """How far each parameter moves in a first step."""
    learner = learner_of(config)
    before = {name: value.numpy() for name, value in learner.model.named_parameters()}
    for step in range(steps):
        train_step(learner, batch, step)
    return {name: value.numpy() - before[name] for name, value in learner.model.named_parameters()}


def test_momentum_step_against_the_formula(tiny):
    """Nesterov as Paddle and fb.resnet.torch define it, decay added to the gradient, the rate of the schedule."""
    config = load_config(tiny, ["optimizer.weight_decay=0.01", "optimizer.momentum=0.8"])
    batch, learner = first_batch(config), learner_of(config)
    weight = learner.model.fc.weight
    value, velocity = weight.numpy().astype(np.float64), 0.0
    for step in range(2):
        _, gradients = gradients_of(learner.model, batch, parts=1)
        gradient = gradients["fc.weight"] + 0.01 * value
        velocity = 0.8 * velocity + gradient
        value = value - learner.schedule(step) * (gradient + 0.8 * velocity)
        train_step(learner, batch, step)
        np.testing.assert_allclose(weight.numpy(), value, atol=1e-6)


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_decay_spares_vectors_when_told(tiny, name):
    """Decay alone moves a parameter without gradient: with a loss of constant logits only it is left."""
    options = [f"optimizer.name={name}", "optimizer.weight_decay=0.5", "optimizer.decay_norm_and_bias=false"]
    learner = learner_of(load_config(tiny, options))
    before = {key: value.numpy() for key, value in learner.model.named_parameters()}
    learner.optimizer.set_lr(0.1)
    sum((0 * parameter).sum() for parameter in learner.model.parameters()).backward()
    learner.optimizer.step()
    for key, value in learner.model.named_parameters():
        length = 1 + 0.9 if name == "momentum" else 1  # Nesterov's first step is 1 + momentum long
        factor = 1 - 0.1 * 0.5 * length if value.ndim > 1 else 1
        np.testing.assert_allclose(value.numpy(), before[key] * factor, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(("version", "own", "factor"), [(1, None, 1.0), (2, None, 0.1), (2, 0.5, 0.5)])
def test_offset_branches_have_their_own_rate(tiny, version, own, factor):
    options = ["model.deformable_stages=[c5]", f"model.deformable_version={version}", "optimizer.weight_decay=0",
               "model.zero_init_last_norm=false"]  # fmt: skip
    batch = first_batch(load_config(tiny))
    plain = changes(load_config(tiny, [*options, "optimizer.offset_lr_multiplier=1"]), batch)
    scaled = changes(load_config(tiny, [*options, *([f"optimizer.offset_lr_multiplier={own}"] if own else [])]), batch)
    seen = 0
    for name, change in plain.items():
        expected = change * (factor if ".offset." in name else 1)
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-4, atol=1e-9, err_msg=name)
        seen += ".offset." in name and np.abs(change).max() > 0
    assert seen


def test_clipping_bounds_the_step_and_reports_the_norm_before(tiny):
    config = load_config(tiny, ["optimizer.clip_norm=0.01", "optimizer.weight_decay=0", "optimizer.momentum=0"])
    batch, learner = first_batch(config), learner_of(config)
    before = [parameter.numpy() for parameter in learner.model.parameters()]
    _, norms = train_step(learner, batch, 0, norms=True)
    moved = sum(((p.numpy() - b) ** 2).sum() for p, b in zip(learner.model.parameters(), before, strict=True)) ** 0.5
    assert float(norms["gradient_norm"]) > 0.02
    assert moved == pytest.approx(learner.schedule(0) * 0.01, rel=1e-3)


def test_average_of_weights(tiny):
    config = load_config(tiny, ["ema_decay=0.75", "model.norm=bn"])
    batch, learner = first_batch(config), learner_of(config)
    name = "backbone.stem.norm._mean"
    expected = {key: learner.model.state_dict()[key].numpy() for key in ("fc.weight", name)}
    for step in range(3):
        train_step(learner, batch, step)
        for key in expected:
            expected[key] = 0.75 * expected[key] + 0.25 * learner.model.state_dict()[key].numpy()
    own = learner.model.fc.weight.numpy()
    with learner.ema.applied(learner.model):
        for key, value in expected.items():
            np.testing.assert_allclose(learner.model.state_dict()[key].numpy(), value, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(learner.model.fc.weight.numpy(), own)
    assert isinstance(learner.ema, Ema)


def test_the_seed_decides_the_initial_weights(tiny):
    data = build_data(load_config(tiny))[0]
    weights = [build_model(load_config(tiny, [f"seed={seed}"]), data).fc.weight.numpy() for seed in (1, 1, 2)]
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).any()


IMAGENET = ["resnet50_bn", "resnet50_gn", "resnet50_gn_dcn"]


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_configs_are_the_papers_recipe(name):
    config = load_config(ROOT / "configs" / "imagenet" / f"{name}.yaml", ["data.root=/somewhere"])
    assert (config.batch.workers, config.batch.images_per_worker, config.schedule.epochs) == (8, 32, 100)
    assert config.optimizer.weight_decay == 1e-4 and config.optimizer.decay_norm_and_bias
    assert config.data.image_size == 224 and config.data.min_area == 0.08 and config.data.color_jitter == 0.4
    assert config.model.depth == 50 and config.model.width == 64 and config.model.zero_init_last_norm
    steps = 1_281_167 // 256
    schedule = build_schedule(config, steps)
    drops = {0: 0.1, 30: 0.01, 60: 0.001, 90: 0.0001}
    for epoch, rate in drops.items():
        assert schedule(epoch * steps) == pytest.approx(rate)
        if epoch:
            assert schedule(epoch * steps - 1) == pytest.approx(10 * rate)
    for images, rate in ((16, 0.05), (8, 0.025), (4, 0.0125), (2, 0.00625)):
        smaller = load_config(
            ROOT / "configs" / "imagenet" / f"{name}.yaml", ["data.root=/x", f"batch.images_per_worker={images}"]
        )
        assert build_schedule(smaller, steps)(0) == pytest.approx(rate)


def test_loader_of_a_device_has_its_workers_images(tiny):
    config = load_config(tiny, WORKERS)
    train_set, validation_set = build_data(config)
    whole = next(build_loaders(config, train_set, validation_set)[0].epoch(0))
    shares = [next(build_loaders(config, train_set, validation_set, rank, 2)[0].epoch(0)) for rank in (0, 1)]
    np.testing.assert_array_equal(whole["image"], np.concatenate([share["image"] for share in shares]))
    assert isinstance(build_loaders(config, train_set, validation_set)[0], Loader)


def check_network_of(config, ranks):
    train_set, _ = build_data(config)
    check_model(config, build_model(config, train_set), train_set.image_shape, ranks)


def test_workers_must_divide_among_devices_and_sync_bn_needs_what_it_needs(tiny):
    config = load_config(tiny, WORKERS)
    train_set, validation_set = build_data(config)
    with pytest.raises(InputError, match="batch.workers: 8 workers do not divide among 3 devices"):
        build_loaders(config, train_set, validation_set, rank=0, ranks=3)
    with pytest.raises(InputError, match="sync_bn for several processes"):
        check_network_of(load_config(tiny, ["model.norm=sync_bn"]), ranks=2)
    with pytest.raises(InputError, match="sync_bn wants all images of a step in one pass"):
        check_network_of(load_config(tiny, ["model.norm=sync_bn", "batch.workers_per_pass=1"]), ranks=1)


@pytest.mark.parametrize("ema", ["null", "0.5"])
def test_precise_statistics_are_those_of_the_training_images(tiny, ema):
    """Of the first layer the definition is plain: mean and variance of its input over all images that are used."""
    options = [*WORKERS, "model.norm=bn", "model.bn_running_statistics=precise", "bn_precise_images=20"]
    config = load_config(tiny, [*options, f"ema_decay={ema}"])
    learner = learner_of(config)
    train_set, validation_set = build_data(config)
    train_loader, _ = build_loaders(config, train_set, validation_set)
    learner.model.eval()
    make_precise(learner.model, learner.ema, train_loader, 3, images=20, images_per_pass=5)
    batches = Loader(train_set, 5, seed=config.seed, train=True).epoch(3)  # passes of reading.evaluation_images
    images = np.concatenate([next(batches)["image"] for _ in range(4)])
    stem = learner.model.backbone.stem
    inputs = stem.conv(paddle.to_tensor(images)).numpy()
    np.testing.assert_allclose(stem.norm._mean.numpy(), inputs.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stem.norm._variance.numpy(), inputs.var(axis=(0, 2, 3)), rtol=1e-4)
    assert (stem.norm.momentum, stem.norm.images_per_worker) == (0.9, 3)
    if learner.ema:
        assert (learner.ema.average["backbone.stem.norm._mean"].numpy() == stem.norm._mean.numpy()).all()


def test_precise_statistics_are_used_in_evaluation_and_saved(tiny, tmp_path, run_here):
    """What a run reports is what its saved weights give when evaluated anew; its training is that of `first`."""
    found = {}
    for statistics in ("first", "precise"):
        options = [f"name={statistics}", "model.norm=bn", f"model.bn_running_statistics={statistics}"]
        done = run_tool("train.py", "-c", tiny, "-o", *options, "data.noise=2.0")
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "output" / statistics
        evaluated = run_here("eval.py", "-c", folder / "config.yaml", "-w", "latest", "--json")
        last = read_metrics(folder, "eval")[-1]
        assert json.loads(evaluated.stdout)["loss"] == pytest.approx(last["loss"], rel=1e-6)
        found[statistics] = last["loss"], [record["loss"] for record in read_metrics(folder, "train")]
    assert found["first"][1] == found["precise"][1] and found["first"][0] != found["precise"][0]
    first = tmp_path / "output" / "first" / "config.yaml"
    evaluated = run_here("eval.py", "-c", first, "-w", "latest", "--precise", "--json")
    assert json.loads(evaluated.stdout)["loss"] == pytest.approx(found["precise"][0], rel=1e-6)
    refused = run_here("eval.py", "-c", first, "-o", "model.norm=frozen_bn", "-w", "latest", "--precise")
    assert refused.returncode == 2 and is_one_line(refused.stderr), refused.stderr
    assert "--precise: is not for model.norm frozen_bn" in refused.stderr
