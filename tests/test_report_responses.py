"""Figure 6: percentiles of a convolution's responses over training; and the paper's numbers by network."""

import json

import pytest
from sweep_folders import CONFIG, FIGURE_1_AXES, IMAGES, NORM, drawn

from engine.errors import InputError
from engine.report.drawings import DRAWINGS, check_figures
from engine.report.page import write_report
from engine.report.results import read_sweep
from engine.sweep.definition import load_sweep

VGG = CONFIG | {"model": {**CONFIG["model"], "name": "vgg", "depth": 16}, "record": {"responses": "conv5_3"}}
AXES = {NORM: ["bn", "none", "gn"], "seed": [0, 1]}
PERCENTILES = ("1", "20", "80", "99")


def error_of(values):
    return {"bn": 0.2, "none": 0.3, "gn": 0.1}[values[NORM]] + 0.02 * values["seed"]


def with_responses(folder, spread=1.0):
    """Give all runs four records in two epochs: spread x step x (-2, -1, 1, 2), more by 0.5 in seed 1."""
    for run in folder.glob("norm=*"):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if line["kind"] != "train"]
        for step in (5, 10, 15, 20):
            values = [spread * step * times + 0.5 * run.name.endswith("seed=1") for times in (-2, -1, 1, 2)]
            named = zip(("p1", "p20", "p80", "p99"), values, strict=True)
            lines.append({"kind": "train", "epoch": 1 + step // 11, "step": step,
                          **{f"conv5_3_{name}": value for name, value in named}})
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_figure_6_draws_the_percentiles_in_a_panel_for_each_norm_and_the_errors_in_the_last(make_sweep):
    folder = with_responses(make_sweep(AXES, ["figure_6", "table_1"], error=error_of, config=VGG))
    panels, lines, caption = drawn(folder, "figure_6")
    assert [panel.get_title(loc="left") for panel in panels] == ["no norm", "BN", "GN", "validation error, %"]
    for curves in lines[:3]:
        assert tuple(curves) == PERCENTILES
        assert curves["1"][0] == [0.5, 1, 1.5, 2]  # epochs
        assert curves["1"][1] == pytest.approx([-9.75, -19.75, -29.75, -39.75])  # the mean of two seeds
        assert curves["99"][1] == pytest.approx([10.25, 20.25, 30.25, 40.25])
    assert panels[0].get_ylabel() == "response of conv5_3" and panels[2].get_xlabel() == "epoch"
    cells = [text.get_text() for text in panels[3].texts]
    assert cells == ["", "here", "the paper", "no norm", "31.00 ± 1.41", "29.2", "BN", "21.00 ± 1.41", "28.0",
                     "GN", "11.00 ± 1.41", "27.6"]
    assert caption.startswith("Percentiles 1, 20, 80 and 99 of what conv5_3 gives, before norm and ReLU, for the ")
    assert "over 2 seeds" in caption and caption.endswith("The paper: VGG-16 on ImageNet, 32 images per worker.")
    write_report(folder)
    report = (folder / "report.md").read_text()
    assert "![Figure 6](figure_6.png)" in report and "VGG-16 (width 16)" in report
    assert "| no norm | 31.00 ± 1.41 | +10.00 | *29.2* | *+1.2* |" in report


def test_records_without_responses_are_left_out(make_sweep):
    folder = with_responses(make_sweep(AXES, ["figure_6"], error=error_of, config=VGG))
    metrics = folder / "norm=none,seed=0" / "metrics.jsonl"
    lines = metrics.read_text().replace('"conv5_3_p99": 20.0', '"conv5_3_p99": null')
    metrics.write_text(lines.replace('"conv5_3_p1": -40.0', '"conv5_3_p1": "wide"'))
    for run in folder.glob("norm=gn*"):
        text = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(text.replace("conv5_3", "conv4_3"))
    _, (none, bn, gn, _), _ = drawn(folder, "figure_6")
    assert none["20"][0] == [0.5, 1.5] and bn["20"][0] == [0.5, 1, 1.5, 2] and gn["20"] == ([], [])


def test_a_sweep_without_finished_runs_of_a_norm_keeps_its_panel(make_sweep):
    states = {f"norm=none,seed={seed}": "failed" for seed in (0, 1)}
    panels, lines, _ = drawn(with_responses(make_sweep(AXES, ["figure_6"], error_of, states, config=VGG)), "figure_6")
    assert lines[0]["1"] == ([], []) and [text.get_text() for text in panels[3].texts][4] == "– (0 of 2)"


def test_figure_6_wants_a_layer_that_is_looked_at():
    message = "figures: figure_6 needs record.responses, the same for all runs"
    for shared in (None, {}, {"record": {"responses": None}}, {"record": 3}):
        with pytest.raises(InputError, match=f"^{message}$"):
            check_figures(["figure_6"], {}, shared=shared)
    check_figures(["figure_6"], {}, shared=VGG)


def test_a_sweeps_file_is_told_what_figure_6_wants(tiny):
    path = tiny.parent / "sweep.yaml"
    path.write_text("_BASE_: tiny.yaml\nsweep: {axes: {norm: [bn, gn]}, figures: [figure_6]}\n")
    with pytest.raises(InputError, match="sweep.yaml: sweep.figures: figure_6 needs record.responses, the same"):
        load_sweep(path)
    assert load_sweep(path, ["record.responses=stem.conv"]).section.figures == ["figure_6"]


def of_paper(make_sweep, **model):
    folder = make_sweep(FIGURE_1_AXES, config=CONFIG | {"model": {**CONFIG["model"], **model}})
    sweep = read_sweep(folder)
    rows, caption = DRAWINGS["table_2"].draw(sweep)
    figure, _ = DRAWINGS["figure_1"].draw(sweep)
    return rows[0], caption, {line.get_label(): list(line.get_ydata()) for axes in figure.axes for line in axes.lines}


def test_resnet_101_stands_beside_the_papers_own(make_sweep):
    rows, caption, lines = of_paper(make_sweep, depth=101)
    assert rows[2] == ["*BN, the paper*", "*22.0*", "*31.9*"] and rows[4] == ["*GN, the paper*", "*22.4*", "*23.0*"]
    assert rows[6] == ["*GN − BN, the paper*", "*+0.4*", "*−8.9*"] and "The paper: ResNet-101 on ImageNet" in caption
    assert lines["BN in the paper (ImageNet)"] == [22.0, 31.9] and lines["in the paper"] == pytest.approx([0.4, -8.9])


@pytest.mark.parametrize("model", ["vgg", "i3d"])
def test_no_number_of_another_kind_of_network_stands_beside(make_sweep, model):
    rows, caption, lines = of_paper(make_sweep, name=model)
    assert [row[0] for row in rows] == ["images per worker", "BN", "GN", "GN − BN"] and "The paper" not in caption
    assert not [label for label in lines if "paper" in label]


def test_a_depth_is_said_with_its_network(make_sweep):
    axes = {NORM: ["bn"], "model.depth": [16, 11], IMAGES: [32]}
    folder = make_sweep(axes, ["table_2"], error=lambda values: 0.1, config=VGG)
    assert [line.label for line in read_sweep(folder).lines(IMAGES)] == ["BN, VGG-16", "BN, VGG-11"]
