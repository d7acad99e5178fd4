"""A sweep of detectors beside the tables of the papers: box and mask AP, AP50 and AP75."""

import json

from engine.drawing import Table, theirs
from engine.report.records import DEFORMABLE, NORM, VERSION
from engine.report.results import Setting, SweepResults
from engine.report.words import conditions, error_text, heading, statistic

NECK, FPN_NORM, FREEZE_AT, POOLING = "model.neck", "model.fpn_norm", "model.freeze_at", "model.roi_pooling"
BOX_HEAD, BOX_NORM, MASK_NORM = "model.box_head", "model.box_head_norm", "model.mask_head_norm"
EVERYWHERE = {NORM: "gn", FPN_NORM: "gn", BOX_NORM: "gn", MASK_NORM: "gn", NECK: "fpn"}
# Mask R-CNN with ResNet-50 on COCO: what a config says, and box AP, AP50, AP75, mask AP, AP50, AP75 as printed.
GROUP_NORMALIZATION = [  # arXiv:1803.08494, tables 4, 5, 6 and 7
    ({NECK: "c4", NORM: "frozen_bn"}, "37.7 57.9 40.9 32.8 54.3 34.7"),
    ({NECK: "c4", NORM: "gn"}, "38.8 59.2 42.2 33.6 55.9 35.4"),
    ({NECK: "fpn", NORM: "frozen_bn", BOX_HEAD: "2fc"}, "38.6 59.8 42.1 34.5 56.4 36.3"),
    ({NECK: "fpn", NORM: "frozen_bn", BOX_HEAD: "4conv1fc", BOX_NORM: "none"}, "38.6 59.5 41.9 34.2 56.2 36.1"),
    ({NECK: "fpn", NORM: "frozen_bn", BOX_NORM: "gn"}, "39.5 60.0 43.2 34.4 56.4 36.3"),
    ({NECK: "fpn", NORM: "gn", BOX_NORM: "gn", FPN_NORM: "none"}, "40.0 61.0 43.3 34.8 57.3 36.3"),
    ({**EVERYWHERE, FREEZE_AT: 2}, "40.3 61.0 44.0 35.7 57.9 37.7"),
    ({**EVERYWHERE, FREEZE_AT: 0}, "39.5 59.8 43.6 35.2 56.9 37.6"),
]
DEFORMABLE_CONVOLUTION = [  # arXiv:1811.11168, ResNet-50, short side 1000; box AP and mask AP
    ({DEFORMABLE: [], POOLING: "align"}, "36.6 – – 32.2 – –"),
    ({DEFORMABLE: ["c5"], VERSION: 1, POOLING: "deformable"}, "40.4 – – 35.3 – –"),
    ({DEFORMABLE: ["c3", "c4", "c5"], VERSION: 2, POOLING: "modulated"}, "43.1 – – 37.3 – –"),
]


def table_ap(sweep: SweepResults) -> tuple[list[Table], str]:
    """All APs of each setting, and the paper's under it where it has such a network -> ([table], caption)."""
    measures = {measure.name: measure for measure in sweep.file.measures}
    columns = [name for kind in ("box", "mask") for name in (f"{kind}_ap", f"{kind}_ap50", f"{kind}_ap75")]
    columns = [name for name in columns if name in measures]
    rows, of_paper = [["", *(heading(measures[name]) for name in columns)]], 0
    for setting in sweep.settings:
        rows.append([sweep.label(setting), *(error_text(sweep, setting, measures[name]) for name in columns)])
        if numbers := _papers(sweep, setting):
            rows.append([theirs("the paper"), *map(theirs, numbers.split()[: len(columns)])])
            of_paper += 1
    paper = f" The paper: {_source(sweep)}." * bool(of_paper)
    return [rows], f"Validation AP in percent, {statistic(sweep)}. {conditions(sweep, sweep.settings)}{paper}"


def _is_deformable(sweep):
    return any(sweep.varied(key) for key in (DEFORMABLE, VERSION, POOLING) if key in sweep.axes)


def _source(sweep):
    if _is_deformable(sweep):
        return "Mask R-CNN, ResNet-50 on COCO, short side 1000 (arXiv:1811.11168)"
    return "Mask R-CNN, ResNet-50 on COCO (tables 4 to 7)"


def _papers(sweep: SweepResults, setting: Setting) -> str | None:
    """The paper's six numbers for the network of a setting."""
    papers = DEFORMABLE_CONVOLUTION if _is_deformable(sweep) else GROUP_NORMALIZATION
    return next((numbers for wanted, numbers in papers if all(
        _value(sweep, setting, key) == value for key, value in wanted.items()
    )), None)


def _value(sweep, setting, key):
    """A config's value: an axis has lists as texts, which hash."""
    value = setting.values.get(key, sweep.values(key)[0])
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value
