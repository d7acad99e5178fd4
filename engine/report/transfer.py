"""What carries over from pre-training: each norm from scratch and fine-tuned, beside what the GN paper says of it."""

from engine.drawing import Table, theirs
from engine.report.labels import NORMS
from engine.report.records import IMAGES, NORM, PRETRAINED
from engine.report.results import Setting, SweepResults
from engine.report.words import conditions, difference, error_text, gap, heading, in_points, noun, statistic

AGAINST = {"bn": "BN", "frozen_bn": "BN*"}  # the norms that others are measured against, as the paper calls them
SCRATCH, FINE_TUNED = False, True
# Wu & He (arXiv:1803.08494), section 4.2 and tables 4 to 7: box AP of Mask R-CNN with ResNet-50 on COCO, of which more
# is better. For BN from scratch it has no number of its own: the SyncBN is another paper's.
PAPER = {
    (SCRATCH, "gn"): "5.0 above SyncBN",
    (FINE_TUNED, "bn"): "about 6 below BN*",
    (FINE_TUNED, "gn"): "1.1 to 1.7 above BN*",
}


def table_transfer(sweep: SweepResults) -> tuple[list[Table], str]:
    """Each setting, less the same norm from scratch, less BN and BN* with the same beginning -> ([table], caption)."""
    rows = [["", heading(sweep.measure), "− from scratch", *(f"− {name}" for name in AGAINST.values()),
             theirs("the paper, box AP")]]
    for setting in sorted(sweep.settings, key=_start):
        norm, start = setting.values[NORM], _start(setting)
        others = [_other(sweep, setting, "bn" if norm == "frozen_bn" else norm, SCRATCH)]
        others += [_other(sweep, setting, other, start) for other in AGAINST]
        gaps = [gap(sweep, setting, other) for other in others]
        rows.append([
            sweep.label(setting, [IMAGES]), error_text(sweep, setting),
            *("" if points is None else difference(sweep.measure, points) for points in gaps),
            theirs(PAPER[start, norm]) if (start, norm) in PAPER else "",
        ])
    return [rows], (
        f"Validation {noun(sweep.measure)}, {statistic(sweep)}{in_points(sweep)}. BN* is {NORMS['frozen_bn']}, which "
        f"keeps the statistics, gamma and beta it came with. {conditions(sweep, sweep.settings)} The paper: Mask R-CNN "
        "on COCO, one or two images per GPU; of AP more is better."
    )


def _start(setting):
    return bool(setting.values[PRETRAINED])


def _other(sweep: SweepResults, setting: Setting, norm: str, start: bool) -> Setting | None:
    """The one other setting of this norm and beginning that is alike in all that its set of values does not say."""
    own = {NORM, PRETRAINED, *sweep.file.names, *sweep.file.in_sets}
    common = {key: value for key, value in setting.values.items() if key not in own}
    found = [
        other for other in sweep.settings
        if other.values[NORM] == norm and _start(other) == start and common.items() <= other.values.items()
    ]
    return found[0] if len(found) == 1 and found[0] is not setting else None
