"""How the lines of a figure look: a colour, a marker and a stroke each, bands of deviations, names at their ends; and
the frame and the legend of lines over epochs.

Every line has a colour, and its own marker or stroke too, for print without colour.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from engine.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINE,
    ORANGE,
    PURPLE,
    SKY,
    TITLE,
    VERMILLION,
    legend_label,
    legend_shape,
    short_label,
)
from engine.report.labels import place_of_norm
from engine.report.results import Average
from engine.report.words import listed, scaled
from engine.run.measure import Measure
from models.norm import Norm

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

NORM_LOOKS = {
    "bn": (BLUE, "o"), "gn": (VERMILLION, "s"), "ln": (GREEN, "^"), "in": (PURPLE, "D"), "sync_bn": (SKY, "v"),
    "frozen_bn": (ORANGE, "<"), "none": (BLACK, ">"),
}
# Of norms without a look of their own: colours and markers that those have not, seven of them before two look alike.
FREE_COLOURS = ["#8A5A2B", "#6B6FC9", "#7A8B00", "#A11D4B", "#00706B", "#5C4A72", "#B3A100"]
FREE_MARKERS = ["p", "h", "P", "X", "*", "d", "8"]
COLOURS = [BLACK, BLUE, VERMILLION, GREEN, GREY, ORANGE, PURPLE, SKY]  # where the norm is not what differs
MARKERS = ["o", "s", "^", "D", "v", "<", ">", "p", "h"]
STROKES = ["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (8, 2))]


# Of what somebody else found: a thin broken line.
THEIRS = {
    "color": GREY, "linewidth": 0.8, "linestyle": "--", "markersize": 3.5, "markerfacecolor": "white", "zorder": 1.5,
}


def looks_of(norms: Sequence[str | None]) -> list[dict]:
    """A look for each line. Where norms differ each has its colour and marker; further lines of one get other markers
    and strokes. A norm of None is none that counts."""
    several = len(set(norms)) > 1
    of_norm = _looks_of_norms(norms) if several else {}
    taken = [marker for _, marker in of_norm.values()]
    spare = itertools.cycle(marker for marker in MARKERS if marker not in taken)
    looks = []
    for number, norm in enumerate(norms):
        earlier = norms[:number].count(norm)
        colour = of_norm[norm][0] if several else COLOURS[number % len(COLOURS)]
        marker = of_norm[norm][1] if several and not earlier else next(spare)
        stroke = STROKES[earlier % len(STROKES)]
        looks.append({
            "color": colour, "marker": marker, "linestyle": stroke, "markeredgecolor": "white", "markeredgewidth": 0.6,
        })
    return looks


def _looks_of_norms(norms):
    """(colour, marker) by norm: one that the project has looks the same in every figure."""
    others = [norm for norm in dict.fromkeys([*get_args(Norm), *sorted(norms, key=place_of_norm)])
              if norm not in NORM_LOOKS]
    free = zip(others, itertools.cycle(zip(FREE_COLOURS, FREE_MARKERS, strict=True)), strict=False)
    looks = NORM_LOOKS | dict(free)
    return {norm: looks[norm] for norm in norms}


def draw_line(
    axes: "Axes", measure: Measure, x: Sequence[float], averages: Sequence[Average | None], label: str, look: dict
) -> "Line2D":
    """A line of means, broken where there is none, and a band of the deviation where there is one."""
    means = [math.nan if a is None else scaled(measure, a.mean) for a in averages]
    (line,) = axes.plot(x, means, label=label, **look)
    half = [math.nan if a is None or a.deviation is None else scaled(measure, a.deviation) for a in averages]
    if not all(map(math.isnan, half)):
        low, high = ([mean + sign * d for mean, d in zip(means, half, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=look["color"], alpha=0.16, linewidth=0)
        for number in range(len(means)):  # where there is no neighbour the band has no width
            if all(map(math.isnan, low[max(0, number - 1):number] + low[number + 1:number + 2])):
                axes.vlines(x[number], low[number], high[number], color=look["color"], linewidth=1)
    return line


def label_ends(axes: "Axes", ends: Sequence[tuple["Line2D", dict]]) -> None:
    """Write each line's name, as it shall look, beside the last point, moved up or down where names would overlap."""
    _, height = axes.get_position().size * axes.figure.get_size_inches()
    low, high = axes.get_ylim()
    gap = (high - low) * 12 / 72 / height  # lines of text, 12 points apart
    by_x = {}
    for line, look in ends:
        points = [(x, y) for x, y in zip(*line.get_data(), strict=True) if not math.isnan(y)]
        if points:
            by_x.setdefault(points[-1][0], []).append((points[-1][1], line.get_label(), look))
    for x, labels in by_x.items():
        for y, (_, label, look) in zip(spread([y for y, *_ in labels], gap), labels, strict=True):
            look = {"va": "center", "annotation_clip": False, **look}
            axes.annotate(short_label(label), (x, y), (8, 0), textcoords="offset points", **look)


def spread(positions: list[float], gap: float) -> list[float]:
    """The positions at least `gap` apart, in the same order and moved as little as can be (least squares)."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    blocks = []  # of neighbours that touch: where the first would like to be on the average, and how many
    for rank, index in enumerate(order):
        blocks.append((positions[index] - rank * gap, 1))
        while blocks[1:] and blocks[-2][0] > blocks[-1][0]:
            (lower, m), (upper, n) = blocks[-2:]
            blocks[-2:] = [((lower * m + upper * n) / (m + n), m + n)]
    starts = [start for start, count in blocks for _ in range(count)]
    moved = dict(zip(order, (start + rank * gap for rank, start in enumerate(starts)), strict=True))
    return [moved[index] for index in range(len(positions))]


def finish_curves(
    measure: Measure, ylabel: str, panels: Sequence["Axes"], curves: Sequence[Sequence[Average]],
    legend: Mapping[str, str],
) -> str:
    """Frame, names of the axes, legend of panels that have lines over epochs and share their y axis.

    curves: the averages of each line. legend: label of a line -> its text. Returns a sentence for the caption where the
    frame cuts off the beginning.
    """
    from matplotlib.ticker import MaxNLocator

    cut = _frame(measure, panels[0], curves)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.set_xlim(left=0)
        axes.set_ylabel(ylabel if axes.get_subplotspec().is_first_col() else "")
    figure, lines = panels[0].figure, {line.get_label(): line for axes in panels for line in axes.lines}
    box = panels[0].get_position()
    room = TITLE + LINE * max(axes.get_title(loc="left").count("\n") for axes in panels)
    texts = list(map(legend_label, legend.values()))
    figure.legend(
        [lines[label] for label in legend], texts, ncol=legend_shape(texts)[1], loc="lower left",
        bbox_to_anchor=(box.x0, box.y1 + room / figure.get_size_inches()[1]), borderaxespad=0, borderpad=0,
        columnspacing=1.8, handlelength=2.8,
    )
    return cut


def _frame(measure, axes, curves):
    """Cut off the first tenth, which is far from the rest and would press it flat; returns a sentence if it does."""
    later = [average for curve in curves for average in curve[len(curve) // 10:]]
    if not later:
        return ""
    low = min(scaled(measure, average.mean - (average.deviation or 0)) for average in later)
    high = max(scaled(measure, average.mean + (average.deviation or 0)) for average in later)
    margin = 0.04 * (high - low) or scaled(measure, 0.01)
    axes.set_ylim(low - margin, high + margin)
    means = [scaled(measure, average.mean) for curve in curves for average in curve]
    sides = ["above"] * any(mean > high for mean in means) + ["below"] * any(mean < low for mean in means)
    return f" The first epochs lie {listed(sides)} the frame." if sides else ""
