"""The confusion matrix as a picture."""

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.drawing import BLACK, BLUE, GREY, VERMILLION, drawing_style, fonts_for_names, heading, save_figure
from engine.errors import InputError
from engine.tasks.confusion import Confusion
from engine.terminal import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 100  # classes that are drawn each; of more
SHOWN = 60  # those with the most mistakes, and the others as one
NUMBERED = 20  # up to so many classes the cells have their numbers
LETTERS = 22  # of a name
CELL, PANEL, NARROWEST = 0.125, 4.6, 5.6  # inches: smallest cell, usual matrix, narrowest figure


def write_confusion_figure(confusion: Confusion, path: Path) -> Path:
    """Draw a row for each class, a column for what it was taken for; right answers blue, wrong ones red.

    A class without images that nothing was taken for is left out. Raises InputError where it cannot be written.
    """
    with drawing_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that no font of this machine has
        figure = confusion_figure(confusion)
        try:
            save_figure(figure, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def confusion_figure(confusion: Confusion) -> "Figure":
    """The matplotlib Figure."""
    from matplotlib.figure import Figure

    names, matrix, images, said = condensed(confusion)
    count = len(names)
    cell = max(CELL, min(PANEL / count, 1.0))
    size = min(8, 72 * 0.7 * cell)  # of letters, points
    widest = max(len(name) + sum(not letter.isascii() for letter in name) for name in names) * 0.6 * size / 72
    left, right, above, below = widest + 0.35, 1.1, widest + 0.95, 0.15
    width, height = max(NARROWEST, left + cell * count + right), above + cell * count + below
    figure = Figure(figsize=(width, height))
    heading(figure, "Which class is taken for which", textwrap.fill(said, int(14.5 * width)))
    axis = figure.add_axes([left / width, below / height, cell * count / width, cell * count / height])
    axis.imshow(_colours(matrix, images), aspect="auto", interpolation="nearest")
    labels = {"fontsize": size, "fontfamily": fonts_for_names()}
    axis.set_xticks(range(count), names, rotation=90, **labels)
    axis.set_yticks(range(count), names, **labels)
    axis.tick_params(length=0, pad=2, labelbottom=False, labeltop=True)
    axis.set_xlabel("taken for", fontsize=8, color=GREY, labelpad=3)
    axis.xaxis.set_label_position("top")
    axis.set_ylabel("is", fontsize=8, color=GREY)
    axis.grid(False)
    axis.spines[:].set(visible=True, color="#e4e4e4")
    for row, (right_ones, total) in enumerate(zip(matrix.diagonal().tolist(), images.tolist(), strict=True)):
        text = f"{100 * (1 - right_ones / total):.1f} % of {total:,}" if total else "no images"
        axis.text(count - 0.5 + 0.06 / cell, row, text, fontsize=size, color=GREY, va="center")
    if count <= NUMBERED:
        for row, column in zip(*matrix.nonzero(), strict=True):
            dark = row == column and matrix[row, column] > 0.2 * images[row]
            axis.text(column, row, f"{matrix[row, column]:,}", fontsize=size, ha="center", va="center",
                      color="white" if dark else BLACK)
    return figure


def condensed(confusion: Confusion) -> tuple[list[str], np.ndarray, np.ndarray, str]:
    """(names, matrix [M, M], images [M], what is shown in words) with M at most LARGEST: what to draw.

    The last class may stand for many: its cell on the diagonal holds their right answers, without the mistakes that
    they make among themselves.
    """
    matrix, names = confusion.matrix(), [_shown(name) for name in confusion.classes]
    wrong = matrix - np.diag(matrix.diagonal())
    there = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    error = f"{100 * wrong.sum() / matrix.sum():.2f} % of {matrix.sum():,} images are wrong."
    said = f"{error} On the right the error of each class. A cell's tone: the square root of its share of the row."
    if len(there) <= LARGEST:
        matrix = matrix[np.ix_(there, there)]
        return [names[label] for label in there], matrix, matrix.sum(axis=1), said
    chosen = np.sort(np.argsort(-wrong.sum(axis=0) - wrong.sum(axis=1), kind="stable")[:SHOWN])
    group = np.full(len(names), SHOWN)
    group[chosen] = np.arange(SHOWN)
    part = np.zeros((SHOWN + 1, SHOWN + 1), matrix.dtype)
    np.add.at(part, (group[:, None], group[None]), matrix)
    images = part.sum(axis=1)
    part[SHOWN, SHOWN] = matrix.diagonal()[group == SHOWN].sum()
    names = [*(names[label] for label in chosen), f"{len(there) - SHOWN:,} others"]
    return names, part, images, f"{said} Of {len(there):,} classes these {SHOWN} have the most mistakes."


def _colours(matrix, images):
    """RGB [M, M, 3]: white where a cell has none of its row's images, full where it has all; a root shows 1 %."""
    from matplotlib.colors import to_rgb

    shares = np.sqrt(matrix / np.maximum(1, images)[:, None])[..., None]
    ink = np.where(np.eye(len(matrix), dtype=bool)[..., None], to_rgb(BLUE), to_rgb(VERMILLION))
    return 1 - shares * (1 - ink)


def _shown(name):
    """A class name as a label: on one line and not too long."""
    name = printable(name)
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
