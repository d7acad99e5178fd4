"""The figures of the GN paper (Wu & He, arXiv:1803.08494), drawn from a sweep."""

import math
from typing import TYPE_CHECKING

from engine.drawing import BLACK, GREY, sheet
from engine.report.gn_tables import PAPER_BATCH_SIZES, at_one_batch_size, paper_network, papers
from engine.report.labels import NORMS
from engine.report.lines import NORM_LOOKS, THEIRS, draw_line, finish_curves, label_ends, looks_of
from engine.report.records import IMAGES, NORM
from engine.report.results import Line, SweepResults
from engine.report.words import (
    gap,
    heading,
    noun,
    number_of,
    running_statistics,
    scaled,
    seeds_sentence,
    statistic,
    subtitle,
)

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.figure import Figure

ROOM = 0.6  # of figure 1's height is the least for the sweep's own lines
BENEATH = 1.1  # inches of figure 1 that show GN less BN


def figure_1(sweep: SweepResults) -> "tuple[Figure, str]":
    """The measure against images per worker, many to few, a line for each other setting -> (Figure, caption).

    Beneath it, where one line of GN stands beside one of BN, GN less BN. The paper's numbers in grey in both.
    """
    sizes, lines, of_paper = sweep.axes[IMAGES], sweep.lines(IMAGES), papers(sweep, PAPER_BATCH_SIZES)
    norms = [norm for norm in dict.fromkeys(line.norm for line in lines) if norm in of_paper]
    paper = {f"{NORMS[norm]} in the paper (ImageNet)": norm for norm in norms}
    gaps = _gn_less_bn(sweep, lines)
    figure, (axes,) = sheet(
        f"Validation {noun(sweep.measure)} against {sweep.samples} per worker",
        subtitle(sweep, sweep.settings, of_runs=True),
        labels=[*paper, *(line.label for line in lines)], more=BENEATH if gaps else 0.0,
    )
    under = _panel_beneath(axes) if gaps else axes
    ends, precise = [], []
    for line, look in zip(lines, looks_of([line.norm for line in lines]), strict=True):
        found = [setting.average(sweep.statistic) for setting in line.settings.values()]
        drawn = draw_line(axes, sweep.measure, list(line.settings), found, line.label, look)
        ends.append((drawn, {"color": look["color"], "fontweight": "bold"}))
        precise += _draw_precise(axes, sweep, line, look)
    known = [error for norm in norms for size, error in of_paper[norm].items() if size in sizes]
    low, high = axes.get_ylim()
    apart = known and high - low < ROOM * (max(high, *known) - min(low, *known))
    strip = _strip_above(axes, "own scale, %") if apart else axes
    references = []
    for label, norm in paper.items():
        errors = [of_paper[norm].get(size, math.nan) for size in sizes]
        (drawn,) = strip.plot(sizes, errors, label=label, marker=NORM_LOOKS[norm][1], **THEIRS)
        references.append((drawn, {"color": GREY}))
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] * 2**0.25, sizes[-1] / 2**0.25)
    axes.set_xticks(sizes, labels=map(str, sizes))
    axes.minorticks_off()
    axes.set_ylabel(f"validation {heading(sweep.measure)}")
    under.set_xlabel(f"{sweep.samples} per worker")
    if apart:
        label_ends(strip, references)
        label_ends(axes, ends + precise)
    else:
        label_ends(axes, ends + precise + references)
    if gaps:
        _draw_gaps(under, gaps, of_paper)
    dotted = f" Dotted: {running_statistics(sweep, 'precise')}." if precise else ""
    own_scale = ", on a scale of their own" if apart else ""
    thin = f" Thin broken lines: the paper, {paper_network(sweep)} on ImageNet{own_scale}."
    return figure, (
        f"Validation {noun(sweep.measure)} against {sweep.samples} per worker, {statistic(sweep)}. "
        f"{_from_end_to_end(sweep, lines, sizes)}{seeds_sentence(sweep, sweep.settings)}{thin * bool(of_paper)}"
        f"{' Beneath: GN less BN.' * bool(gaps)}{dotted}"
    )


def _draw_precise(axes, sweep, line, look):
    """A line by BN's precise statistics, where its runs have them, as [(line, look of its name)]."""
    found = [sweep.precise(setting) for setting in line.settings.values()]
    if not any(found):
        return []
    look = {**look, "linestyle": ":", "linewidth": 1.2, "markersize": 3}
    label = f"{line.label}, precise statistics"
    means = [math.nan if one is None else scaled(sweep.measure, one.mean) for one in found]
    (drawn,) = axes.plot(list(line.settings), means, label=label, **look)
    return [(drawn, {"color": look["color"]})]


def _gn_less_bn(sweep, lines):
    """{images per worker: GN's measure less BN's}; nothing where more than one line could be meant by either."""
    (one, *others) = [line for line in lines if line.norm == "gn"] or [None]
    if one is None or others or len([line for line in lines if line.norm == "bn"]) != 1:
        return {}
    gaps = {
        size: gap(sweep, setting, rival)
        for size, setting in one.settings.items() for rival in sweep.rivals(setting).values()
    }
    return {size: points for size, points in gaps.items() if points is not None}


def _draw_gaps(axes, gaps, of_paper):
    """GN less BN by images per worker, around a line at nothing."""
    axes.axhline(0, color=GREY, linewidth=0.7)
    (ours,) = axes.plot(gaps.keys(), gaps.values(), color=BLACK, marker="o", markersize=4, linewidth=1.3, label="here")
    ends = [(ours, {"color": BLACK, "fontweight": "bold"})]
    if of_paper:
        paper = {size: of_paper["gn"][size] - error for size, error in of_paper["bn"].items()}
        known = [paper.get(size, math.nan) for size in gaps]
        (drawn,) = axes.plot(gaps.keys(), known, marker="o", label="in the paper", **THEIRS)
        ends.append((drawn, {"color": GREY}))
    label_ends(axes, ends)


def figure_4(sweep: SweepResults) -> "tuple[Figure, str]":
    """Training and validation against epoch, a curve for each norm at one batch size -> (Figure, caption).

    Validation alone where training does not tell the measure.
    """
    settings = at_one_batch_size(sweep)
    images, name = settings[0].values[IMAGES], noun(sweep.measure)
    labels = [sweep.label(setting, [IMAGES]) for setting in settings]
    looks = looks_of([setting.values[NORM] for setting in settings])
    kinds = {"epoch": f"training {name}", "eval": f"validation {name}"}
    how = f"Training {name} (left; the mean over an epoch’s steps) and validation {name} (right)"
    if not sweep.is_trained:
        del kinds["epoch"]
        how = f"Validation {name}, which training does not tell,"
    title = f"{_capital(name)} against epoch, {images} {sweep.samples} per worker"
    figure, panels = sheet(title, subtitle(sweep, settings), list(kinds.values()), legend=labels)
    curves = []
    for axes, kind in zip(panels, kinds, strict=True):
        curves += _draw_curves(axes, sweep, kind, settings, labels, looks)
    cut = finish_curves(sweep.measure, heading(sweep.measure), panels, curves, dict(zip(labels, labels, strict=True)))
    return figure, (
        f"{how} against epoch at {images} {sweep.samples} per worker.{cut} {seeds_sentence(sweep, settings)}"
    )


def figure_5(sweep: SweepResults) -> "tuple[Figure, str]":
    """Validation error against epoch, a panel for each norm and a curve per batch size -> (Figure, caption)."""
    return draw_batch_sizes(sweep, sweep.lines(IMAGES))


def draw_batch_sizes(sweep: SweepResults, lines: list[Line]) -> "tuple[Figure, str]":
    """A panel for each of these lines, and in it a curve for each of its batch sizes -> (Figure, caption)."""
    settings = [setting for line in lines for setting in line.settings.values()]
    sizes = [size for size in sweep.axes[IMAGES] if any(size in line.settings for line in lines)]
    legend = {str(size): f"{size}{f' {sweep.samples} per worker' * (size == sizes[0])}" for size in sizes}
    looks = dict(zip(sizes, looks_of([None] * len(sizes)), strict=True))
    title = f"Validation {noun(sweep.measure)} against epoch"
    titles = [line.label for line in lines]
    figure, panels = sheet(title, subtitle(sweep, settings), titles, legend=legend.values())
    curves = []
    for axes, line in zip(panels, lines, strict=True):
        own = [looks[size] for size in line.settings]
        curves += _draw_curves(axes, sweep, "eval", line.settings.values(), map(str, line.settings), own)
    cut = finish_curves(sweep.measure, heading(sweep.measure), panels, curves, legend)
    return figure, (
        f"{title}, a curve for each number of {sweep.samples} per worker: {'; '.join(titles)}.{cut} "
        f"{seeds_sentence(sweep, settings)}"
    )


def _capital(text):
    return text[0].upper() + text[1:]


def _panel_beneath(axes):
    """Give the lower part of a panel, the inches that it is higher than others, to one that shares its x axis."""
    left, bottom, width, height = axes.get_position().bounds
    inch = 1 / axes.figure.get_size_inches()[1]
    axes.set_position([left, bottom + BENEATH * inch, width, height - BENEATH * inch])
    axes.tick_params(labelbottom=False)
    under = axes.figure.add_axes([left, bottom, width, (BENEATH - 0.16) * inch], sharex=axes)
    under.set_ylabel("GN − BN", fontsize=7.5)
    under.tick_params(labelsize=7.5)
    return under


def _strip_above(axes, ylabel):
    """Make room above a panel for a low one that shares its x axis."""
    left, bottom, width, height = axes.get_position().bounds
    axes.set_position([left, bottom, width, 0.7 * height])
    strip = axes.figure.add_axes([left, bottom + 0.76 * height, width, 0.24 * height], sharex=axes)
    strip.set_ylabel(ylabel, color=GREY, fontsize=7.5)
    strip.tick_params(bottom=False, labelbottom=False, labelcolor=GREY, labelsize=7.5)
    return strip


def _draw_curves(axes, sweep, kind, settings, labels, looks):
    """Returns the averages of each curve."""
    curves = []
    for number, (setting, label, look) in enumerate(zip(settings, labels, looks, strict=True)):
        numbers, averages = sweep.curve(setting, kind)
        every = max(1, len(numbers) // 6)  # markers tell the curves apart; one at each epoch would hide them
        look = {**look, "markevery": (number * every // len(looks), every), "linewidth": 1.3, "markersize": 4.5}
        draw_line(axes, sweep.measure, numbers, averages, label, look)
        curves.append(averages)
    return curves


def _from_end_to_end(sweep, lines, sizes):
    """A sentence: what becomes of each line from the most images per worker to the fewest."""
    changes = []
    for line in lines:
        ends = [line.settings[size].average(sweep.statistic) for size in (sizes[0], sizes[-1]) if size in line.settings]
        if len(ends) == 2 and all(ends):
            first, last = (number_of(sweep.measure, end.mean) for end in ends)
            changes.append(f"{line.label} {first} → {last}{' %' * sweep.measure.percent}")
    return f"From {sizes[0]} to {sizes[-1]} {sweep.samples} per worker: {'; '.join(changes)}. " if changes else ""
