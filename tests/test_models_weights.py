"""Weights from files: other precisions are converted and told; what cannot be weights is one line, nothing changes."""

import os
import pickle

import numpy as np
import paddle
import pytest

from data import DataError
from engine.build import build_data, build_model, load_pretrained, load_trained
from engine.config import load_config
from engine.errors import InputError
from engine.run.checkpoint import read_weights
from engine.run.folder import write_preparation
from models import Classifier, find_network, load_weights, resnet

THIN = {"depth": 18, "width": 4, "stem": "small", "in_channels": 1, "norm": "bn"}
VARIANCE = "backbone.stem.norm._variance"


def network(**changes):
    return Classifier(resnet(**{**THIN, **changes}), 3)


def arrays(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def good():
    """The arrays of a BN network that has seen something."""
    paddle.seed(0)
    model = network(zero_init_last_norm=False)
    model.train()
    model({"image": paddle.randn([4, 1, 16, 16]), "label": paddle.to_tensor([0, 1, 2, 0])})
    return arrays(model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_are_converted_and_told(good, tmp_path, dtype):
    state = {name: paddle.to_tensor(value).astype(dtype) for name, value in good.items()}
    paddle.save(state, str(tmp_path / "x.pdparams"))
    model = network()
    report = load_weights(model, read_weights(tmp_path / "x"))
    assert f"{len(good)} matched; {len(good)} converted from {dtype}" in str(report)
    expected = {name: value.astype("float32").numpy() for name, value in state.items()}
    for name, value in arrays(model).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_the_models_own_precision_is_not_worth_a_word(good):
    report = load_weights(network(), good)
    assert not report.remarks and str(report) == f"{len(good)} matched"
    big_endian = {name: value.astype(">f4") for name, value in good.items()}
    assert not load_weights(network(), big_endian).remarks


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("fc.weight", lambda value: value.astype(np.int64), "fc.weight is of int64, expected floats"),
        ("fc.weight", lambda value: value.astype(bool), "fc.weight is of bool, expected floats"),
        ("fc.weight", lambda value: value * np.float32("nan"), "fc.weight: 96 of its 96 values are not finite"),
        ("fc.bias", lambda value: np.array([0, np.inf, 0], np.float32), "fc.bias: 1 of its 3 values are not finite"),
        ("fc.bias", lambda value: np.array([0, 1e300, 0]), "fc.bias: 1 of its 3 values are not finite"),
        ("fc.bias", lambda value: np.full(3, 0x7FC0, np.uint16), "fc.bias: 3 of its 3 values are not finite"),
        (VARIANCE, lambda value: -value, "_variance: a variance of -"),
        (VARIANCE, lambda value: 0 * value, "_variance: a variance of nothing but 0"),
    ],
)
def test_what_cannot_be_a_weight_is_refused_and_nothing_changes(good, name, change, complaint):
    model = network()
    before = arrays(model)
    with pytest.raises(ValueError, match=complaint):
        load_weights(model, {**good, name: change(good[name])})
    for entry, value in arrays(model).items():
        np.testing.assert_array_equal(value, before[entry], err_msg=entry)


@pytest.mark.parametrize("value", [np.array(1.0), np.zeros(0, "float32"), np.zeros((3, 1, 1, 1, 1), "float32")])
def test_other_ranks_are_reported(good, value):
    report = load_weights(network(), {**good, "fc.bias": value})
    assert report.reshaped == [("fc.bias", value.shape, (3,))]


def test_single_variances_of_0_are_told(good):
    some = good[VARIANCE].copy()
    some[1] = 0
    report = load_weights(network(), {**good, VARIANCE: some})
    assert f"1 with variances of 0 in some channels ({VARIANCE})" in str(report)


def test_names_that_are_none_of_a_network_stay():
    known = {"conv1.weight": np.ones((4, 1, 3, 3)), "layer1.0.conv1.weight": np.ones((4, 4, 3, 3))}
    strange = {"layer².x": np.ones(1), "layerx.y": np.ones(1), "layer": np.ones(1), "layer5.0.conv1.weight": np.ones(1)}
    report = load_weights(network(), find_network({**known, **strange}).state)
    assert report.matched == ["backbone.c2.0.conv1.weight", "backbone.stem.conv.weight"]
    assert report.unexpected == sorted(strange)


@pytest.mark.parametrize("name", [b"w", "a\x1b[2Jb", "a\nb", "\ud800", "x" * 201])
def test_names_that_are_no_text_are_refused(tmp_path, name):
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({name: np.ones(3, "float32")}, 4))
    with pytest.raises(InputError, match="x.pdparams: holds something by the name") as failure:
        read_weights(tmp_path / "x")
    assert str(failure.value).isprintable() and len(str(failure.value)) < 300


def test_a_pipe_is_no_file_of_weights(tmp_path):
    os.mkfifo(tmp_path / "x.pdparams")
    with pytest.raises(DataError, match="x.pdparams: is a pipe, wanted an ordinary file"):
        read_weights(tmp_path / "x")


FROZEN = ["model.norm=frozen_bn", "data.image_size=16"]


def frozen(tiny, folder, state):
    path = folder / "x.pdparams"
    paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(path))
    return network(norm="frozen_bn"), load_config(tiny, [*FROZEN, "model.width=4", f"pretrained={path}"])


def test_frozen_norms_take_a_bn_networks_whole_statistics(tiny, tmp_path, good):
    model, config = frozen(tiny, tmp_path, good)
    assert f"{len(good)} matched" in load_pretrained(model, config)


@pytest.mark.parametrize("lacks", ["_mean", "_variance", "weight", "bias"])
def test_frozen_norms_without_all_their_statistics_are_refused(tiny, tmp_path, good, lacks):
    model, config = frozen(tiny, tmp_path, {n: v for n, v in good.items() if n != f"backbone.c4.1.norm2.{lacks}"})
    with pytest.raises(InputError, match=f"x.pdparams: has no backbone.c4.1.norm2.{lacks} that fits"):
        load_pretrained(model, config)


def test_a_branch_that_would_be_frozen_at_0_is_refused(tiny, tmp_path, good):
    name = "backbone.c4.1.norm2.weight"
    model, config = frozen(tiny, tmp_path, {**good, name: 0 * good[name]})
    with pytest.raises(InputError, match=f"{name} is 0 in all channels"):
        load_pretrained(model, config)


@pytest.mark.parametrize(
    ("norm", "change", "complaint"),
    [
        ("gn", {"backbone.c2.0.conv1.weight": None}, "has no backbone.c2.0.conv1.weight that fits, and what is frozen"),
        ("bn", {"backbone.stem.norm._mean": None}, "has no backbone.stem.norm._mean that fits"),
        ("gn", {"backbone.c2.1.norm2.weight": 0}, "backbone.c2.1.norm2.weight is 0 in all channels"),
    ],
)
def test_a_frozen_stage_that_would_stay_as_it_started_is_refused(norm, change, complaint):
    state = {name: np.ones_like(value) for name, value in arrays(network(norm=norm, norm_groups=2)).items()}
    model = network(norm=norm, norm_groups=2, frozen=["stem", "c2"])
    before = arrays(model)
    state = {name: value * change.get(name, 1) for name, value in state.items() if change.get(name, 1) is not None}
    with pytest.raises(ValueError, match=complaint):
        load_weights(model, state)
    for entry, value in arrays(model).items():
        np.testing.assert_array_equal(value, before[entry], err_msg=entry)
    load_weights(network(norm=norm, norm_groups=2), state)  # where it learns it is no harm


def test_frozen_norms_start_as_the_identity_and_not_at_0():
    model = network(norm="frozen_bn")
    gammas = [value for name, value in arrays(model).items() if "norm" in name and name.endswith(".weight")]
    assert len(gammas) == 20 and all((gamma == 1).all() for gamma in gammas)


def test_a_trained_model_of_another_precision_is_told_and_a_diverged_one_refused(tiny, capsys):
    config = load_config(tiny)
    config.folder.mkdir(parents=True)
    train_set, _ = build_data(config)
    write_preparation(config.folder, train_set.preparation)
    model = build_model(config, train_set)
    stem = config.folder / "best"
    paddle.save({name: value.astype("float16") for name, value in model.state_dict().items()}, f"{stem}.pdparams")
    load_trained(config)
    assert f"{stem}: {len(model.state_dict())} converted from float16" in capsys.readouterr().err
    paddle.save({name: value * float("nan") for name, value in model.state_dict().items()}, f"{stem}.pdparams")
    with pytest.raises(InputError, match="best: backbone.* values are not finite; they are of a diverged training"):
        load_trained(config)
