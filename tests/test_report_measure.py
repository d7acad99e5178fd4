"""A sweep of another task than classifying: what it measures, and which way is better, is what its folder says."""

import csv
import json

import pytest
import yaml
from sweep_folders import CHANNELS, CONFIG, DEFORMABLE, FIGURE_1_AXES, GROUPS, IMAGES, NORM, VERSION, error_of

from engine.errors import InputError
from engine.report.drawings import DRAWINGS
from engine.report.page import results_text, write_report
from engine.report.results import read_sweep
from engine.report.words import dataset, network

R2 = {"name": "r2", "words": "R²", "percent": False, "lower_is_better": False}
PRECISION = {"name": "box_ap", "words": "box AP", "percent": True, "lower_is_better": False}
PLAIN = CONFIG | {"model": {"name": "meter", "hidden": 8}}  # of a network that has no norms


def rising(values):
    return 1 - error_of(values)


def drawn(folder, name):
    """(axes, {label: (x, y)} for each of them, caption) of a figure, without writing it."""
    figure, caption = DRAWINGS[name].draw(read_sweep(folder))
    lines = [{line.get_label(): tuple(map(list, line.get_data())) for line in axes.lines} for axes in figure.axes]
    return figure.axes, lines, caption


def without_norm(folder):
    """Make results.csv what it is of a network without norms."""
    with open(folder / "results.csv", newline="") as file:
        rows = [row | {"norm": "", "norm_groups": "", "evaluation_statistics": ""} for row in csv.DictReader(file)]
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_what_rises_and_is_no_percentage_is_drawn_as_it_is_without_the_papers_errors(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, error=rising, measure=R2)
    (axes, _), (lines, gaps), caption = drawn(folder, "figure_1")
    assert lines.keys() == {"BN", "GN"}, "an error of the paper among other numbers"
    assert gaps["here"][1] == pytest.approx([-0.01, 0.08]) and "in the paper" not in gaps
    assert lines["BN"][1] == pytest.approx([0.88, 0.78]) and lines["GN"][1] == pytest.approx([0.87, 0.86])
    assert axes.get_ylabel() == "validation R²"
    assert caption.startswith("Validation R² against images per worker, median of the last 4 evaluations (higher is")
    assert "BN 0.8800 → 0.7800; GN 0.8700 → 0.8600. " in caption and "paper" not in caption and "%" not in caption


def test_its_curves(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, error=rising, measure=R2)
    for run in folder.glob("norm=*"):
        values = [0.1, 0.5, *[0.7] * 17, 0.9]
        (run / "metrics.jsonl").write_text("".join(
            json.dumps({"kind": kind, "epoch": epoch, "r2": value}) + "\n"
            for epoch, value in enumerate(values, 1) for kind in ("epoch", "eval")))
    panels, (left, right), caption = drawn(folder, "figure_5")
    assert panels[0].get_ylabel() == "R²" and left["32"][1][:3] == pytest.approx([0.1, 0.5, 0.7])
    assert right["2"][1][:3] == pytest.approx([0.1, 0.5, 0.7])
    low, high = panels[0].get_ylim()
    assert 0.6 < low < 0.7 and 0.9 < high < 1 and "The first epochs lie below the frame." in caption
    panels, lines, caption = drawn(folder, "figure_4")
    assert [panel.get_title(loc="left") for panel in panels] == ["training R²", "validation R²"]
    assert lines[0]["BN"][1][-1] == pytest.approx(0.9)


def test_what_training_does_not_tell_is_drawn_of_validation_alone(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, ["figure_4"], error=rising, measure=R2, trained=False)
    (panel,), (lines,), caption = drawn(folder, "figure_4")
    assert panel.get_title(loc="left") == "validation R²" and lines["BN"][1] == pytest.approx([0.92, 0.9, 0.88, 0.88])
    assert caption.startswith("Validation R², which training does not tell, against epoch at 32 images per worker.")
    write_report(folder)
    metrics = folder / "norm=bn,images_per_worker=32,seed=0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"kind": "epoch"', '"kind": "epoch", "r2": 0.5', 1))
    with pytest.raises(InputError, match="damaged: a line of kind epoch, epoch 2, has no r2"):  # now it does
        write_report(folder)


def test_differences_keep_the_sign_of_one_less_the_other(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, error=rising, measure=R2)
    ([rows], caption) = DRAWINGS["table_2"].draw(read_sweep(folder))
    assert rows == [
        ["images per worker", "32", "2"], ["BN", "0.8800 ± 0.0200", "0.7800 ± 0.0265"],
        ["GN", "0.8700 ± 0.0265", "0.8600 ± 0.0173"], ["GN − BN", "−0.0100", "+0.0800"],
    ]
    assert "points" not in caption and "percent" not in caption and "The paper:" not in caption
    ([rows], caption) = DRAWINGS["table_1"].draw(read_sweep(folder))
    assert rows == [["", "R²", "− BN"], ["BN", "0.8800 ± 0.0200", ""], ["GN", "0.8700 ± 0.0265", "−0.0100"]]
    assert "validation R², median of the last 4 evaluations (higher is better). " in caption


def test_a_percentage_that_rises(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, error=rising, measure=PRECISION)
    ([rows], caption) = DRAWINGS["table_2"].draw(read_sweep(folder))
    assert rows[1:] == [["BN", "88.00 ± 2.00", "78.00 ± 2.65"], ["GN", "87.00 ± 2.65", "86.00 ± 1.73"],
                        ["GN − BN", "−1.00", "+8.00"]]
    assert caption.startswith("Validation box AP in percent by images per worker") and "percentage points" in caption
    (axes, _), (lines, _), caption = drawn(folder, "figure_1")
    assert lines.keys() == {"BN", "GN"} and lines["BN"][1] == pytest.approx([88, 78])
    assert axes.get_ylabel() == "validation box AP, %" and "BN 88.00 → 78.00 %" in caption


def test_groups_and_convolutions_too(make_sweep):
    folder = make_sweep([{GROUPS: [8, 4]}, {CHANNELS: [4, 1]}], error=lambda values: 0.5, measure=R2, name="groups")
    tables, caption = DRAWINGS["table_3"].draw(read_sweep(folder))
    assert tables == [[["groups", "8", "4"], ["GN", "0.5000", "0.5000"]],
                      [["channels per group", "4", "1"], ["GN", "0.5000", "0.5000"]]]
    assert caption.startswith("Validation R² of GN by groups") and "The paper:" not in caption
    kinds = {DEFORMABLE: [[], ["c5"]], VERSION: [1]}
    folder = make_sweep(kinds, error=lambda values: 0.5 + 0.1 * bool(values[DEFORMABLE]), measure=R2, name="kinds")
    (axes,), (lines,), caption = drawn(folder, "figure_convolutions")
    assert axes.get_xlabel() == "validation R²" and lines["DCNv1 in c5"][0] == [0.6]
    ([rows], caption) = DRAWINGS["table_convolutions"].draw(read_sweep(folder))
    assert rows[0][-2:] == ["R²", "− plain"] and rows[2][-2:] == ["0.6000", "+0.1000"] and "points" not in caption


def test_the_report_and_the_terminal(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, ["figure_1", "figure_4", "figure_5", "table_1", "table_2"], rising, measure=R2)
    write_report(folder)
    text = (folder / "report.md").read_text("utf-8")
    assert "| run | state | median of the last 4 | last | best | best epoch | training |" in text
    assert "`norm=bn,images_per_worker=2,seed=1` | finished | 0.7900 | 0.8000 | 0.7800 | 3 |" in text
    assert "| R² |" in text[text.index("## Settings"):] and "Numbers are read from" in text
    assert "error" not in text and "%" not in text
    lines = results_text(folder).splitlines()
    assert lines[0] == "R², median of the last 4 evaluations (higher is better)"
    assert lines[-1].split() == ["GN", "−", "BN", "−0.0100", "+0.0800"]
    old = make_sweep(FIGURE_1_AXES, name="old")
    assert results_text(old).splitlines()[0] == "top-1 error in percent, median of the last 4 evaluations"


def test_values_below_nothing_and_above_one(make_sweep):
    values = {"bn": -12.5, "gn": 3}
    folder = make_sweep({NORM: ["bn", "gn"]}, ["figure_4"], lambda run: values[run[NORM]], measure=R2)
    assert results_text(folder).splitlines()[1:] == ["          R²", "BN  −12.5000", "GN    3.0000"]
    write_report(folder)
    text = (folder / "report.md").read_text("utf-8")
    assert "| −12.5000 |" in text and "| 3.0000 |" in text


def test_a_network_without_norms_is_called_by_its_name(make_sweep):
    grid = {IMAGES: [32, 2], "seed": [0, 1, 2]}
    figures = ["figure_1", "figure_4", "figure_5", "table_2"]
    folder = without_norm(make_sweep(grid, figures, rising, measure=R2, config=PLAIN))
    sweep = read_sweep(folder)
    assert sweep.label(sweep.settings[0], [IMAGES]) == "meter"
    assert network(sweep) == "network meter" and "BN" not in dataset(sweep)
    _, (lines,), _ = drawn(folder, "figure_1")
    assert lines.keys() == {"meter"}
    write_report(folder)
    text = (folder / "report.md").read_text("utf-8")
    assert "Network meter on a part of Fashion-MNIST" in text
    assert not [word for word in ("None", "null", "ResNet", "BN") if word in text]
    assert "| meter | 0.8700 ± 0.0265 | 0.8600 ± 0.0173 |" in text
    grid = {"model.hidden": [4, 8], **grid}
    folder = without_norm(make_sweep(grid, figures, rising, measure=R2, config=PLAIN, name="varied"))
    sweep = read_sweep(folder)
    assert [sweep.label(one, [IMAGES]) for one in sweep.settings] == ["hidden=4"] * 2 + ["hidden=8"] * 2


@pytest.mark.parametrize("measure, message", [
    (R2 | {"name": "../r2"}, "sweep.yaml: measure.name: "),
    (R2 | {"words": "x" * 41}, "sweep.yaml: measure.words: "),
    (R2 | {"percent": "perhaps"}, "sweep.yaml: measure.percent: "),
    ({"name": "r2"}, "sweep.yaml: measure.words: "),
    (R2 | {"name": "other"}, "results.csv: has no column other_median_last_5"),
    (PRECISION | {"name": "r2"}, "results.csv: line 2: damaged: r2_median_last_5 is 2"),  # no fraction
])
def test_a_damaged_measure_is_one_line(make_sweep, measure, message):
    folder = make_sweep({NORM: ["bn"]}, error=lambda values: 2, measure=R2)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"measure": measure}))
    with pytest.raises(InputError) as raised:
        write_report(folder)
    assert message in str(raised.value) and str(raised.value).isprintable()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e200", '"0.5"', "[0.5]", "true"])
def test_what_is_no_number_is_damage(make_sweep, value):
    folder = make_sweep({NORM: ["bn"]}, ["figure_5"], lambda values: 2, measure=R2)
    path = folder / "norm=bn" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"r2": 2.0}', f'"r2": {value}}}'))
    with pytest.raises(InputError, match="metrics.jsonl: line .*: r2: "):
        write_report(folder)
