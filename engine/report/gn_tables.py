"""The tables of the GN paper (Wu & He, arXiv:1803.08494) and its numbers beside what a sweep found."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from engine.drawing import Table, theirs
from engine.report.labels import NORMS
from engine.report.records import CHANNELS, DEPTH, GROUPS, IMAGES, MODEL, NORM, STANDARDIZED
from engine.report.results import Line, Setting, SweepResults
from engine.report.words import (
    average_text,
    conditions,
    difference,
    error_text,
    gap,
    heading,
    in_percent,
    in_points,
    noun,
    signed,
    statistic,
)
from engine.run.measure import TOP1_ERROR

# By network, on ImageNet: validation top-1 error in percent as the paper prints it, median of the last 5 epochs.
PAPER_BATCH_SIZES = {  # by images per worker: figure 1, table 2, and the text of section 4.1
    "ResNet-50": {
        "bn": {32: 23.6, 16: 23.7, 8: 24.8, 4: 27.3, 2: 34.7},
        "gn": {32: 24.1, 16: 24.2, 8: 24.0, 4: 24.2, 2: 24.1},
    },
    "ResNet-101": {"bn": {32: 22.0, 2: 31.9}, "gn": {32: 22.4, 2: 23.0}},
}
PAPER_NORMS = {  # at 32 images per worker: table 1, figure 6
    "ResNet-50": {"bn": 23.6, "ln": 25.3, "in": 28.4, "gn": 24.1},
    "ResNet-101": {"bn": 22.0, "gn": 22.4},
    "VGG-16": {"none": 29.2, "bn": 28.0, "gn": 27.6},
}
PAPER_GROUPS = {  # table 3
    "ResNet-50": {
        GROUPS: {64: 24.6, 32: 24.1, 16: 24.6, 8: 24.4, 4: 24.6, 2: 24.7, 1: 25.3},
        CHANNELS: {64: 24.4, 32: 24.5, 16: 24.2, 8: 24.3, 4: 24.8, 2: 25.6, 1: 28.4},
    },
}


def table_1(sweep: SweepResults) -> tuple[list[Table], str]:
    """The norms at one batch size -> ([table], caption)."""
    settings = at_one_batch_size(sweep)
    against = list(dict.fromkeys(name for setting in settings for name in sweep.rivals(setting)))
    of_paper = papers(sweep, PAPER_NORMS)
    rows = [["", heading(sweep.measure), *(f"− {name}" for name in against)]]
    rows[0] += [theirs("the paper"), theirs("− BN")] if of_paper else []
    for setting in settings:
        norm, rivals = setting.values[NORM], sweep.rivals(setting)
        gaps = [gap(sweep, setting, rivals.get(name)) if rivals.get(name) is not setting else None for name in against]
        rows.append([
            sweep.label(setting, [IMAGES]), error_text(sweep, setting),
            *(difference(sweep.measure, points) if points is not None else "" for points in gaps),
        ])
        if of_paper:
            paper = of_paper.get(norm)
            rows[-1] += [
                theirs(paper) if paper else "",
                theirs(signed(paper - of_paper["bn"], 1)) if paper and norm != "bn" else "",
            ]
    images = settings[0].values[IMAGES]
    the_paper = f" The paper: {paper_network(sweep)} on ImageNet, 32 images per worker."
    return [rows], (
        f"The norms at {images} images per worker: validation {noun(sweep.measure)}, {statistic(sweep)}. "
        f"{conditions(sweep, settings)}{the_paper * bool(of_paper)}"
    )


def table_2(sweep: SweepResults) -> tuple[list[Table], str]:
    """Norms by images per worker, and how far each is from BN -> ([table], caption)."""
    sizes, lines, of_paper = sweep.axes[IMAGES], sweep.lines(IMAGES), papers(sweep, PAPER_BATCH_SIZES)
    rows = [[f"{sweep.samples} per worker", *map(str, sizes)]]
    for number, line in enumerate(lines):
        rows.append([line.label, *(error_text(sweep, line.settings.get(size)) for size in sizes)])
        precise = {size: sweep.precise(setting) for size, setting in line.settings.items()}
        if any(precise.values()):
            cells = (average_text(sweep.measure, precise.get(size)) for size in sizes)
            rows.append([f"{line.label}, precise statistics", *cells])
        as_there = [later.norm if _as_in_paper(later) else None for later in lines[number:]]
        if as_there[0] in of_paper and as_there[0] not in as_there[1:]:
            rows.append(_paper_row(f"{NORMS[line.norm]}, the paper", of_paper[line.norm], sizes))
    for line in lines:
        if line.norm != "bn":
            rows += gaps(sweep, line, sizes, partial(difference, sweep.measure))
    if of_paper and {"bn", "gn"} <= {line.norm for line in lines}:
        paper = {size: of_paper["gn"][size] - bn for size, bn in of_paper["bn"].items()}
        rows.append(_paper_row("GN − BN, the paper", paper, sizes, lambda points: signed(points, 1)))
    the_paper = f" The paper: {paper_network(sweep)} on ImageNet, 8 GPUs."
    return [rows], (
        f"Validation {in_percent(sweep)} by {sweep.samples} per worker, {statistic(sweep)}{in_points(sweep)}. "
        f"{conditions(sweep, sweep.settings)}{the_paper * bool(of_paper)}"
    )


def _as_in_paper(line):
    """Not with standardised weights."""
    return not any(setting.values.get(STANDARDIZED) for setting in line.settings.values())


def table_3(sweep: SweepResults) -> tuple[list[Table], str]:
    """GN by number of groups and by channels per group -> ([a table for each that was varied], caption)."""
    tables, used, of_paper = [], [], papers(sweep, PAPER_GROUPS)
    for key, name in ((GROUPS, "groups"), (CHANNELS, "channels per group")):
        among = [setting for setting in sweep.settings if setting.values.get(key) is not None]
        numbers = sorted({setting.values[key] for setting in among}, reverse=True)
        if not numbers[1:]:
            continue
        rows = [[name, *map(str, numbers)]]
        for line in sweep.lines(key, among):
            rows.append([line.label, *(error_text(sweep, line.settings.get(number)) for number in numbers)])
        tables.append([*rows, *([_paper_row("GN, the paper", of_paper[key], numbers)] if of_paper else [])])
        used += among
    the_paper = " The paper: the same numbers in ResNet-50 on ImageNet, 32 images per worker."
    return tables, (
        f"Validation {in_percent(sweep)} of GN by groups (1 is LN) and by channels per group (1 is IN), "
        f"{statistic(sweep)}. {conditions(sweep, used)}{the_paper * bool(of_paper)}"
    )


def papers(sweep: SweepResults, numbers: dict[str, Any]) -> dict[str, Any]:
    """The paper's numbers, of PAPER_*, that a sweep's stand beside: of its own kind of network; or none."""
    return numbers.get(paper_network(sweep), {}) if sweep.measure == TOP1_ERROR else {}


def paper_network(sweep: SweepResults) -> str | None:
    """The network of the paper that is the nearest to a sweep's, however thin; None where it has none of the kind."""
    names, depths = sweep.values(MODEL), sweep.values(DEPTH)
    if names == ["vgg"]:
        return "VGG-16"
    if not set(names) <= {"resnet", None}:
        return None
    return "ResNet-101" if depths == [101] else "ResNet-50"


def at_one_batch_size(sweep: SweepResults) -> list[Setting]:
    """The settings at the images per worker that most norms have, as the paper's are at 32; of several the most."""
    norms = {size: {s.values[NORM] for s in sweep.settings if s.values[IMAGES] == size} for size in sweep.axes[IMAGES]}
    size = max(norms, key=lambda size: (len(norms[size]), size))
    return [setting for setting in sweep.settings if setting.values[IMAGES] == size]


def gaps(sweep: SweepResults, line: Line, columns: Iterable[Any], text: Callable[[float], str]) -> list[list[str]]:
    """A row for each BN that the line can be measured against: text(its own less BN's), as `gap` has it."""
    rows = {}
    for column, setting in line.settings.items():
        for name, rival in sweep.rivals(setting).items():
            points = gap(sweep, setting, rival)
            rows.setdefault(name, {})[column] = "–" if points is None else text(points)
    return [[f"{line.label} − {name}", *(row.get(column, "") for column in columns)] for name, row in rows.items()]


def _paper_row(label, numbers, columns, text="{:.1f}".format):
    return [theirs(label), *(theirs(text(numbers[column])) if column in numbers else "" for column in columns)]
