"""A sheet of training samples: each without augmentation, then as the network sees it in the first epochs.

Of clips: the frames of each, as the network sees them in the first epoch.
"""

import textwrap
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from data import Dataset
from engine.drawing import drawing_style, fonts_for_names, heading, save_figure

ROWS, EPOCHS = 8, 6
WIDTH, LEFT, RIGHT, ABOVE, BELOW = 7.4, 1.1, 0.1, 0.8, 0.1  # inches
GAP = 0.06  # between pictures, in widths of a picture
LETTERS = 14  # of a class name on a line


# What is said of a sheet, the heads of its columns, and what gives the pictures uint8 [H, W, 3], all of one size, of
# the row of a sample's index, by a seed.
Sheet = tuple[str, list[str], Callable[[int, int], Iterable[np.ndarray]]]


def write_data_sheet(dataset: Dataset, indices: np.ndarray, seed: int, path: Path, sheet: Sheet | None = None) -> Path:
    """Draw a few of the samples `indices`, evenly over the classes if there are any, into a PNG; returns its path.

    sheet: what is drawn of each; None: what `of_images` says.
    """
    from matplotlib.figure import Figure

    chosen = choose_samples(np.zeros(len(dataset), int) if dataset.labels is None else dataset.labels, indices)
    said, heads, row_of = sheet or of_images(dataset)
    rows = [list(row_of(index, seed)) for index in chosen]
    height, width, _ = rows[0][0].shape
    gap = max(1, round(GAP * width))
    mosaic = np.full((len(chosen) * (height + gap) - gap, len(heads) * (width + gap) - gap, 3), 255, np.uint8)
    names, tops, lefts = [], np.arange(len(chosen)) * (height + gap), np.arange(len(heads)) * (width + gap)
    for index, row, top in zip(chosen, rows, tops, strict=True):
        for picture, left in zip(row, lefts, strict=True):
            mosaic[top : top + height, left : left + width] = picture
        name = _name(dataset, index)
        letters = LETTERS if name.isascii() else LETTERS // 2  # Chinese ones are twice as wide
        names.append(textwrap.fill(name, letters))

    tall = (WIDTH - LEFT - RIGHT) * mosaic.shape[0] / mosaic.shape[1]
    total = ABOVE + tall + BELOW
    with drawing_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the label's number stands beside the name
        figure = Figure(figsize=(WIDTH, total))
        heading(figure, "Training samples", said)
        axis = figure.add_axes([LEFT / WIDTH, BELOW / total, 1 - (LEFT + RIGHT) / WIDTH, tall / total])
        axis.imshow(mosaic, aspect="auto")
        axis.set_xticks(lefts + width / 2, heads, fontsize=8)
        axis.set_yticks(tops + height / 2, names, fontsize=8, fontfamily=fonts_for_names())
        axis.tick_params(length=0, labelbottom=False, labeltop=True)
        axis.grid(False)
        axis.spines[:].set_visible(False)
        save_figure(figure, path)
    return path


def of_images(dataset: Dataset) -> Sheet:
    """Each sample without augmentation, then as the network sees it in the first epochs."""

    def row_of(index, seed):
        images = [dataset.preparation(dataset.stored_picture(index))]
        images += [dataset.batch(np.array([index]), seed=seed, epoch=epoch)["image"][0] for epoch in range(EPOCHS)]
        return map(dataset.preparation.shown, images)

    return in_epochs(dataset, row_of)


def of_clips(dataset: Dataset) -> Sheet:
    """Frames of each sample, as training shows them in its first epoch."""
    frames = dataset.image_shape[1]
    shown = np.unique(np.linspace(0, frames - 1, EPOCHS + 1).round().astype(int))
    said = f"Frames of {frames}, as training shows them to the network in its first epoch."

    def row_of(index, seed):
        clip = dataset.batch(np.array([index]), seed=seed, epoch=0)["clip"][0]
        return dataset.preparation.frames_shown(clip)[shown]

    return said, [f"frame {n + 1}" for n in shown], row_of


def in_epochs(dataset: Dataset, row_of: Callable[[int, int], Iterable[np.ndarray]]) -> Sheet:
    """The sheet of rows of 1 + EPOCHS pictures: of what is stored, and of the first epochs."""
    stored = getattr(dataset, "stored", "unchanged")
    of_class = " of the class" if dataset.labels is not None else ""
    left = "without augmentation" if stored == "unchanged" else stored + of_class
    said = f"Left {left}, then as training shows them to the network in its first epochs."
    return said, [stored, *(f"epoch {n + 1}" for n in range(EPOCHS))], row_of


def _name(dataset, index):
    if dataset.labels is None:
        return f"image {index}"
    label = int(dataset.labels[index])
    return f"{label} {dataset.classes[label]}"


def choose_samples(labels: np.ndarray, indices: np.ndarray, count: int = ROWS) -> list[int]:
    """Up to `count` of `indices`, in the order of their labels: from many classes, and evenly spaced in each."""
    found = np.unique(labels[indices])
    classes = found[np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]
    chosen = []
    for number, label in enumerate(classes):
        own = indices[labels[indices] == label]
        wanted = min(len(own), len(range(number, count, len(classes))))
        chosen += own[(2 * np.arange(wanted) + 1) * len(own) // (2 * wanted)].tolist()
    return chosen
