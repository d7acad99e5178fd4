"""A sweep over kinds of 3x3 convolution (plain, dilated, deformable): what each buys and what it costs."""

import statistics
from typing import TYPE_CHECKING

from engine.drawing import BLACK, BLUE, GREY, LETTER, VERMILLION, Table, sheet
from engine.report.records import NORM
from engine.report.results import CONVOLUTION, Setting, SweepResults
from engine.report.words import (
    conditions,
    difference,
    error_text,
    gap,
    heading,
    in_points,
    noun,
    scaled,
    seeds_sentence,
    statistic,
    subtitle,
)

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.figure import Figure

PLAIN = "plain"


def figure_convolutions(sweep: SweepResults) -> "tuple[Figure, str]":
    """A row for each kind of convolution, a dot for each seed, a panel for each other setting -> (Figure, caption)."""
    panels, kinds = _panels(sweep)
    figure, sheets = sheet(
        f"Validation {noun(sweep.measure)} by kind of convolution", subtitle(sweep, sweep.settings, of_runs=True),
        list(panels),
        left=0.25 + LETTER * max(map(len, kinds)), sharex=False,
    )
    for axes, panel in zip(sheets, panels.values(), strict=True):
        axes.grid(False)
        axes.margins(x=0.12)
        axes.set_xlabel(f"validation {heading(sweep.measure)}")
        for row, kind in enumerate(kinds):
            axes.axhline(row, color=GREY, linewidth=0.4, alpha=0.4, zorder=0.5)
            runs = panel[kind].finished if kind in panel else []
            errors = [scaled(sweep.measure, run[sweep.statistic]) for run in runs]
            if not errors:
                continue
            colour = VERMILLION if "DCN" in kind else BLUE
            axes.plot(errors, [row] * len(errors), "o", color=colour, markeredgecolor="white", markeredgewidth=0.6,
                      label=kind)
            mean = statistics.fmean(errors)
            axes.plot([mean, mean], [row - 0.28, row + 0.28], color=colour)
            if kind == PLAIN:
                axes.axvline(mean, color=BLACK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.6)
    sheets[0].set_yticks(range(len(kinds)), labels=kinds)
    sheets[0].set_ylim(len(kinds) - 0.5, -0.5)
    return figure, (
        f"Validation {noun(sweep.measure)}, {statistic(sweep)}: a dot is a seed, a bar the mean, the broken line the "
        "mean of the plain network. Blue samples on a fixed grid, vermillion where it has learned to. "
        f"{seeds_sentence(sweep, sweep.settings)}"
    )


def table_convolutions(sweep: SweepResults) -> tuple[list[Table], str]:
    """Each kind with what it costs, and how good it is beside the plain one -> ([table], caption)."""
    panels, kinds = _panels(sweep)
    errors = [cell for name in panels for cell in (f"{name}{', %' * sweep.measure.percent}", f"− {PLAIN}")]
    rows = [["", "parameters", "multiply-adds", "ms a step", *errors]]
    for kind in kinds:
        settings = [panel[kind] for panel in panels.values() if kind in panel]
        runs = [run for setting in settings for run in setting.finished]
        row = [kind, _millions(runs, "parameters"), _millions(runs, "multiply_adds"), _milliseconds(runs)]
        for panel in panels.values():
            points = gap(sweep, panel.get(kind), panel.get(PLAIN)) if kind != PLAIN else None
            row += [error_text(sweep, panel.get(kind)), "" if points is None else difference(sweep.measure, points)]
        rows.append(row)
    return [rows], (
        f"Validation {noun(sweep.measure)}, {statistic(sweep)}{in_points(sweep)}. Multiply-adds of one "
        "image, those of offset branches and of sampling (four a sample) included. The time is the median of the runs, "
        f"and as they shared the machine an upper bound. {conditions(sweep, sweep.settings)}"
    )


def _panels(sweep) -> tuple[dict[str, dict[str, Setting]], list[str]]:
    """({what a setting is besides its convolutions, in words: {kind: setting}}, all kinds, plain first)."""
    without = [*CONVOLUTION, *([] if sweep.varied(NORM) else [NORM])]
    panels = {}
    for setting in sorted(sweep.settings, key=lambda setting: sweep.convolution(setting) != PLAIN):
        panel = sweep.label(setting, without, otherwise=noun(sweep.measure))
        panels.setdefault(panel, {})[sweep.convolution(setting)] = setting
    return panels, list(dict.fromkeys(kind for panel in panels.values() for kind in panel))


def _millions(runs, column):
    found = sorted({run[column] for run in runs if run[column]})
    return " to ".join(f"{value / 1e6:.3g} M" for value in (found[:1] + found[1:][-1:]))


def _milliseconds(runs):
    times = [1000 * run["train_seconds"] / run["steps"] for run in runs if run["steps"]]
    return f"{statistics.median(times):.0f}" if times else ""
