"""A sweep of detectors beside the tables of the papers: box and mask AP, AP50 and AP75."""

import json
from typing import NamedTuple

from engine.drawing import Table, theirs
from engine.report.records import DEFORMABLE, NORM, POOLING, PRETRAINED, VERSION
from engine.report.results import Setting, SweepResults
from engine.report.words import average_text, conditions, error_text, heading, statistic

NECK, FPN_NORM = "model.neck", "model.fpn_norm"
BOX_HEAD, BOX_NORM, MASK_NORM = "model.box_head", "model.box_head_norm", "model.mask_head_norm"
EVERYWHERE = {NORM: "gn", FPN_NORM: "gn", BOX_NORM: "gn", MASK_NORM: "gn", NECK: "fpn"}
FINE_TUNED, SCRATCH = {PRETRAINED: True}, {PRETRAINED: False}
C5, MORE = ["c5"], ["c3", "c4", "c5"]


class Paper(NamedTuple):
    """rows: what a config says, and box AP, AP50, AP75, mask AP, AP50, AP75 as printed."""

    label: str
    source: str
    rows: list[tuple[dict, str]]


GROUP_NORMALIZATION = Paper("the paper", "Mask R-CNN, ResNet-50 on COCO (tables 4 to 7)", [
    ({NECK: "c4", NORM: "frozen_bn"}, "37.7 57.9 40.9 32.8 54.3 34.7"),
    ({NECK: "c4", NORM: "gn", **FINE_TUNED}, "38.8 59.2 42.2 33.6 55.9 35.4"),
    ({NECK: "fpn", NORM: "frozen_bn", BOX_HEAD: "2fc"}, "38.6 59.8 42.1 34.5 56.4 36.3"),
    ({NECK: "fpn", NORM: "frozen_bn", BOX_HEAD: "4conv1fc", BOX_NORM: "none"}, "38.6 59.5 41.9 34.2 56.2 36.1"),
    ({NECK: "fpn", NORM: "frozen_bn", BOX_NORM: "gn"}, "39.5 60.0 43.2 34.4 56.4 36.3"),
    ({NECK: "fpn", NORM: "gn", BOX_NORM: "gn", FPN_NORM: "none", **FINE_TUNED}, "40.0 61.0 43.3 34.8 57.3 36.3"),
    ({**EVERYWHERE, **FINE_TUNED}, "40.3 61.0 44.0 35.7 57.9 37.7"),
    ({**EVERYWHERE, **SCRATCH}, "39.5 59.8 43.6 35.2 56.9 37.6"),
])
DEFORMABLE_CONVOLUTION = [
    Paper(
        "DCN v1", "Faster R-CNN, ResNet-101 with deformable layers in c5 on PASCAL VOC 2007 (arXiv:1703.06211, table "
        "3), with AP at an IoU of 0.7 in the column of AP75", [
            ({DEFORMABLE: [], POOLING: "align"}, "– 78.1 62.1 – – –"),
            *(({DEFORMABLE: stages, VERSION: 1, POOLING: "align"}, "– 78.6 63.3 – – –") for stages in (C5, MORE)),
            ({DEFORMABLE: [], POOLING: "deformable"}, "– 78.3 66.6 – – –"),
            *(({DEFORMABLE: stages, VERSION: 1, POOLING: "deformable"}, "– 79.3 66.9 – – –") for stages in (C5, MORE)),
        ],
    ),
    Paper("DCN v2", "Mask R-CNN, ResNet-50 on COCO, short side 1000 (arXiv:1811.11168, section 5.2)", [
        ({DEFORMABLE: [], POOLING: "align"}, "36.6 – – 32.2 – –"),
        ({DEFORMABLE: C5, VERSION: 1, POOLING: "deformable"}, "40.4 – – 35.3 – –"),
        ({DEFORMABLE: MORE, VERSION: 2, POOLING: "modulated"}, "43.1 – – 37.3 – –"),
    ]),
]


def table_ap(sweep: SweepResults) -> tuple[list[Table], str]:
    """All APs of each setting, under it by BN's precise statistics where its runs have them, and once the papers' where
    they have such a network -> ([table], caption)."""
    measures = {measure.name: measure for measure in sweep.file.measures}
    columns = [name for kind in ("box", "mask") for name in (f"{kind}_ap", f"{kind}_ap50", f"{kind}_ap75")]
    columns = [name for name in columns if name in measures]
    deformable = any(sweep.varied(key) for key in (DEFORMABLE, VERSION, POOLING) if key in sweep.axes)
    papers = DEFORMABLE_CONVOLUTION if deformable else [GROUP_NORMALIZATION]
    rows, quoted = [["", *(heading(measures[name]) for name in columns)]], []
    for setting in sweep.settings:
        rows.append([sweep.label(setting), *(error_text(sweep, setting, measures[name]) for name in columns)])
        precise = [sweep.precise(setting, measures[name]) for name in columns]
        if all(precise):
            cells = (average_text(measures[name], found) for name, found in zip(columns, precise, strict=True))
            rows.append([f"{sweep.label(setting)}, precise statistics", *cells])
        for paper in papers:
            if (numbers := _numbers(paper, sweep, setting)) and (row := _quoted(paper, numbers, columns)) not in rows:
                rows.append(row)
                quoted.append(f" {paper.label[0].upper()}{paper.label[1:]}: {paper.source}.")
    sources = "".join(dict.fromkeys(quoted))
    return [rows], f"Validation AP in percent, {statistic(sweep)}. {conditions(sweep, sweep.settings)}{sources}"


def _quoted(paper, numbers, columns):
    return [theirs(paper.label), *map(theirs, numbers.split()[: len(columns)])]


def _numbers(paper: Paper, sweep: SweepResults, setting: Setting) -> str | None:
    """The paper's six numbers for the network of a setting."""
    return next((numbers for wanted, numbers in paper.rows if all(
        _value(sweep, setting, key) == value for key, value in wanted.items()
    )), None)


def _value(sweep, setting, key):
    """A config's value, of `pretrained` whether there is one: an axis has lists as texts, which hash."""
    value = setting.values.get(key, sweep.values(key)[0])
    if key == PRETRAINED:
        return bool(value)
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value
