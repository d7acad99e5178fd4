"""A sweep over clips beside table 8 and figure 7 of the GN paper (Wu & He, arXiv:1803.08494)."""

from typing import TYPE_CHECKING

from engine.drawing import Table, theirs
from engine.report.gn_figures import draw_batch_sizes
from engine.report.gn_tables import gaps
from engine.report.labels import NORMS
from engine.report.records import FRAMES, IMAGES, NORM
from engine.report.results import Line, Setting, SweepResults
from engine.report.words import average_text, conditions, in_points, missing_text, signed, statistic
from engine.run.measure import TOP1_ERROR

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.figure import Figure

TOP1_ACCURACY = TOP1_ERROR._replace(name="top1_accuracy", words="top-1 accuracy", lower_is_better=False)
# By frames of a clip and clips per worker: top-1 accuracy in percent, I3D ResNet-50 on Kinetics-400.
PAPER = {
    "bn": {(32, 8): 73.3, (32, 4): 72.1, (64, 4): 73.3},
    "gn": {(32, 8): 73.0, (32, 4): 72.8, (64, 4): 74.5},
}


def figure_7(sweep: SweepResults) -> "tuple[Figure, str]":
    """Of the shortest clips the validation error against epoch, a panel for each norm and in it a curve for each number
    of clips per worker -> (Figure, caption). What has one number of them only, such as a control, is left out, unless
    all have."""
    shortest = min(frames for frames in sweep.values(FRAMES) if frames)
    among = [setting for setting in sweep.settings if setting.values.get(FRAMES, shortest) == shortest]
    lines = sweep.lines(IMAGES, among)
    return draw_batch_sizes(sweep, [line for line in lines if len(line.settings) > 1] or lines)


def table_8(sweep: SweepResults) -> tuple[list[Table], str]:
    """Norms by frames of a clip and clips per worker, as accuracy; then the paper's -> ([table, table], caption)."""
    # Longer clips can want another stride or window: a set of values by name, which a column then says.
    sets = [*sweep.file.names_with(FRAMES), *(key for key in sweep.file.in_sets if key != NORM)]
    lines = {}
    for setting in sweep.settings:
        label = sweep.label(setting, [IMAGES, FRAMES, *sets])
        line = lines.setdefault(label, Line(label, setting.values[NORM], {}))
        line.settings[setting.values[FRAMES], setting.values[IMAGES]] = setting
    places = sorted({place for line in lines.values() for place in line.settings}, key=_order)
    ours = _head(places)
    for line in lines.values():
        ours.append([line.label, *(_accuracy(sweep, line.settings.get(place)) for place in places)])
    for line in lines.values():
        if line.norm != "bn":
            ours += gaps(sweep, line, places, lambda points: signed(0 - points, 2))  # what errors lose, it gains
    papers = _head(sorted(PAPER["bn"], key=_order))
    papers += [[theirs(f"{NORMS[norm]}, the paper"), *map(theirs, of_norm.values())] for norm, of_norm in PAPER.items()]
    return [ours, papers], (
        f"Validation top-1 accuracy in percent by frames of a clip and clips per worker, {statistic(sweep)}"
        f"{in_points(sweep)}. {conditions(sweep, sweep.settings)} The paper: I3D ResNet-50 on Kinetics-400, 8 GPUs, "
        "mean of 10 clips of a video."
    )


def _order(place):
    """Short clips before long ones, many of them before few, as in the paper."""
    frames, clips = place
    return frames, -clips


def _head(places):
    frames, clips = zip(*places, strict=True)
    return [["frames", *map(str, frames)], ["clips per worker", *map(str, clips)]]


def _accuracy(sweep: SweepResults, setting: Setting | None) -> str:
    """As `error_text` of what it is from an error to 1."""
    if setting is None:
        return ""
    found = setting.average(sweep.statistic)
    return average_text(TOP1_ACCURACY, found and found._replace(mean=1 - found.mean)) + missing_text(setting)
