"""What the networks of a sweep find in the same pictures, below what is annotated there."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from data import read_picture
from engine.drawing import heading, short_label
from engine.errors import InputError
from engine.report.results import Setting, SweepResults
from engine.report.words import listed, subtitle
from engine.run.result import SAMPLES_FILE

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.figure import Figure

MOST = 16  # settings that are shown: a row each
WIDTH, MARGIN, ABOVE, LABEL = 7.4, 0.1, 0.4, 0.22  # inches; ABOVE the lines of text, LABEL above each row
LINE, TALLEST = 0.14, 4.0
ANNOTATED = "annotated"
SAMPLES = "record.sample_images"  # the config key that says how many pictures a run keeps


def figure_scenes(sweep: SweepResults) -> "tuple[Figure, str]":
    """A row of pictures for each setting, with what its first seed found at its last evaluation -> (Figure, caption).

    Above them what is annotated, again where a setting has other pictures. Raises InputError where no run has kept any.
    """
    from matplotlib.figure import Figure

    kept = {sweep.label(setting): _kept(sweep, setting) for setting in sweep.settings}
    shown = {label: halves for label, halves in kept.items() if halves is not None}
    if not shown:
        raise InputError(
            f"{sweep.folder}: figure_scenes: no finished run has {SAMPLES_FILE}, which each leaves where {SAMPLES} is "
            "not 0"
        )
    rows, above = [], None
    for label, (annotated, found) in list(shown.items())[:MOST]:
        if not np.array_equal(annotated, above):
            rows.append((ANNOTATED, annotated))
        rows.append((label, found))
        above = annotated
    text = "\n".join(textwrap.fill(line, 128) for line in subtitle(sweep, []) if line)
    heights = [min(TALLEST, (WIDTH - 2 * MARGIN) * len(row) / row.shape[1]) for _, row in rows]
    top = ABOVE + LINE * (1 + text.count("\n"))
    height = top + sum(heights) + LABEL * len(rows) + MARGIN
    figure = Figure(figsize=(WIDTH, height))
    heading(figure, "What is found in the same pictures", text)
    for (label, row), tall in zip(rows, heights, strict=True):
        top += LABEL + tall
        place = MARGIN / WIDTH, 1 - top / height, 1 - 2 * MARGIN / WIDTH, tall / height
        axes = figure.add_axes(place, label=label)
        axes.imshow(row, interpolation="none")
        axes.set_title(short_label(label), loc="left", pad=3, fontstyle="italic" if label == ANNOTATED else "normal")
        axes.set_axis_off()
    lacking = [label for label in kept if label not in shown]
    more = f" Without pictures: {listed(lacking)}." if lacking else ""
    more += f" The first {MOST} of {len(shown)} settings." if len(shown) > MOST else ""
    return figure, (
        "The first validation pictures, as annotated and as found by each setting’s first seed at its last evaluation: "
        f"objects with a score of 50 % or more.{more}"
    )


def _kept(sweep: SweepResults, setting: Setting) -> tuple[np.ndarray, np.ndarray] | None:
    """Both halves of the picture that the first run has kept, uint8 [H, W, 3]: what is annotated, what was found."""
    for run in setting.finished:
        path = sweep.folder / run["run"] / SAMPLES_FILE
        if path.exists():
            picture = np.asarray(read_picture(path))
            half = max(1, len(picture) // 2)
            return picture[:half], picture[-half:]
    return None
