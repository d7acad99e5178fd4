"""Figure 6 of the GN paper (Wu & He, arXiv:1803.08494): how a convolution's responses spread as a network learns."""

from pathlib import Path
from typing import TYPE_CHECKING

from engine.drawing import Table, sheet, short_label
from engine.report.gn_tables import PAPER_NORMS, at_one_batch_size, paper_network, papers
from engine.report.lines import draw_line, finish_curves, looks_of
from engine.report.records import IMAGES, NORM
from engine.report.results import Average, Setting, SweepResults, average
from engine.report.words import error_text, heading, listed, noun, seeds_sentence, statistic, subtitle
from engine.run.measure import Measure
from engine.run.result import read_metrics
from engine.train.responses import PERCENTILES, keys

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYER = "record.responses"  # the config key that says whose
RESPONSE = Measure("response", "response", percent=False)


def figure_6(sweep: SweepResults) -> "tuple[Figure, str]":
    """Percentiles of the responses against epoch, a panel for each setting at one batch size -> (Figure, caption).

    Those without a norm come first, as in the paper; a table of errors, with the paper's beside, is the last panel.
    """
    settings = sorted(at_one_batch_size(sweep), key=lambda setting: setting.values[NORM] != "none")
    layer, images = str(sweep.file.value(LAYER)), settings[0].values[IMAGES]
    labels = [sweep.label(setting, [IMAGES]) for setting in settings]
    legend = {str(percent): f"{'percentile ' * (percent == PERCENTILES[0])}{percent}" for percent in PERCENTILES}
    title = f"Responses of {layer} against epoch, {images} images per worker"
    titles = [*labels, f"validation {heading(sweep.measure)}"]
    figure, (*panels, table) = sheet(title, subtitle(sweep, settings), titles, legend=list(legend.values()))
    curves = [
        curve for axes, setting in zip(panels, settings, strict=True)
        for curve in _draw_percentiles(axes, sweep, setting, layer, list(legend))
    ]
    cut = finish_curves(RESPONSE, f"response of {layer}", panels, curves, legend)
    of_paper = papers(sweep, PAPER_NORMS)
    _write_table(table, _errors(sweep, settings, labels, of_paper))
    the_paper = f" The paper: {paper_network(sweep)} on ImageNet, 32 images per worker."
    return figure, (
        f"Percentiles {listed(PERCENTILES)} of what {layer} gives, before norm and ReLU, for the images of a training "
        f"step at {images} images per worker.{cut} Last panel: validation {noun(sweep.measure)}, {statistic(sweep)}. "
        f"{seeds_sentence(sweep, settings)}{the_paper * bool(of_paper)}"
    )


def _draw_percentiles(axes: "Axes", sweep: SweepResults, setting: Setting, layer: str, labels: list[str]) -> list:
    """A line for each percentile -> their averages."""
    epochs, averages = _curves(sweep, setting, layer)
    every = max(1, len(epochs) // 6)
    for label, look, curve in zip(labels, looks_of([None] * len(labels)), averages, strict=True):
        draw_line(axes, RESPONSE, epochs, curve, label, {**look, "markevery": every, "linewidth": 1.3, "markersize": 4})
    return averages


def _curves(sweep: SweepResults, setting: Setting, layer: str) -> tuple[list[float], list[list[Average]]]:
    """The moments, in epochs, that all seeds have a record of, and the averages over them of each percentile."""
    runs = [_percentiles(sweep.folder / run["run"], layer) for run in setting.finished]
    epochs = sorted(set.intersection(*map(set, runs))) if runs else []
    return epochs, [[average([run[epoch][n] for run in runs]) for epoch in epochs] for n in range(len(PERCENTILES))]


def _percentiles(folder: Path, layer: str) -> dict[float, list[float]]:
    """By epochs done; records without them are left out."""
    records = [record for record in read_metrics(folder, "train") if record.get("step")]
    epochs, steps = (max((record[name] for record in records), default=1) for name in ("epoch", "step"))
    found = {record["step"] * epochs / steps: [record.get(key) for key in keys(layer)] for record in records}
    return {epoch: values for epoch, values in found.items() if all(map(_is_number, values))}


def _is_number(value):
    return type(value) in (int, float) and abs(value) < 1e100  # of which squares can be taken; nan is not below it


def _errors(sweep, settings, labels, of_paper) -> Table:
    rows = [["", "here", *["the paper"] * bool(of_paper)]]
    for setting, label in zip(settings, labels, strict=True):
        paper = of_paper.get(setting.values[NORM], "")
        rows.append([label, error_text(sweep, setting) or "–", *[str(paper)] * bool(of_paper)])
    return rows


def _write_table(axes: "Axes", rows: Table) -> None:
    """Text in the place of a panel: the first column to the left, numbers to the right."""
    axes.set_axis_off()
    places = [0.0, *(0.5 + 0.5 * number / (len(rows[0]) - 1) for number in range(1, len(rows[0])))]
    height = min(0.11, 0.92 / len(rows))
    for line, row in enumerate(rows):
        for place, cell in zip(places, row, strict=True):
            axes.text(
                place, 0.92 - height * line, short_label(cell), transform=axes.transAxes,
                ha="right" if place else "left", fontweight="normal" if line else "bold",
            )
