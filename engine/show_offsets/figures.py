"""Pictures of what deformable convolutions look at: computed in sampling.py beside, drawn and written here.

Blue is the fixed grid, vermillion the learned one.
"""

import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import nn

from data import Loader, Preparation
from engine.drawing import BLACK, BLUE, GREY, VERMILLION, drawing_style, save_figure
from engine.files import writing_into
from engine.show_offsets.bins import bins_figure, look_at_bins
from engine.show_offsets.drawing import draw_picture, draw_points, modulation_key, panels_of_four
from engine.show_offsets.sampling import (
    Positions,
    StackView,
    choose_layers,
    collect,
    look,
    moves_bins,
    object_pixels,
    short,
)
from engine.terminal import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BRIGHT = 0.99  # of the pixels lie below what is drawn in full colour: a few would else outshine the rest
SMALL = {"fontsize": 6, "color": GREY, "ha": "right", "va": "bottom"}
COLUMNS = (
    ("fixed grid", "plain", BLUE), ("learned offsets", "deformed", VERMILLION),
    ("receptive field, fixed grid", "plain", BLUE), ("receptive field, learned", "deformed", VERMILLION),
)


def offset_figure(view: StackView, preparation: Preparation, title: str) -> "Figure":
    """StackView points and effective receptive fields on the picture, a row for each position -> a matplotlib Figure.

    Left the paper's figure (arXiv:1703.06211, figures 5 and 6) beside the grid without offsets; a dot's area is its
    modulation. Right the receptive fields (arXiv:1811.11168, figure 2), on one scale in each row.
    """
    figure, axes = panels_of_four(title, _explained(view), len(view.positions))
    picture = preparation.shown(view.image)
    paths = view.stack[-1].points.shape[1] * 9 ** len(view.stack)  # those that leave a map on the way are no points
    there, what = object_pixels(view.image), "object"
    if not there.any():
        there, what = np.ones_like(there), "picture"
    for axis, (words, *_) in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(words, loc="left", fontsize=8.5, pad=4)
    if _is_modulated(view):
        modulation_key(figure)
    for panels, position in zip(axes, view.positions, strict=True):
        panels[0].set_ylabel(position.label, fontsize=8, labelpad=3)
        for number, (axis, (_, kind, colour)) in enumerate(zip(panels, COLUMNS, strict=True)):
            looked = getattr(position, kind)
            draw_picture(axis, picture)
            if number < 2:
                draw_points(axis, looked.points, looked.modulation, colour)
                text = f"{_count_on(there, looked.points)} of {paths} on the {what}"
                axis.text(0.98, 0.02, text, **SMALL, transform=axis.transAxes)
            else:
                _field(axis, looked.field, colour)
            _cross(axis, *(view.stack[-1].stride_out * np.array([position.y, position.x])))
    return figure


def _count_on(there, points):
    """How many points [P, 2] lie on pixels that are `there` [H, W]."""
    y, x = np.rint(points).astype(int).T
    inside = (0 <= y) & (y < there.shape[0]) & (0 <= x) & (x < there.shape[1])
    return int(there[y[inside], x[inside]].sum())


def _is_modulated(view):
    return any((layer.modulation != 1).any() for layer in view.stack)


def _explained(view):
    layers = [short(layer.name) for layer in view.stack]
    lengths = ", ".join(f"{layer.mean_length:.2f}" for layer in view.stack)
    power = {1: "", 2: "²", 3: "³"}[len(layers)]
    groups = view.stack[-1].points.shape[1]
    times = f"{groups} × " if groups > 1 else ""  # each deformable group has its own
    area = ", its area the product of the modulations on the way" if _is_modulated(view) else ""
    text = (
        f"The cross looks at the picture through {' ← '.join(reversed(layers))}. Each dot: one of its {times}9{power} "
        f"sampling points{area}. Receptive field: |gradient| of the output at the cross with respect to the pixels, "
        f"each on its own scale. Mean length of the offsets, from the lowest layer up: {lengths} pixels of the layer’s "
        "input."
    )
    return textwrap.fill(text, 136)


def _field(axis, field, colour):
    from matplotlib.colors import to_rgb

    height, width = field.shape
    overlay = np.empty((height, width, 4))
    overlay[..., :3] = to_rgb(colour)
    overlay[..., 3] = (field / (np.quantile(field, BRIGHT) or 1)).clip(0, 1)
    axis.imshow(overlay, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")


def _cross(axis, y, x):
    for width, colour in ((3.2, "white"), (1.4, BLACK)):
        axis.plot(x, y, "+", markersize=8 if colour == BLACK else 9.5, markeredgewidth=width, color=colour, zorder=5)


def write_offset_figures(
    model: nn.Layer, preparation: Preparation, images: Iterable[tuple[str, np.ndarray]], layers: list[str],
    positions: Positions, folder: Path,
) -> Iterator[Path]:
    """Draw prepared images, (title, array [C, H, W]), into folder/offsets_TITLE.png and .svg, and of a detector whose
    bins move folder/bins_TITLE with the objects that it finds; yields the files."""
    names, pools = Counter(), moves_bins(model)
    for title, image in images:
        stem = Path(title).stem.replace(" ", "_")
        names[stem] += 1
        stem += f"_{names[stem]}" if names[stem] > 1 else ""  # pictures of several folders
        figures = {}
        with drawing_style():
            if layers:
                view = look(model, image, layers, positions)
                figures["offsets"] = offset_figure(view, preparation, printable(title))
            if pools and (objects := look_at_bins(model, image)):
                figures["bins"] = bins_figure(objects, image, preparation, printable(title))
        if pools and "bins" not in figures:
            print(f"{printable(title)}: nothing is found there, and so no bins are shown", file=sys.stderr)
        for what, figure in figures.items():
            files = [folder / f"{what}_{stem}.{kind}" for kind in ("png", "svg")]
            with writing_into(folder):
                for file in files:
                    save_figure(figure, file)
            yield from files


def sample_offsets(
    model: nn.Layer, loader: Loader, images: int, asked_to_stop: Callable[[], bool] = lambda: False
) -> tuple[dict, dict]:
    """For VisualDL during training: ({tag: uint8 [H, W, 3]}, {tag: mean length of a layer's offsets}).

    The pictures are the same each time: `images` of the validation set, evenly spread over it. Between two of them
    `asked_to_stop` is looked at, and the rest left undrawn where it says so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    dataset, names = loader.dataset, choose_layers(model)
    indices = np.unique(np.linspace(0, len(dataset) - 1, images).astype(int))
    samples = [(i, image) for i in indices for image in dataset.batch([i], seed=loader.seed, epoch=0)["image"]]
    was_training = model.training
    model.eval()
    pictures, lengths = {}, {}
    for number, (index, image) in enumerate(samples):
        if asked_to_stop():
            break
        with drawing_style():
            figure = offset_figure(look(model, image, names), dataset.preparation, f"validation image {index}")
            figure.set_dpi(100)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
        pictures[f"offsets/sample_{number}"] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if samples:
        # one by one: the pictures of a detector have sizes of their own
        found = zip(*(collect(model, paddle.to_tensor(image[None])) for _, image in samples), strict=True)
        lengths = {
            f"offsets/mean_length/{short(one.name)}": float(np.mean([layer.mean_length for layer in (one, *others)]))
            for one, *others in found
        }
    if was_training:
        model.train()
    return pictures, lengths
