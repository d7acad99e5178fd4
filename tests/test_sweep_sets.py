"""Axes of named sets of values, from a sweep's file to its report."""

import csv
import json
from types import SimpleNamespace

import pytest
from conftest import ROOT, write_sweep

from data.idx import CLASSES
from engine.config import load_config
from engine.errors import InputError
from engine.report.drawings import DRAWINGS
from engine.report.page import results_text, write_report
from engine.report.results import read_sweep
from engine.run.measure import TOP1_ERROR, columns
from engine.run.record import _hyper_parameters
from engine.sweep.definition import load_sweep
from engine.sweep.folder import material_changes, open_sweep_folder, write_results

ARMS = """
    arm:
      BN, from scratch: {norm: bn, base_lr: 0.2}
      GN, from scratch: {norm: gn}
      BN, fine-tuned: {norm: bn, pretrained: output/bn/best.pdparams}
      BN*, fine-tuned: {norm: frozen_bn, pretrained: output/bn/best.pdparams, base_lr: 0.05}
      GN, fine-tuned: {norm: gn, pretrained: gn.pdparams}
    seed: [0, 1]"""
ERRORS = {  # of two seeds; mean and sample deviation in percent by hand: half of the difference, times root 2
    "BN, from scratch": (0.30, 0.32), "GN, from scratch": (0.25, 0.25), "BN, fine-tuned": (0.20, 0.22),
    "BN*, fine-tuned": (0.19, 0.19), "GN, fine-tuned": (0.15, 0.17),
}
BN = "output/bn/best.pdparams"
SESSION = {"started": "2026-01-01T00:00:00", "seconds": 1.0, "processes": 1}


def finish(run, error):
    """Let a run's folder be that of a finished one."""
    folder, batch = run.config.folder, run.config.batch
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(run.config.to_yaml())
    numbers = dict.fromkeys(("workers", "images_per_worker", "images_per_step", "parameters"), batch.images_per_worker)
    (folder / "result.json").write_text(json.dumps({
        "name": "x", **dict.fromkeys(columns(TOP1_ERROR), error), **numbers, "best_epoch": 2, "epochs": 2, "steps": 12,
        "norm": run.config.model.norm, "protocol": "paper", "lr": run.config.lr, "evaluation_statistics": None,
        "seed": run.config.seed, "train_seconds": 1.5,
    }))


@pytest.fixture
def arms(tmp_path):
    """The sweep over ARMS, all of its runs finished, and its results written."""
    sweep = load_sweep(write_sweep(tmp_path, ARMS, "  figures: [table_transfer, table_1]\n  statistic: last\n"))
    open_sweep_folder(sweep, {})
    for run in sweep.runs:
        finish(run, ERRORS[run.values["arm"]][run.config.seed])
    write_results(sweep, SESSION)
    return sweep


def test_a_set_of_values_is_one_value_of_its_axis(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, ARMS, "  without: {arm: 'GN, from scratch', seed: 1}\n"))
    assert len(sweep.runs) == 2 * 5 - 1
    run = sweep.runs[-1]
    assert run.name == "arm=GN__fine-tuned,seed=1" and run.values == {"arm": "GN, fine-tuned", "seed": 1}
    assert (run.config.model.norm, run.config.pretrained, run.config.seed) == ("gn", "gn.pdparams", 1)
    found = [(one.config.pretrained, one.config.optimizer.base_lr) for one in sweep.only(["seed=0"])]
    assert found == [(None, 0.2), (None, 0.1), (BN, 0.1), (BN, 0.05), ("gn.pdparams", 0.1)]
    for typed, number in (("arm=GN, fine-tuned", 2), ("arm=GN__fine-tuned,BN___fine-tuned", 4)):
        assert len(sweep.only([typed])) == number
    with pytest.raises(InputError, match="arm is never GN; expected BN__from_scratch, GN__from_scratch"):
        sweep.only(["arm=GN"])
    assert "arm" not in sweep.shared and "norm" not in sweep.shared["model"] and sweep.shared["model"]["depth"] == 18


def test_lists_with_commas_can_be_chosen_too(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, "{deformable_stages: [[], [c4, c5]], seed: [0, 1]}"))
    assert len(sweep.only(["deformable_stages=[c4,c5]"])) == len(sweep.only(["deformable_stages=c4+c5"])) == 2


def test_its_results_have_the_names_and_the_values(arms):
    with open(arms.folder / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rows[n]["arm"] for n in (0, 9)] == ["BN, from scratch", "GN, fine-tuned"]
    assert [rows[n]["pretrained"] for n in (0, 9)] == ["null", "gn.pdparams"]
    assert [rows[n]["optimizer.base_lr"] for n in (0, 2, 6)] == ["0.2", "0.1", "0.05"]
    assert not any(material_changes(run) for run in arms.runs)
    assert open_sweep_folder(arms, {}) == []  # the same file again changes nothing


def test_a_set_that_has_changed_is_run_anew(arms, tmp_path):
    changed = ARMS.replace("base_lr: 0.05", "base_lr: 0.02")
    sweep = load_sweep(write_sweep(tmp_path, changed, "  figures: [table_transfer, table_1]\n  statistic: last\n"))
    moved = [line for line in open_sweep_folder(sweep, {}) if "runs anew" in line]
    assert [line.partition(":")[0] for line in moved] == [f"arm=BN___fine-tuned,seed={seed}" for seed in (0, 1)]


def test_the_table_of_what_carries_over(arms):
    sweep = read_sweep(arms.folder)
    ([rows], caption) = DRAWINGS["table_transfer"].draw(sweep)
    assert rows == [
        ["", "error, %", "− from scratch", "− BN", "− BN*", "*the paper, box AP*"],
        ["BN, from scratch", "31.00 ± 1.41", "", "", "", ""],
        ["GN, from scratch", "25.00 ± 0.00", "", "−6.00", "", "*5.0 above SyncBN*"],
        ["BN, fine-tuned", "21.00 ± 1.41", "−10.00", "", "+2.00", "*about 6 below BN&#42;*"],
        ["BN*, fine-tuned", "19.00 ± 0.00", "−12.00", "−2.00", "", ""],
        ["GN, fine-tuned", "16.00 ± 1.41", "−9.00", "−5.00", "−3.00", "*1.1 to 1.7 above BN&#42;*"],
    ]
    assert "Mean ± sample standard deviation over 2 seeds" in caption and "last evaluation" in caption
    ([rows], _) = DRAWINGS["table_1"].draw(sweep)
    assert [row[0] for row in rows[1:]] == list(ERRORS)


def test_the_report_and_the_terminal_call_settings_by_their_sets(arms):
    write_report(arms.folder)
    text = (arms.folder / "report.md").read_text()
    assert "Training starts from scratch, from bn/best.pdparams or from gn.pdparams." in text
    assert "The rate starts at 0.2, 0.1 and 0.05 × images per step / 8" in text
    assert results_text(arms.folder).splitlines()[-1].split("  ")[0] == "GN, fine-tuned"


def test_other_differences_have_rows_of_their_own(tmp_path):
    """Each is measured against what is alike in them."""
    axes = ARMS.replace("    seed: [0, 1]", "    ema_decay: [null, 0.9]")
    sweep = load_sweep(write_sweep(tmp_path, axes, "  figures: [table_transfer]\n  statistic: last\n"))
    open_sweep_folder(sweep, {})
    for run in sweep.runs:
        finish(run, ERRORS[run.values["arm"]][run.config.ema_decay is not None])
    write_results(sweep, SESSION)
    ([rows], _) = DRAWINGS["table_transfer"].draw(read_sweep(sweep.folder))
    assert rows[-1][:5] == ["GN, fine-tuned, ema_decay=0.9", "17.00", "−8.00", "−5.00", "−2.00"]


def test_plain_axes_can_say_the_same(make_sweep):
    norm, start = "model.norm", "pretrained"
    folder = make_sweep({norm: ["bn", "gn"], start: [None, "a.pdparams"], "seed": [0]}, ["table_transfer"],
                        error=lambda values: {"bn": 0.3, "gn": 0.2}[values[norm]] - 0.1 * bool(values[start]))
    ([rows], _) = DRAWINGS["table_transfer"].draw(read_sweep(folder))
    assert [row[:4] for row in rows[1:]] == [
        ["BN, from scratch", "30.00", "", ""], ["GN, from scratch", "20.00", "", "−10.00"],
        ["BN, from a.pdparams", "20.00", "−10.00", ""], ["GN, from a.pdparams", "10.00", "−10.00", "−10.00"],
    ]


def test_the_study_compares_like_with_like_on_classes_that_pretraining_has_not_seen():
    folder = ROOT / "configs"
    study, rates = (load_sweep(folder / "sweeps" / f"{name}.yaml") for name in ("transfer", "transfer_rates"))
    seen = load_config(folder / "pretrain_six.yaml").data.classes
    assert sorted([*seen, *study.runs[0].config.data.classes]) == sorted(CLASSES)
    assert study.axis_values["arm"] == rates.axis_values["arm"] and len(study.runs) == 3 * 5
    assert set(study.axis_values["seed"]).isdisjoint(rates.axis_values["seed"])
    assert {run.config.optimizer.base_lr for run in study.runs} <= set(rates.axis_values["optimizer.base_lr"])
    assert set(study.columns) == {"arm", "seed", "model.norm", "pretrained", "optimizer.base_lr"}
    assert study.shared["batch"]["images_per_worker"] == 2


def test_the_dashboard_names_the_set(tmp_path):
    run = load_sweep(write_sweep(tmp_path, ARMS)).runs[-1]
    assert _hyper_parameters(run.config) == {"arm": "GN__fine-tuned", "seed": 1}
    plain = SimpleNamespace(name="what=ever", model_dump=run.config.model_dump)
    assert "optimizer/base_lr" in _hyper_parameters(plain)  # no sweep's


@pytest.mark.parametrize(
    ("axes", "more", "words"),
    [
        ("{arm: {}}", "", "sweep.axes: arm: empty"),
        ("{arm: {a: [1]}}", "", "arm: a: expected config keys with values, got .1."),
        ("{arm: {a: null}}", "", "arm: a: expected config keys with values, got None"),
        ("{arm: {'': {seed: 1}}}", "", "arm: a set without a name: expected"),
        ("{arm: {a: {nrom: bn}}}", "", "sweep.axes: arm: a: nrom is no config key; did you mean model.norm?"),
        ("{arm: {a: {name: x}}}", "", "arm: a: name"),
        ("{arm: {a: {norm: bn, model.norm: gn}}}", "", "sweep.axes: arm: a: model.norm is there twice"),
        ("{arm: {a: {norm: gm}}}", "", "sweep.axes: model.norm: should be .* got 'gm'"),
        ("{norm: {a: {seed: 1}}}", "", "sweep.axes: norm is a config key, which takes a list; sets of values want"),
        ("{model.norm: {a: {seed: 1}}}", "", "'model.norm' names sets of values; expected letters, digits"),
        ("{state: {a: {seed: 1}}}", "", "sweep.axes: state is a column of results.csv"),
        ("{top1_error_last: {a: {seed: 1}}}", "", "sweep.axes: top1_error_last is a column of results.csv"),
        ("{arm: {a: {seed: 1}, b: {}}, seed: [0]}", "", "sweep.axes: seed is said by arm and by seed"),
        ("{arm: {a: {seed: 1}}, leg: {b: {seed: 2}}}", "", "sweep.axes: seed is said by arm and by leg"),
        ("{arm: {'a b': {seed: 1}, a_b: {seed: 2}}}", "", "two runs would have the folder arm=a_b"),
        ("{arm: [a, b]}", "", "sweep.axes: arm is no config key"),
        ("{arm: {a: {seed: 1}}}", "  without: {arm: b}\n", "sweep.without: arm is never b; expected some of .'a'."),
        ("{arm: {a: {seed: 1}}}", "  figures: [table_transfer]\n", "table_transfer needs the axis pretrained with 1"),
        ("{arm: null}", "", "sweep.axes: empty"),
    ],
)
def test_a_bad_set_is_one_line(tmp_path, axes, more, words):
    with pytest.raises(InputError, match=words) as caught:
        load_sweep(write_sweep(tmp_path, axes, more))
    assert "\n" not in str(caught.value)


def test_a_file_adds_to_the_sets_of_its_base_and_takes_an_axis_away(tmp_path):
    rates = write_sweep(tmp_path, "{arm: {a: {norm: bn}, b: {norm: gn}}, base_lr: [0.1, 0.2], seed: [10]}")
    path = tmp_path / "chosen.yaml"
    axes = "{arm: {b: {base_lr: 0.3}}, base_lr: null, seed: [0]}"
    path.write_text(f"_BASE_: {rates.name}\nsweep: {{axes: {axes}}}\n")
    found = [(run.name, run.config.model.norm, run.config.optimizer.base_lr) for run in load_sweep(path).runs]
    assert len(load_sweep(rates).runs) == 4
    assert found == [("arm=a,seed=0", "bn", 0.1), ("arm=b,seed=0", "gn", 0.3)]


def test_what_a_set_says_cannot_be_changed_for_all(tmp_path):
    path = write_sweep(tmp_path, ARMS)
    for override in ("optimizer.base_lr=1", "model={norm: gn}", "pretrained=x"):
        with pytest.raises(InputError, match="is set by an axis of this sweep, or holds one"):
            load_sweep(path, [override])
    sweep = load_sweep(path, ["sweep.axes.arm.GN, fine-tuned.base_lr=0.3"])
    assert [run.config.optimizer.base_lr for run in sweep.runs[-2:]] == [0.3, 0.3]
