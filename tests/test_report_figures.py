"""The figures of a report draw what the results hold."""

import csv
import json

import numpy as np
import pytest
from sweep_folders import (
    CHANNELS,
    CONFIG,
    DEFORMABLE,
    DILATED,
    FIGURE_1_AXES,
    GROUPS,
    IMAGES,
    NORM,
    VERSION,
    drawn,
    error_of,
)

from engine.errors import InputError
from engine.report.drawings import DRAWINGS, check_figures
from engine.report.lines import spread
from engine.report.page import write_report
from engine.report.results import read_sweep


def test_figure_1_draws_the_results(make_sweep):
    axes, (lines, gaps), caption = drawn(make_sweep(FIGURE_1_AXES), "figure_1")
    assert axes[0].get_xlim()[0] > axes[0].get_xlim()[1] and axes[0].get_xscale() == "log"  # 32 is on the left
    assert lines["BN"][0] == [32, 2] and lines["BN"][1] == pytest.approx([12, 22])
    assert lines["GN"][0] == [32, 2] and lines["GN"][1] == pytest.approx([13, 14])
    assert lines["BN in the paper (ImageNet)"] == ([32, 2], [23.6, 34.7])
    assert lines["GN in the paper (ImageNet)"] == ([32, 2], [24.1, 24.1])
    band = axes[0].collections[0].get_paths()[0].vertices  # of BN
    assert {tuple(point) for point in band.round(2)} >= {(32, 10), (32, 14), (2, 19.35), (2, 24.65)}
    assert "BN 12.00 → 22.00 %; GN 13.00 → 14.00 %" in caption and "Beneath: GN less BN" in caption
    assert gaps["here"][1] == pytest.approx([1, -8]) and gaps["in the paper"][1] == pytest.approx([0.5, -10.6])
    assert axes[1].get_xlim() == axes[0].get_xlim()
    assert axes[1].get_position().y1 < axes[0].get_position().y0 and axes[1].get_xlabel() == "images per worker"
    looks = {(line.get_color(), line.get_marker()) for line in axes[0].lines[:2]}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 2


def test_figure_small_batch_draws_a_point_a_norm_and_what_was_published(make_sweep):
    (axes,), (lines,), caption = drawn(make_sweep(FIGURE_1_AXES), "figure_small_batch")
    assert lines["BN"] == ([pytest.approx(12)], [pytest.approx(22)])  # at 32, at 2
    assert lines["GN"] == ([pytest.approx(13)], [pytest.approx(14)])
    assert lines["BN, ImageNet"] == ([23.6], [34.7]) and lines["GN, ImageNet"] == ([24.1], [24.1])
    assert lines["BRN, ImageNet"] == ([23.5], [30.3]) and "in a plot" in caption
    bars = {tuple(path.vertices.round(2).ravel()) for bars in axes.collections for path in bars.get_paths()}
    assert bars == {(10, 22, 14, 22), (12, 19.35, 12, 24.65), (10.35, 14, 15.65, 14), (13, 12.27, 13, 15.73)}
    assert axes.get_xlabel().endswith("32 images per worker") and axes.get_ylabel().endswith(", 2 images per worker")
    names = {text.get_text(): text for text in axes.texts}
    assert names.keys() == {"BN", "GN", "BN, ImageNet", "GN, ImageNet", "BRN, ImageNet"}
    heights = sorted(text.xy[1] for text in names.values())
    _, high = axes.get_position().size * axes.figure.get_size_inches()
    low, top = axes.get_ylim()
    assert min(np.diff(heights)) > 0.99 * (top - low) * 12 / 72 / high  # no name lies on another
    (diagonal,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert diagonal.get_slope() == 1 and diagonal.get_xy1()[0] == diagonal.get_xy1()[1]


def test_figure_small_batch_leaves_out_what_has_one_end_alone(make_sweep):
    lost = {f"norm=bn,images_per_worker=2,seed={seed}": "failed" for seed in range(3)}
    _, (lines,), _ = drawn(make_sweep({**FIGURE_1_AXES, IMAGES: [32, 2]}, states=lost), "figure_small_batch")
    assert "GN" in lines and "BN" not in lines
    with pytest.raises(InputError, match="figure_small_batch needs the axis batch.images_per_worker with 2 values"):
        check_figures(["figure_small_batch"], {IMAGES: [32], NORM: ["bn", "gn"]})


def test_figure_1_gives_the_paper_a_scale_of_its_own_where_it_would_press_the_results_flat(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, error=lambda values: error_of(values) / 10)
    (axes, _, strip), (lines, _, paper), caption = drawn(folder, "figure_1")
    assert lines.keys() == {"BN", "GN"} and lines["BN"][1] == pytest.approx([1.2, 2.2])
    assert paper["BN in the paper (ImageNet)"] == ([32, 2], [23.6, 34.7]) and "on a scale of their own" in caption
    assert axes.get_position().height > 2 * strip.get_position().height and strip.get_xlim() == axes.get_xlim()
    assert axes.get_ylim()[1] < 5 and strip.get_ylabel() == "own scale, %"


def test_a_line_is_broken_where_nothing_is_known(make_sweep):
    grid = {NORM: ["gn"], IMAGES: [8, 4, 2]}
    folder = make_sweep(grid, error=lambda values: 0.2, states={"norm=gn,images_per_worker=4": "stopped"})
    axes, (lines, _), caption = drawn(folder, "figure_1")
    np.testing.assert_allclose(lines["GN"][1], [20, np.nan, 20])
    assert not axes[0].collections  # one seed has no band
    assert "One seed." in caption and "GN, 4 images per worker has 0 of 1 seeds" in caption


def test_a_line_goes_on_where_the_sweep_has_a_hole(make_sweep):
    grids = [{NORM: ["bn"], IMAGES: [32, 8, 2]}, {NORM: ["gn"], IMAGES: [32, 2]}]
    _, (lines, gaps, _), _ = drawn(make_sweep(grids, error=lambda values: 0.2), "figure_1")
    assert lines["GN"] == ([32, 2], [20, 20]) and lines["BN"][0] == [32, 8, 2]
    assert gaps["here"] == ([32, 2], [0, 0])


def test_the_frame_cuts_off_the_first_tenth_of_the_epochs(make_sweep):
    folder = make_sweep({NORM: ["bn", "gn"]})
    for run in folder.glob("norm=*"):
        errors = [0.9, 0.5, *[0.3] * 17, 0.1]
        (run / "metrics.jsonl").write_text("".join(
            json.dumps({"kind": kind, "epoch": epoch, "top1_error": error}) + "\n"
            for epoch, error in enumerate(errors, 1) for kind in ("epoch", "eval")))
    axes, (lines, _), caption = drawn(folder, "figure_4")
    assert len(lines["BN"][1]) == 20  # the frame does, not the data
    low, high = axes[0].get_ylim()
    assert 5 < low < 10 and 30 < high < 35 and "The first epochs lie above the frame." in caption


def test_figures_of_epochs_draw_the_metrics(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    _, (training, validation), caption = drawn(folder, "figure_4")  # at 32 images, as in the paper
    assert training["BN"][0] == [1, 2, 3, 4] and training["BN"][1] == pytest.approx([8, 7, 6, 6])
    assert validation["BN"][1] == pytest.approx([16, 14, 12, 12]) and validation["GN"][1][-1] == pytest.approx(13)
    assert "at 32 images per worker" in caption
    panels, (left, right), _ = drawn(folder, "figure_5")
    assert [panel.get_title(loc="left") for panel in panels] == ["BN", "GN"]
    assert left["32"][1] == pytest.approx([16, 14, 12, 12]) and left["2"][1] == pytest.approx([26, 24, 22, 22])
    assert right["2"][1] == pytest.approx([18, 16, 14, 14])
    assert panels[0].get_ylim() == panels[1].get_ylim()


CONVOLUTIONS = [
    {DEFORMABLE: [[]], DILATED: [[], ["c5"]], "data.warp": [1.0, 0.5], "seed": [0, 1]},
    {DEFORMABLE: [["c3", "c4", "c5"], ["c4", "c3"]], VERSION: [1, 2], "data.warp": [1.0, 0.5], "seed": [0, 1]},
]


PLAIN_CONFIG = CONFIG | {"model": CONFIG["model"] | {"deformable_version": 2, "dilated_stages": []}}


KIND_ERRORS = {"[]": 0.2, '["c3", "c4", "c5"]': 0.1, '["c4", "c3"]': 0.15}


def kind_error(values):
    """20 % plain; less 5 in two deformable stages, 10 in three, half that at warp 0.5; 1 more for each seed."""
    gain = 0.2 - KIND_ERRORS[json.dumps(values[DEFORMABLE])]
    return 0.2 - gain * values["data.warp"] + 0.01 * values["seed"]


def test_the_table_of_convolutions(make_sweep):
    folder = make_sweep(CONVOLUTIONS, error=kind_error, config=PLAIN_CONFIG)
    ([rows], caption) = DRAWINGS["table_convolutions"].draw(read_sweep(folder))
    cost = ["0.001 M", "", "80"]  # 1000 parameters; (100 + 101) / 2 s over 1250 steps; no multiply-adds counted
    same = [*cost, "20.50 ± 0.71"]
    assert rows == [
        ["", "parameters", "multiply-adds", "ms a step", "warp 1.0, %", "− plain", "warp 0.5, %", "− plain"],
        ["plain", *same, "", "20.50 ± 0.71", ""],
        ["dilated in c5", *same, "+0.00", "20.50 ± 0.71", "+0.00"],
        ["DCNv1 in c3–c5", *cost, "10.50 ± 0.71", "−10.00", "15.50 ± 0.71", "−5.00"],
        ["DCNv2 in c3–c5", *cost, "10.50 ± 0.71", "−10.00", "15.50 ± 0.71", "−5.00"],
        ["DCNv1 in c3–c4", *cost, "15.50 ± 0.71", "−5.00", "18.00 ± 0.71", "−2.50"],
        ["DCNv2 in c3–c4", *cost, "15.50 ± 0.71", "−5.00", "18.00 ± 0.71", "−2.50"],
    ]
    assert "over 2 seeds" in caption and "Not complete" not in caption
    with open(folder / "results.csv", newline="") as file:
        runs = [run | {"multiply_adds": 1234567} for run in csv.DictReader(file)]
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, runs[0])
        writer.writeheader()
        writer.writerows(runs)
    ([rows], _) = DRAWINGS["table_convolutions"].draw(read_sweep(folder))
    assert [row[2] for row in rows[1:]] == ["1.23 M"] * 6


def test_the_figure_of_convolutions_has_a_dot_for_each_seed(make_sweep):
    gone = "deformable_stages=[],dilated_stages=[],warp=1.0,seed=1"
    figures = ["figure_convolutions", "table_convolutions"]
    folder = make_sweep(CONVOLUTIONS, figures, kind_error, {gone: "failed"}, config=PLAIN_CONFIG)
    panels, lines, caption = drawn(folder, "figure_convolutions")
    assert [axes.get_title(loc="left") for axes in panels] == ["warp 1.0", "warp 0.5"]
    kinds = [label.get_text() for label in panels[0].get_yticklabels()]
    assert kinds[:3] == ["plain", "dilated in c5", "DCNv1 in c3–c5"] and len(kinds) == 6
    assert lines[0]["plain"] == ([pytest.approx(20)], [0])
    assert lines[0]["DCNv2 in c3–c5"] == ([pytest.approx(10), pytest.approx(11)], [3, 3])
    assert lines[1]["DCNv2 in c3–c5"] == ([pytest.approx(15), pytest.approx(16)], [3, 3])
    assert "BN" not in caption and "plain, warp 1.0 has 1 of 2 seeds" in caption
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "## Kinds of convolution\n\n![Kinds of convolution](figure_convolutions.png)\n\nValidation error" in text


def test_check_figures():
    axes = {NORM: ["bn", "gn"], IMAGES: [32, 2], "schedule.milestones": [[1], [2]]}
    check_figures(["figure_1", "figure_4", "figure_5", "table_1", "table_2"], axes)
    check_figures(["table_3"], {CHANNELS: [None, 2, 1]})
    check_figures(["figure_4", "figure_5", "table_2"], {})  # the norm and the images per worker are known without axes
    for names, given, message in (
        (["figure_1"], {NORM: ["bn", "gn"]}, f"figures: figure_1 needs the axis {IMAGES} with 2 values or more"),
        (["figure_1"], {IMAGES: [32, 32]}, f"figures: figure_1 needs the axis {IMAGES} with 2 values or more"),
        (["table_1"], {NORM: ["bn"]}, f"figures: table_1 needs the axis {NORM} with 2 values or more"),
        (["table_3"], {GROUPS: [8], CHANNELS: [None, 2]}, f"figures: table_3 needs the axis {GROUPS} with 2 values or "
                                                          f"more, or the axis {CHANNELS} with 2 values or more"),
        (["figure1"], axes, "figures: figure1 is unknown; did you mean figure_1?"),
        (["x"], axes, "figures: x is unknown; expected one of figure_1, figure_4, figure_5, figure_6, figure_7, "
                       "table_1, table_2, table_3, table_8, figure_convolutions, table_convolutions, "
                       "figure_small_batch, table_transfer, table_ap, figure_scenes"),
    ):
        with pytest.raises(InputError) as raised:
            check_figures(names, given)
        assert str(raised.value) == message


def test_labels_move_apart_and_no_further():
    assert spread([1.0, 5.0, 3.0], 1.0) == [1.0, 5.0, 3.0]
    assert spread([2.0, 2.0], 1.0) == [1.5, 2.5]
    assert spread([3.0, 2.0, 2.5, 9.0], 1.0) == pytest.approx([3.5, 1.5, 2.5, 9.0])
    assert spread([], 1.0) == []
