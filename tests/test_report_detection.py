"""Sweeps of detectors on paper: all their APs, beside the papers' rows for such networks."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from sweep_folders import CONFIG, NORM

from data import DataError
from engine.errors import InputError
from engine.report.drawings import check_figures
from engine.report.page import write_report
from engine.report.results import read_sweep
from engine.report.scenes import figure_scenes
from engine.tasks import task_of

MASK, *MORE = (measure._asdict() for measure in task_of("mask_rcnn").measures)
BOX_NORM, DEFORMABLE, VERSION = "model.box_head_norm", "model.deformable_stages", "model.deformable_version"
POOLING = "model.roi_pooling"
MODEL = {
    "name": "mask_rcnn", "depth": 18, "width": 16, "norm": "gn", "norm_groups": 8, "neck": "fpn",
    "box_head": "4conv1fc", "box_head_norm": "gn", "mask_head_norm": "none", "fpn_norm": "none",
    "deformable_stages": [], "deformable_version": 2, "roi_pooling": "align",
}


@pytest.fixture
def make(make_sweep):
    """A sweep's folder with mask APs of 0.3, and box AP, AP50, AP75 of 0.4, 0.6, 0.5, all 0.01 higher in seed 1."""

    def make(grids, model=None, pretrained="resnet50.pdparams", **described):
        grids = [grids] if isinstance(grids, dict) else grids
        folder = make_sweep(
            [grid | {"seed": [0, 1]} for grid in grids], ["table_ap", "figure_4"],
            lambda values: 0.3 + 0.01 * values["seed"], trained=False, measure=MASK, more_measures=MORE,
            config=CONFIG | {"pretrained": pretrained, "model": MODEL | (model or {})}, **described,
        )
        rows = list(csv.DictReader((folder / "results.csv").open()))
        values = {"mask_ap50": 0.5, "mask_ap75": 0.2, "box_ap": 0.4, "box_ap50": 0.6, "box_ap75": 0.5}
        for row in rows:
            for name, value in values.items():
                for statistic in ("median_last_5", "last", "best"):
                    row[f"{name}_{statistic}"] = value + 0.01 * int(row["seed"])
        with (folder / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return make


def table(folder):
    """The rows of the report's table of APs, the header first."""
    write_report(folder)
    text = (folder / "report.md").read_text()
    lines = text.partition("## Average precision")[2].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line], text


def test_all_aps_stand_beside_the_papers(make):
    rows, text = table(make({NORM: ["frozen_bn", "gn"], BOX_NORM: ["gn"]}))
    assert rows[0] == ["", "box AP, %", "box AP50, %", "box AP75, %", "mask AP, %", "mask AP50, %", "mask AP75, %"]
    assert [row[0] for row in rows[1:]] == ["GN", "*the paper*", "FrozenBN", "*the paper*"]
    assert rows[1][1:] == [f"{mean}.50 ± 0.71" for mean in (40, 60, 50, 30, 50, 20)]
    assert rows[2][1:] == [f"*{value}*" for value in ("40.0", "61.0", "43.3", "34.8", "57.3", "36.3")]
    assert rows[4][1:] == [f"*{value}*" for value in ("39.5", "60.0", "43.2", "34.4", "56.4", "36.3")]
    assert "higher is better" in text and "tables 4 to 7" in text and "error" not in text.lower()


def test_from_scratch_has_another_row(make):
    grid = {NORM: ["gn"], "pretrained": ["resnet50.pdparams", None]}
    rows, _ = table(make(grid, {"fpn_norm": "gn", "mask_head_norm": "gn"}))
    assert rows[2][1:] == [f"*{value}*" for value in ("40.3", "61.0", "44.0", "35.7", "57.9", "37.7")]
    assert rows[4][1:] == [f"*{value}*" for value in ("39.5", "59.8", "43.6", "35.2", "56.9", "37.6")]
    rows, _ = table(make({NORM: ["bn", "gn"]}, pretrained=None, name="live"))
    assert len(rows) == 3  # neither a live BN has one, nor GN in the backbone alone from scratch


def test_precise_statistics_are_shown_under_the_running_ones(make):
    folder = make({NORM: ["bn", "gn"]}, pretrained=None)
    for seed in (0, 1):
        precise = {measure["name"]: 0.2 + 0.02 * seed for measure in (MASK, *MORE)}
        (folder / f"norm=bn,seed={seed}" / "precise.json").write_text(json.dumps(precise))
    rows, _ = table(folder)
    assert [row[0] for row in rows[1:]] == ["BN", "BN, precise statistics", "GN"]
    assert rows[2][1:] == ["21.00 ± 1.41"] * 6


def test_deformable_sweeps_stand_beside_the_other_papers(make):
    stages = ["c3", "c4", "c5"]
    rows, text = table(make([
        {DEFORMABLE: [[]], POOLING: ["align", "deformable"], VERSION: [1]},
        {DEFORMABLE: [stages], VERSION: [1], POOLING: ["align", "deformable"]},
        {DEFORMABLE: [stages], VERSION: [2], POOLING: ["align", "modulated"]},
    ]))
    found, own = {}, ""
    for row in rows[1:]:
        if row[0].startswith("*"):
            found.setdefault(own, {})[row[0].strip("*")] = [cell.strip("*") for cell in row[1:5]]
        else:
            own = row[0]
    assert found == {
        "GN, plain, RoIAlign": {"DCN v1": ["–", "78.1", "62.1", "–"], "DCN v2": ["36.6", "–", "–", "32.2"]},
        "GN, plain, deformable pooling": {"DCN v1": ["–", "78.3", "66.6", "–"]},
        "GN, DCNv1 in c3–c5, RoIAlign": {"DCN v1": ["–", "78.6", "63.3", "–"]},
        "GN, DCNv1 in c3–c5, deformable pooling": {"DCN v1": ["–", "79.3", "66.9", "–"]},
        "GN, DCNv2 in c3–c5, modulated pooling": {"DCN v2": ["43.1", "–", "–", "37.3"]},
    }
    assert "1703.06211, table 3" in text and "1811.11168" in text and "tables 4 to 7" not in text


def test_boxes_alone_have_three_columns(make):
    folder = make({NORM: ["gn"]})
    described = yaml.safe_load((folder / "sweep.yaml").read_text())
    box, *more = (measure for measure in MORE if measure["name"].startswith("box"))
    (folder / "sweep.yaml").write_text(yaml.safe_dump(described | {
        "measure": box, "more_measures": more, "figures": ["table_ap"]
    }))
    rows, _ = table(folder)
    assert [len(row) for row in rows] == [4, 4, 4] and rows[2][1:] == ["*40.0*", "*61.0*", "*43.3*"]
    assert [measure.name for measure in read_sweep(folder).file.measures] == ["box_ap", "box_ap50", "box_ap75"]


def test_what_is_found_stands_below_what_is_annotated_once_for_equal_pictures(make):
    folder = make({NORM: ["bn", "gn", "ln", "in"]})
    with pytest.raises(InputError, match="no finished run has samples.jpg, .* where record.sample_images is not 0"):
        figure_scenes(read_sweep(folder))
    for run, (annotated, found) in {
        "norm=bn,seed=0": (10, 50), "norm=ln,seed=1": (10, 90), "norm=gn,seed=0": (200, 130), "norm=gn,seed=1": (0, 0),
    }.items():
        halves = np.uint8([[[value] * 3] * 64 for value in (annotated, found) for _ in range(32)])
        Image.fromarray(halves).save(folder / run / "samples.jpg", subsampling=0)
    figure, caption = figure_scenes(read_sweep(folder))
    rows = [(axes.get_title(loc="left"), round(float(np.mean(axes.images[0].get_array())))) for axes in figure.axes]
    assert rows == [("annotated", 10), ("BN", 50), ("LN", 90), ("annotated", 200), ("GN", 130)]
    assert "Without pictures: IN." in caption
    (folder / "norm=gn,seed=0" / "samples.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="norm=gn,seed=0/samples.jpg"):
        figure_scenes(read_sweep(folder))


def test_a_sweep_of_classifiers_has_no_such_table():
    with pytest.raises(InputError, match="figures: table_ap needs box_ap; these runs are measured by top1_error"):
        check_figures(["table_ap"], {}, 1, task_of("resnet").measures)
    check_figures(["table_ap"], {}, 1, task_of("faster_rcnn").measures)


def test_a_damaged_number_is_one_line(make):
    folder = make({NORM: ["gn"]})
    path = folder / "results.csv"
    path.write_text(path.read_text().replace("0.6,", "1.6,"))
    with pytest.raises(InputError, match=r"results.csv: line 2: damaged: box_ap50_median_last_5 is 1.6"):
        write_report(folder)


def test_the_rate_of_offsets_is_said_where_there_are_offsets(make):
    rate, of_rois = "optimizer.offset_lr_multiplier", "optimizer.roi_offset_lr_multiplier"
    grids = [{DEFORMABLE: [[]], POOLING: ["align", "deformable"], rate: [0.1], of_rois: [0.001, 0.0]},
             {DEFORMABLE: [["c5"]], VERSION: [1], POOLING: ["align"], rate: [0.1, None]}]
    sweep = read_sweep(make(grids))
    assert [sweep.label(setting) for setting in sweep.settings] == [
        "GN, plain, RoIAlign",
        "GN, plain, deformable pooling, offsets at 0.1 of the rate, offsets of RoIs at 0.001 of the rate",
        "GN, plain, deformable pooling, offsets at 0.1 of the rate, bins that stay",
        "GN, DCNv1 in c5, RoIAlign",  # at the papers' own rates
        "GN, DCNv1 in c5, RoIAlign, offsets at 0.1 of the rate",
    ]
