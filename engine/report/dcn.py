"""A sweep over kinds of 3x3 convolution (plain, dilated, deformable): what each buys and what it costs."""

import statistics

from engine.drawing import BLACK, BLUE, GREY, LETTER, VERMILLION, sheet
from engine.report.results import CONVOLUTION, NORM, Setting, SweepResults
from engine.report.words import STATISTICS, conditions, difference, error_text, gap, seeds_sentence, subtitle

PLAIN = "plain"


def figure_convolutions(sweep: SweepResults):
    """A row for each kind of convolution, a dot for each seed, a panel for each other setting -> (Figure, caption)."""
    panels, kinds = _panels(sweep)
    figure, sheets = sheet(
        "Validation error by kind of convolution", subtitle(sweep, sweep.settings, statistic=True), list(panels),
        left=0.25 + LETTER * max(map(len, kinds)), sharex=False,
    )
    for axes, panel in zip(sheets, panels.values(), strict=True):
        axes.grid(False)
        axes.margins(x=0.12)
        axes.set_xlabel("validation error, %")
        for row, kind in enumerate(kinds):
            axes.axhline(row, color=GREY, linewidth=0.4, alpha=0.4, zorder=0.5)
            errors = [100 * run[sweep.statistic] for run in panel[kind].finished] if kind in panel else []
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
        f"Validation error, {STATISTICS[sweep.file.statistic]}: a dot is a seed, a bar the mean, the broken line the "
        "mean of the plain network. Blue samples on a fixed grid, vermillion where it has learned to. "
        f"{seeds_sentence(sweep, sweep.settings)}"
    )


def table_convolutions(sweep: SweepResults):
    """Each kind with what it costs, and its error beside the plain one's -> ([table], caption)."""
    panels, kinds = _panels(sweep)
    errors = [heading for name in panels for heading in (f"{name}, %", f"− {PLAIN}")]
    rows = [["", "parameters", "multiply-adds", "ms a step", *errors]]
    for kind in kinds:
        settings = [panel[kind] for panel in panels.values() if kind in panel]
        runs = [run for setting in settings for run in setting.finished]
        row = [kind, _millions(runs, "parameters"), _millions(runs, "multiply_adds"), _milliseconds(runs)]
        for panel in panels.values():
            points = gap(sweep, panel.get(kind), panel.get(PLAIN)) if kind != PLAIN else None
            row += [error_text(sweep, panel.get(kind)), "" if points is None else difference(points)]
        rows.append(row)
    return [rows], (
        f"Validation error, {STATISTICS[sweep.file.statistic]}; differences in percentage points. Multiply-adds of one "
        "image, those of offset branches and of sampling (four a sample) included. The time is the median of the runs, "
        f"and as they shared the machine an upper bound. {conditions(sweep, sweep.settings)}"
    )


def _panels(sweep) -> tuple[dict[str, dict[str, Setting]], list[str]]:
    """({what a setting is besides its convolutions, in words: {kind: setting}}, all kinds, plain first)."""
    without = [*CONVOLUTION, *([] if sweep.varied(NORM) else [NORM])]
    panels = {}
    for setting in sorted(sweep.settings, key=lambda setting: sweep.convolution(setting) != PLAIN):
        panels.setdefault(sweep.label(setting, without) or "error", {})[sweep.convolution(setting)] = setting
    return panels, list(dict.fromkeys(kind for panel in panels.values() for kind in panel))


def _millions(runs, column):
    found = sorted({run[column] for run in runs if run[column]})
    return " to ".join(f"{value / 1e6:.3g} M" for value in (found[:1] + found[1:][-1:]))


def _milliseconds(runs):
    times = [1000 * run["train_seconds"] / run["steps"] for run in runs if run["steps"]]
    return f"{statistics.median(times):.0f}" if times else ""
