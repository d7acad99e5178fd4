"""Percentiles of what a convolution gives in training, before norm and ReLU."""

import json

import numpy as np
import paddle
import pytest
from conftest import train_here
from visualdl import LogReader

from engine.errors import InputError
from engine.run.result import read_metrics
from engine.train.responses import PERCENTILES, Responses, keys
from models import Classifier, resnet, vgg

VGG = [
    "model={name: vgg, depth: 11, width: 4, poolings: 3, head_widths: [], norm: bn}", "record.every_steps=3",
    "record.responses=conv5_2", "ema_decay=0.9",
]


def network(**changes):
    paddle.seed(0)
    return Classifier(vgg(depth=11, width=4, head_widths=(), **{"norm": "bn", **changes}), 3)


def test_percentiles_are_numpys_of_all_that_the_layer_gave():
    model = network()
    given, image = [], paddle.randn([4, 3, 64, 32])
    model.backbone.conv4_1.register_forward_post_hook(lambda layer, inputs, output: given.append(output.numpy()))
    with Responses(model, "conv4_1").of_one_step() as percentiles:
        for half in image.split(2):  # two passes
            model.backbone(half)
    values = np.concatenate(given)
    assert values.shape == (4, 32, 8, 4) and values.min() < 0  # before the ReLU
    wanted = {f"conv4_1_p{percent}": np.percentile(values, percent) for percent in (1, 20, 80, 99)}
    assert percentiles == pytest.approx(wanted) and list(percentiles) == list(wanted)
    assert all(type(value) is float for value in percentiles.values())


def test_nothing_is_looked_at_outside_the_step():
    model = network()
    responses = Responses(model, "conv1_1")
    with pytest.raises(ZeroDivisionError), responses.of_one_step():
        1 / 0  # noqa: B018
    with responses.of_one_step() as percentiles:
        pass
    model.backbone(paddle.randn([2, 3, 32, 32]))
    assert not percentiles and not responses.layer._forward_post_hooks


def test_a_resnets_convolution_is_looked_at_inside_its_stage():
    """Where a stage is one op no hook of a layer is called."""
    model = Classifier(resnet(depth=26, width=16, norm_groups=4), 3)
    with Responses(model, "backbone.c5.1.conv3").of_one_step() as percentiles:
        model.backbone(paddle.randn([2, 3, 32, 32]))
    assert list(percentiles) == keys("c5.1.conv3") and len(percentiles) == len(PERCENTILES)


@pytest.mark.parametrize(("model", "name", "said"), [
    (network, "conv5_3", r"did you mean conv5_2\? it has conv1_1, conv2_1, conv3_1, .*, conv5_2$"),
    (network, "norm1_1", "it has conv1_1, "),
    (lambda: Classifier(resnet(depth=50, width=8, norm_groups=2), 3), "conv5_3",
     r"it has stem.conv, c2.0.conv1, .*, …, .*c5.2.conv3$"),
])
def test_an_unknown_name_is_one_line_with_those_that_there_are(model, name, said):
    with pytest.raises(InputError, match=f"^record.responses: {name}: the network has no such convolution; .*{said}"):
        Responses(model(), name)


def test_an_unknown_name_ends_a_run_before_it_begins(tiny, tmp_path):
    with pytest.raises(InputError, match="record.responses: conv5_9: .* did you mean conv5_2"):
        train_here("-c", tiny, "-o", *VGG, "record.responses=conv5_9")
    assert not (tmp_path / "output").exists()


def test_a_run_records_them_and_is_else_the_same_and_goes_on_with_the_same_bytes(tiny, tmp_path):
    for name, options in (("plain", ["record.responses=null"]), ("watched", []), ("stopped", ["schedule.epochs=1"])):
        train_here("-c", tiny, "-o", *VGG, f"name={name}", "schedule.name=step", *options)
    plain, watched = ((tmp_path / "output" / name / "metrics.jsonl").read_bytes() for name in ("plain", "watched"))
    (file,) = (tmp_path / "output" / "watched" / "vdl").iterdir()
    assert {f"train/{key}" for key in keys("conv5_2")} <= set(LogReader(file_path=str(file)).get_tags()["scalar"])
    windows = read_metrics(tmp_path / "output" / "watched", "train", *keys("conv5_2"))
    assert len(windows) == 4
    for window in windows:
        values = [window[key] for key in keys("conv5_2")]
        assert values == sorted(values) and values[0] < 0 < values[-1]
    lines = [json.loads(line) for line in watched.splitlines()]
    less = [{key: value for key, value in line.items() if key not in keys("conv5_2")} for line in lines]
    assert less == [json.loads(line) for line in plain.splitlines()]
    train_here("-c", tiny, "-o", *VGG, "name=stopped", "schedule.name=step", "-r", "auto")
    assert (tmp_path / "output" / "stopped" / "metrics.jsonl").read_bytes() == watched
