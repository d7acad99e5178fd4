"""result.json: what a task measures, which of its evaluations was the best, and whether it is what was expected."""

import json

import paddle
import pytest
from conftest import TINY

from engine.config import load_config
from engine.errors import InputError
from engine.run.measure import TOP1_ERROR, Measure
from engine.run.result import as_expected, check_expected, read_metrics, read_result, result_text, write_result

R2 = Measure("r2", "R²", percent=False, lower_is_better=False)
OFF = Measure("seconds_off", "seconds off", percent=False)
VALUES = [-3.0, 0.5, 0.9, 0.4, 0.7, 0.8, 0.6]  # of seven epochs


class Meter(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = paddle.nn.Linear(3, 2)

    def forward(self, batch):
        return self.fc(batch["image"].mean(axis=[2, 3]))


@pytest.fixture
def load(tmp_path):
    """load(*overrides) -> the config of a run whose evaluations are VALUES, of two measures and the loss."""
    (tmp_path / "tiny.yaml").write_text(TINY)

    def load(*overrides):
        config = load_config(tmp_path / "tiny.yaml", [f"output={tmp_path}", *overrides])
        config.folder.mkdir(exist_ok=True)
        lines = [{"kind": "eval", "epoch": epoch, "step": 6 * epoch, "loss": 1 - value, "r2": value,
                  "seconds_off": 10 * value} for epoch, value in enumerate(VALUES, 1)]
        (config.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return config

    return load


def written(config):
    return write_result(config, 60.0, Meter(), [3, 8, 8], (R2, OFF))


def test_the_best_is_the_highest_of_what_rises_and_the_lowest_of_what_falls(load):
    config = load("schedule.epochs=7")
    result = written(config)
    assert {key: value for key, value in result.items() if key.startswith(("r2", "seconds", "best"))} == {
        "r2_median_last_5": 0.7, "r2_last": 0.6, "r2_best": 0.9, "best_epoch": 3,
        "seconds_off_median_last_5": 7, "seconds_off_last": 6, "seconds_off_best": -30,
    }
    assert read_result(config.folder, (R2, OFF)) == result
    lines = result_text(config, result, (R2, OFF)).splitlines()
    assert lines[:2] == [
        "R²           0.6000 at the end, 0.7000 in the median of the last 5 evaluations, 0.9000 at best (epoch 3)",
        "seconds off  6.0000 at the end, 7.0000 in the median of the last 5 evaluations, -30.0000 at best",
    ]
    assert "of the last 3 evaluations" in result_text(load("schedule.epochs=3"), result, (R2, OFF))
    every_other = load("schedule.epochs=3", "evaluate_every_epochs=2")
    assert "of the last 2 evaluations" in result_text(every_other, result, (R2, OFF))
    assert "median" not in result_text(load("schedule.epochs=1"), result, (R2, OFF))


def test_the_first_of_equals_is_the_best(load):
    config = load()
    metrics = config.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"r2": 0.8', '"r2": 0.9'))
    assert written(config)["best_epoch"] == 3


def test_a_number_that_is_not_there_is_one_line(load):
    config = load()
    with pytest.raises(InputError, match="metrics.jsonl: damaged: a line of kind eval, epoch 1, has no top1_error"):
        write_result(config, 60.0, Meter(), [3, 8, 8], (TOP1_ERROR,))
    with pytest.raises(InputError, match="metrics.jsonl: line 1: r2: "):
        read_metrics(config.folder, "eval", measures=[R2._replace(percent=True)])  # -3.0 is no fraction
    assert not (config.folder / "result.json").exists()
    result = written(config)
    (config.folder / "result.json").write_text(json.dumps(result | {"r2_best": "high"}))
    with pytest.raises(InputError, match="result.json: r2_best: "):
        read_result(config.folder, (R2, OFF))


@pytest.mark.parametrize("expect, met, words", [
    ("{r2_above: 0.5}", True, "as expected, above 0.5000"),
    ("{r2_above: 0.6}", False, "NOT as expected, above 0.6000"),
    ("{r2_below: 0.7, seconds_off_below: 6.5, loss_below: 0.5}", True,
     "as expected, below 0.7000, seconds_off below 6.5000, loss below 0.5"),
    ("{r2_above: 0.5, loss_below: 0.3}", False, "NOT as expected, above 0.5000, loss below 0.3"),
])
def test_what_is_expected_may_be_a_bound_from_either_side(load, expect, met, words):
    config = load(f"expect={expect}")
    result = written(config)
    assert result["as_expected"] is met
    assert {f"expected_{key}": bound for key, bound in config.expect.items()}.items() <= result.items()
    assert f"expectation  {words}" in result_text(config, result, (R2, OFF), check=True).splitlines()
    assert load_config(_again(config)).expect == config.expect


def _again(config):
    path = config.folder / "config.yaml"
    path.write_text(config.to_yaml())
    return path


def test_what_no_evaluation_tells_cannot_be_expected(load):
    with pytest.raises(InputError) as raised:
        written(load("expect.top1_error_below=0.2"))
    assert str(raised.value) == (
        "expect.top1_error_below: evaluation tells no top1_error; expected one of r2, seconds_off, loss")
    with pytest.raises(InputError, match="^expect.loss_above: "):
        as_expected({"loss_above": 1}, {"loss": None})


@pytest.mark.parametrize("override, words", [
    ("expect.top1_error=0.2", "expect: top1_error: expected a metric with _below or _above behind it"),
    ("expect.top1_error_bellow=0.2", "expect: top1_error_bellow: expected a metric with _below"),
    ("expect={_below: 1}", "expect: _below: expected a metric"),
    ("expect.r2_above=high", "expect.r2_above: should be a valid number"),
    ("expect.r2_above=.inf", "expect.r2_above: "),
    ("expect={}", "expect: "),
    ("expect=5", "expect: "),
])
def test_an_expectation_that_is_none_is_refused_with_the_config(load, override, words):
    with pytest.raises(InputError) as raised:
        load(override)
    assert str(raised.value).startswith(f"-o {override}: {words}"), raised.value


def test_a_fraction_is_expected_to_be_one():
    check_expected(None, [TOP1_ERROR])
    check_expected({"top1_error_below": 0.18, "loss_below": 5}, [TOP1_ERROR, R2])
    with pytest.raises(InputError, match="^expect.top1_error_below: 18, expected a fraction from 0 to 1$"):
        check_expected({"top1_error_below": 18}, [TOP1_ERROR])
