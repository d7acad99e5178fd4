"""Which norms bear small batches: the measure at the most images per worker against that at the fewest."""

from typing import TYPE_CHECKING

from engine.drawing import BLACK, GREY, sheet, short_label
from engine.report.gn_tables import PAPER_BATCH_SIZES, paper_network, papers
from engine.report.labels import NORMS
from engine.report.lines import looks_of, spread
from engine.report.records import IMAGES
from engine.report.results import SweepResults
from engine.report.words import heading, noun, scaled, seeds_sentence, statistic, subtitle

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By network, on ImageNet: validation top-1 error in percent by images per worker. BN and GN: the GN paper; BRN: a plot
# of MABN's repository (megvii-model/MABN), where the images of a step stay as many.
PUBLISHED = {
    **PAPER_BATCH_SIZES,
    "ResNet-50": {**PAPER_BATCH_SIZES["ResNet-50"], "brn": {32: 23.5, 16: 24.4, 8: 25.3, 4: 26.9, 2: 30.3}},
}
LABEL_HEIGHT = 12 / 72  # inches


def figure_small_batch(sweep: SweepResults) -> "tuple[Figure, str]":
    """A point for each line along images per worker: its measure at the most of them, and at the fewest -> (Figure,
    caption). Bars are deviations; what was published of ImageNet at the same numbers is grey."""
    most, fewest = sweep.axes[IMAGES][0], sweep.axes[IMAGES][-1]
    found = []
    for line in sweep.lines(IMAGES):
        ends = [line.settings[size].average(sweep.statistic) for size in (most, fewest) if size in line.settings]
        if len(ends) == 2 and all(ends):
            found.append((line, ends))
    published = {
        f"{NORMS[norm]}, ImageNet": (by_size[most], by_size[fewest])
        for norm, by_size in papers(sweep, PUBLISHED).items() if {most, fewest} <= by_size.keys()
    }
    title = f"Validation {noun(sweep.measure)} at {most} and at {fewest} images per worker"
    figure, (axes,) = sheet(
        title, subtitle(sweep, sweep.settings, of_runs=True), labels=[*published, *(line.label for line, _ in found)]
    )
    labels = []
    for (line, ends), look in zip(found, looks_of([line.norm for line, _ in found]), strict=True):
        point = [scaled(sweep.measure, end.mean) for end in ends]
        along, across = (scaled(sweep.measure, end.deviation or 0) for end in ends)
        axes.errorbar(*point, across, along, fmt="none", ecolor=look["color"], elinewidth=1)
        axes.plot(*point, label=line.label, **look)
        labels.append((line.label, point, {"color": look["color"], "fontweight": "bold"}))
    for label, point in published.items():
        axes.plot(*point, "o", color=GREY, markerfacecolor="white", markersize=4, label=label)
        labels.append((label, point, {"color": GREY}))
    _draw_diagonal(axes)
    axes.set_xlabel(f"validation {heading(sweep.measure)}, {most} images per worker")
    axes.set_ylabel(f"validation {heading(sweep.measure)}, {fewest} images per worker")
    axes.grid(True, axis="both")
    _label(axes, labels)
    plotted = " (BRN: in a plot, with the images of a step kept)" * (f"{NORMS['brn']}, ImageNet" in published)
    theirs = f" Grey: published of {paper_network(sweep)} on ImageNet{plotted}."
    return figure, (
        f"{title}, {statistic(sweep)}: a point for each norm, its deviations as bars; on the line nothing is lost. "
        f"{seeds_sentence(sweep, sweep.settings)}{theirs * bool(published)}"
    )


def _draw_diagonal(axes: "Axes") -> None:
    """Where both are the same, as far as the panel goes."""
    limits = axes.get_xlim(), axes.get_ylim()
    axes.axline((limits[0][0],) * 2, slope=1, color=BLACK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.6)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _label(axes: "Axes", labels: list) -> None:
    """Names on the right of the panel, each with a thin line to its point, moved where they would overlap."""
    _, height = axes.get_position().size * axes.figure.get_size_inches()
    (low, high), right = axes.get_ylim(), axes.get_xlim()[1]
    places = spread([point[1] for _, point, _ in labels], (high - low) * LABEL_HEIGHT / height)
    for (label, point, look), y in zip(labels, places, strict=True):
        axes.plot([point[0], right], [point[1], y], color=look["color"], linewidth=0.4, zorder=0.5, clip_on=False)
        axes.annotate(
            short_label(label), (right, y), (4, 0), textcoords="offset points", va="center", annotation_clip=False,
            **look,
        )
