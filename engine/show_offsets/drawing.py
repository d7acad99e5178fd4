"""What all pictures of offsets look like: their sizes, a paled picture, dots on it."""

from typing import TYPE_CHECKING

import numpy as np

from engine.drawing import GREY, VERMILLION, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEFT, GAP = 7.4, 0.24, 0.08  # inches
ABOVE, LINE, BELOW = 0.56, 0.14, 0.1  # above the panels, and for each line of text there
MARGIN = 0.12  # of the picture's sides: what lies around it, zeros to the network, is shown so far
PALEST = 0.75  # a picture's black, so that all that is drawn on it can be seen in print too
DOT, OPACITY = 5.0, 0.4  # points^2, the area of a dot of modulation 1; where dots coincide the colour is deeper
STEPS = 8  # sizes of dots to a modulation of 1
KEY = (0.5, 1, 2)  # modulations of the dots that are explained


def panels_of_four(title: str, text: str, rows: int) -> "tuple[Figure, np.ndarray]":
    """A figure with title and text above rows of four square panels -> (Figure, its axes [rows, 4])."""
    from matplotlib.figure import Figure

    side = (WIDTH - LEFT - 0.1 - 3 * GAP) / 4
    above = ABOVE + LINE * (1 + text.count("\n"))
    height = above + rows * side + (rows - 1) * GAP + BELOW
    figure = Figure(figsize=(WIDTH, height))
    heading(figure, title, text)
    axes = figure.subplots(rows, 4, squeeze=False)
    figure.subplots_adjust(
        left=LEFT / WIDTH, right=1 - 0.1 / WIDTH, bottom=BELOW / height, top=1 - above / height,
        wspace=GAP / side, hspace=GAP / side,
    )
    return figure, axes


def modulation_key(figure: "Figure") -> None:
    """The dots of some modulations, in the upper right corner."""
    axis = figure.add_axes([0.7, 1 - 0.3 / figure.get_size_inches()[1], 0.29, 0.2 / figure.get_size_inches()[1]])
    axis.set(xlim=(-2.6, len(KEY)), ylim=(-1, 1))
    axis.set_axis_off()
    axis.text(-0.35, 0, "modulation", fontsize=7.5, color=GREY, va="center", ha="right")
    for place, modulation in enumerate(KEY):
        axis.scatter(place, 0, s=DOT * modulation, color=VERMILLION, linewidths=0)
        axis.text(place + 0.18, 0, f"{modulation:g}", fontsize=7.5, color=GREY, va="center")


def draw_picture(axis: "Axes", picture: np.ndarray) -> None:
    """uint8 [H, W, 3], paled, with what lies around it; 0 is the centre of the first pixel."""
    height, width = picture.shape[:2]
    margin = MARGIN * max(height, width)
    axis.imshow(
        PALEST + (1 - PALEST) * picture / 255, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest"
    )
    axis.set(
        xlim=(-0.5 - margin, width - 0.5 + margin), ylim=(height - 0.5 + margin, -0.5 - margin), xticks=[], yticks=[],
        facecolor="#f4f4f4", aspect="equal",
    )
    axis.grid(False)
    axis.spines[:].set_visible(False)


def draw_points(axis: "Axes", points: np.ndarray, modulation: np.ndarray, colour: str) -> None:
    """points [P, 2] as (y, x), each a dot whose area is its modulation [P]."""
    steps = np.rint(STEPS * modulation)  # few sizes, and each place once: a file that is not too large
    rounded = np.column_stack([steps, points.round(2)])[steps > 0]
    dots, count = np.unique(rounded, axis=0, return_counts=True)
    for step in np.unique(dots[:, 0]):
        same = dots[:, 0] == step
        opacity = 1 - (1 - OPACITY) ** count[same]
        axis.scatter(
            dots[same, 2], dots[same, 1], s=DOT * step / STEPS, color=colour, alpha=opacity.round(2), linewidths=0
        )
