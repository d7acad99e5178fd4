"""All figures and tables that a sweep can ask for, by name."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from engine.errors import InputError
from engine.report.clips import figure_7, table_8
from engine.report.dcn import figure_convolutions, table_convolutions
from engine.report.detection import table_ap
from engine.report.gn_figures import figure_1, figure_4, figure_5
from engine.report.gn_tables import table_1, table_2, table_3
from engine.report.records import CHANNELS, DEFORMABLE, FRAMES, GROUPS, IMAGES, NORM, PRETRAINED, VERSION, value_at
from engine.report.responses import LAYER, figure_6
from engine.report.scenes import SAMPLES, figure_scenes
from engine.report.small_batch import figure_small_batch
from engine.report.transfer import table_transfer
from engine.report.words import listed
from engine.run.measure import Measure


class Drawing(NamedTuple):
    needs: list[dict[str, int]]  # one of these: axis -> how many values, null apart, it must have
    draw: Callable  # of a sweep -> (a matplotlib Figure or a list of tables), caption
    title: str | None = None  # of what is not in the paper
    measure: str | None = None  # one that a sweep must have
    shared: str | None = None  # a config key that must have one value, neither none nor 0, for all runs
    kinds: tuple[str, ...] = ("png", "svg")  # of its files: report.md shows the first, report.html holds the last


DRAWINGS = {
    "figure_1": Drawing([{IMAGES: 2}], figure_1),
    "figure_4": Drawing([{}], figure_4),
    "figure_5": Drawing([{}], figure_5),
    "figure_6": Drawing([{}], figure_6, shared=LAYER),
    "figure_7": Drawing([{IMAGES: 2, FRAMES: 1}], figure_7),
    "table_1": Drawing([{NORM: 2}], table_1),
    "table_2": Drawing([{}], table_2),
    "table_3": Drawing([{GROUPS: 2}, {CHANNELS: 2}], table_3),
    "table_8": Drawing([{FRAMES: 2}], table_8, measure="top1_error"),
    "figure_convolutions": Drawing([{DEFORMABLE: 2}, {VERSION: 2}], figure_convolutions, "Kinds of convolution"),
    "table_convolutions": Drawing([{DEFORMABLE: 2}, {VERSION: 2}], table_convolutions, "What each costs and buys"),
    "figure_small_batch": Drawing([{IMAGES: 2}], figure_small_batch, "Norms at the most images and at the fewest"),
    "table_transfer": Drawing([{PRETRAINED: 1, NORM: 2}], table_transfer, "From scratch and fine-tuned"),
    "table_ap": Drawing([{}], table_ap, "Average precision", "box_ap"),
    "figure_scenes": Drawing([{}], figure_scenes, "What is found in the same pictures", "box_ap", SAMPLES, ("jpg",)),
}
MOST_SETTINGS = 120  # that a figure can tell apart, each with a line or a panel


def check_figures(
    names: Iterable[str], axes: Mapping[str, Iterable], settings: int = 0, measures: Iterable[Measure] = (),
    shared: Mapping[str, Any] | None = None,
) -> None:
    """Raise InputError where a name is none of DRAWINGS, or a sweep cannot give it.

    axes: the sweep's values by axis, None where a value would mean nothing; settings: how many it has, seeds apart;
    measures: those of its task; shared: the values of the config that are the same for all runs.
    """
    measured = [measure.name for measure in measures]
    for name in names:
        if name not in DRAWINGS:
            close = difflib.get_close_matches(str(name), DRAWINGS, n=1)
            advice = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(DRAWINGS)}"
            raise InputError(f"figures: {name} is unknown; {advice}")
        if (measure := DRAWINGS[name].measure) not in (None, *measured):
            raise InputError(f"figures: {name} needs {measure}; these runs are measured by {listed(measured)}")
        key = DRAWINGS[name].shared
        if key and not value_at(shared or {}, key):
            raise InputError(f"figures: {name} needs {key}, the same for all runs")
        needs = DRAWINGS[name].needs
        counts = {axis: len({json.dumps(value) for value in values if value is not None})  # lists have no hash
                  for axis, values in axes.items()}
        there = [all(counts.get(axis, 0) >= count for axis, count in need.items()) for need in needs]
        if not any(there):
            wanted = [listed(f"the axis {axis} with {count} values or more" for axis, count in need.items())
                      for need in needs]
            raise InputError(f"figures: {name} needs {', or '.join(wanted)}")
        if name.startswith("figure") and settings > MOST_SETTINGS:
            raise InputError(f"figures: {name} can show {MOST_SETTINGS} settings at most, this sweep has {settings:,}")
