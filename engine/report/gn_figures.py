"""The figures of the GN paper (Wu & He, arXiv:1803.08494), drawn from a sweep.

Every line has a colour, and its own marker or stroke too, for print without colour.
"""

import itertools
import math
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
    legend_shape,
    sheet,
    short_label,
)
from engine.report.gn_tables import PAPER_BATCH_SIZES, at_one_batch_size, papers
from engine.report.results import IMAGES, NORM, NORMS, SweepResults, place_of_norm
from engine.report.words import (
    heading,
    listed,
    noun,
    number_of,
    scaled,
    seeds_sentence,
    statistic,
    subtitle,
)
from models.norm import Norm

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.figure import Figure

NORM_LOOKS = {
    "bn": (BLUE, "o"), "gn": (VERMILLION, "s"), "ln": (GREEN, "^"), "in": (PURPLE, "D"), "sync_bn": (SKY, "v"),
    "frozen_bn": (ORANGE, "<"), "none": (BLACK, ">"),
}
# Of norms without a look of their own: colours and markers that those have not, seven of them before two look alike.
FREE_COLOURS = ["#8A5A2B", "#6B6FC9", "#7A8B00", "#A11D4B", "#00706B", "#5C4A72", "#B3A100"]
FREE_MARKERS = ["p", "h", "P", "X", "*", "d", "8"]
COLOURS = [BLACK, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY]  # where the norm is not what differs
MARKERS = ["o", "s", "^", "D", "v", "<", ">", "p", "h"]
STROKES = ["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (8, 2))]
ROOM = 0.6  # of figure 1's height is the least for the sweep's own lines


def figure_1(sweep: SweepResults) -> "tuple[Figure, str]":
    """The measure against images per worker, many to few, a line for each other setting -> (Figure, caption)."""
    sizes, lines, of_paper = sweep.axes[IMAGES], sweep.lines(IMAGES), papers(sweep, PAPER_BATCH_SIZES)
    norms = [norm for norm in dict.fromkeys(line.norm for line in lines) if norm in of_paper]
    paper = {f"{NORMS[norm]} in the paper (ImageNet)": norm for norm in norms}
    figure, (axes,) = sheet(
        f"Validation {noun(sweep.measure)} against images per worker", subtitle(sweep, sweep.settings, of_runs=True),
        labels=[*paper, *(line.label for line in lines)],
    )
    ends = []
    for line, look in zip(lines, _looks([line.norm for line in lines]), strict=True):
        found = [setting.average(sweep.statistic) for setting in line.settings.values()]
        drawn = _draw(axes, sweep.measure, list(line.settings), found, line.label, look)
        ends.append((drawn, {"color": look["color"], "fontweight": "bold"}))
    known = [error for norm in norms for size, error in of_paper[norm].items() if size in sizes]
    low, high = axes.get_ylim()
    apart = known and high - low < ROOM * (max(high, *known) - min(low, *known))
    strip = _strip_above(axes, "own scale, %") if apart else axes
    references = []
    for label, norm in paper.items():
        (drawn,) = strip.plot(
            sizes, [of_paper[norm].get(size, math.nan) for size in sizes], label=label, color=GREY,
            linewidth=0.8, linestyle="--", marker=NORM_LOOKS[norm][1], markersize=3.5, markerfacecolor="white",
            zorder=1.5,
        )
        references.append((drawn, {"color": GREY}))
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] * 2**0.25, sizes[-1] / 2**0.25)
    axes.set_xticks(sizes, labels=map(str, sizes))
    axes.minorticks_off()
    axes.set(xlabel="images per worker", ylabel=f"validation {heading(sweep.measure)}")
    if apart:
        _label_ends(strip, references)
        _label_ends(axes, ends)
    else:
        _label_ends(axes, ends + references)
    thin = f" Thin broken lines: the paper, ResNet-50 on ImageNet{', on a scale of their own' if apart else ''}."
    return figure, (
        f"Validation {noun(sweep.measure)} against images per worker, {statistic(sweep)}. "
        f"{_from_end_to_end(sweep, lines, sizes)}{seeds_sentence(sweep, sweep.settings)}{thin * bool(of_paper)}"
    )


def figure_4(sweep: SweepResults) -> "tuple[Figure, str]":
    """Training and validation against epoch, a curve for each norm at one batch size -> (Figure, caption).

    Validation alone where training does not tell the measure.
    """
    settings = at_one_batch_size(sweep)
    images, name = settings[0].values[IMAGES], noun(sweep.measure)
    labels = [sweep.label(setting, [IMAGES]) for setting in settings]
    looks = _looks([setting.values[NORM] for setting in settings])
    kinds = {"epoch": f"training {name}", "eval": f"validation {name}"}
    how = f"Training {name} (left; the mean over an epoch’s steps) and validation {name} (right)"
    if not sweep.is_trained:
        del kinds["epoch"]
        how = f"Validation {name}, which training does not tell,"
    title = f"{_capital(name)} against epoch, {images} images per worker"
    figure, panels = sheet(title, subtitle(sweep, settings), list(kinds.values()), legend=labels)
    curves = [
        _draw_curves(axes, sweep, kind, settings, labels, looks) for axes, kind in zip(panels, kinds, strict=True)
    ]
    cut = _finish_curves(sweep, panels, curves, dict(zip(labels, labels, strict=True)))
    return figure, f"{how} against epoch at {images} images per worker.{cut} {seeds_sentence(sweep, settings)}"


def figure_5(sweep: SweepResults) -> "tuple[Figure, str]":
    """Validation error against epoch, a panel for each norm and a curve per batch size -> (Figure, caption)."""
    lines, sizes = sweep.lines(IMAGES), sweep.axes[IMAGES]
    legend = {str(size): f"{size}{' images per worker' * (size == sizes[0])}" for size in sizes}
    looks = dict(zip(sizes, _looks([None] * len(sizes)), strict=True))
    title = f"Validation {noun(sweep.measure)} against epoch"
    titles = [line.label for line in lines]
    figure, panels = sheet(title, subtitle(sweep, sweep.settings), titles, legend=legend.values())
    curves = []
    for axes, line in zip(panels, lines, strict=True):
        own = [looks[size] for size in line.settings]
        curves.append(_draw_curves(axes, sweep, "eval", line.settings.values(), map(str, line.settings), own))
    cut = _finish_curves(sweep, panels, curves, legend)
    return figure, (
        f"{title}, a curve for each number of images per worker: {'; '.join(titles)}.{cut} "
        f"{seeds_sentence(sweep, sweep.settings)}"
    )


def _capital(text):
    return text[0].upper() + text[1:]


def _strip_above(axes, ylabel):
    """Make room above a panel for a low one that shares its x axis."""
    left, bottom, width, height = axes.get_position().bounds
    axes.set_position([left, bottom, width, 0.7 * height])
    strip = axes.figure.add_axes([left, bottom + 0.76 * height, width, 0.24 * height], sharex=axes)
    strip.set_ylabel(ylabel, color=GREY, fontsize=7.5)
    strip.tick_params(bottom=False, labelbottom=False, labelcolor=GREY, labelsize=7.5)
    return strip


def _looks(norms):
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


def _draw(axes, measure, x, averages, label, look):
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


def _draw_curves(axes, sweep, kind, settings, labels, looks):
    """Returns the averages of each curve."""
    curves = []
    for number, (setting, label, look) in enumerate(zip(settings, labels, looks, strict=True)):
        numbers, averages = sweep.curve(setting, kind)
        every = max(1, len(numbers) // 6)  # markers tell the curves apart; one at each epoch would hide them
        look = {**look, "markevery": (number * every // len(looks), every), "linewidth": 1.3, "markersize": 4.5}
        _draw(axes, sweep.measure, numbers, averages, label, look)
        curves.append(averages)
    return curves


def _finish_curves(sweep, panels, curves, legend):
    """Frame, names of the axes, legend. Returns a sentence for the caption where the frame cuts off the beginning.

    curves: what `_draw_curves` gave for each panel. legend: label of a line -> its text.
    """
    from matplotlib.ticker import MaxNLocator

    cut = _frame(sweep.measure, panels[0], [curve for of_panel in curves for curve in of_panel])
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.set_xlim(left=0)
        axes.set_ylabel(heading(sweep.measure) if axes.get_subplotspec().is_first_col() else "")
    figure, lines = panels[0].figure, {line.get_label(): line for axes in panels for line in axes.lines}
    box = panels[0].get_position()
    room = TITLE + LINE * max(axes.get_title(loc="left").count("\n") for axes in panels)
    texts = list(map(short_label, legend.values()))
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


def _label_ends(axes, ends):
    """Write each line's name beside its last point, moved up or down where names would overlap."""
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


def _from_end_to_end(sweep, lines, sizes):
    """A sentence: what becomes of each line from the most images per worker to the fewest."""
    changes = []
    for line in lines:
        ends = [line.settings[size].average(sweep.statistic) for size in (sizes[0], sizes[-1]) if size in line.settings]
        if len(ends) == 2 and all(ends):
            first, last = (number_of(sweep.measure, end.mean) for end in ends)
            changes.append(f"{line.label} {first} → {last}{' %' * sweep.measure.percent}")
    return f"From {sizes[0]} to {sizes[-1]} images per worker: {'; '.join(changes)}. " if changes else ""
