"""Where the bins of deformable RoI pooling lie on the objects that a detector finds (arXiv:1703.06211, figure 7)."""

import textwrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import paddle
from paddle import nn

from data import Preparation
from data.detection.batch import Sample, detection_batch
from engine.drawing import BLUE, ORANGE, VERMILLION, fonts_for_names
from engine.show_offsets.drawing import draw_picture, draw_points, modulation_key, panels_of_four
from engine.show_offsets.sampling import hooked
from engine.tasks.detection.results import answers_of
from engine.tasks.detection.task import SURE
from engine.terminal import printable, shortened
from models.detection.roi_pooling import RoIPooling, RoIs
from ops.deform_conv import MODULATION
from ops.deform_roi_pool import bin_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 3  # objects of a picture
LONGEST_NAME = 24  # letters of a class beside its row
AROUND = 1.1  # the side of what is shown, over that of an object's box and all its bins


class Bins(NamedTuple):
    """The bins of one box, K = kh * kw in row-major order. grid and points [K, 2]: their centres as (y, x) in pixels of
    the image, 0 the centre of the first, without offsets and with; modulation [K]: 1 is what it starts with."""

    branch: str
    size: tuple[int, int]
    grid: np.ndarray
    points: np.ndarray
    modulation: np.ndarray


class Pooled(NamedTuple):
    """An object that was found: its box as x1, y1, x2, y2 in pixels of the image, and its bins in each branch."""

    label: int
    score: float
    box: np.ndarray
    bins: list[Bins]


@paddle.no_grad()
def look_at_bins(model: nn.Layer, image: np.ndarray) -> list[Pooled]:
    """The best objects, MOST at most, that a detector in evaluation mode is sure of in a prepared image [3, H, W], or
    else the one best; none where it finds nothing."""
    batch = detection_batch([Sample(image, image.shape[1:], 0)], training=False)
    maps = []
    with hooked([model.neck.register_forward_post_hook(lambda layer, inputs, output: maps.extend(output))]):
        (answer,) = answers_of(model({name: paddle.to_tensor(value) for name, value in batch.items()}))
    answer = answer.first(min(MOST, max(1, int((answer.scores >= SURE).sum()))))
    pools = {"box": model.heads.box_pool, "mask": model.heads.mask_pool}
    pools = {branch: pool for branch, pool in pools.items() if pool is not None and pool.levels}
    return [
        Pooled(int(label), float(score), box, [_bins(branch, pool, maps, box) for branch, pool in pools.items()])
        for box, score, label in zip(answer.boxes, answer.scores, answer.classes, strict=True)
    ]


def _bins(branch: str, pool: RoIPooling, maps: list[paddle.Tensor], box: np.ndarray) -> Bins:
    seen = []

    def see(layer, inputs, output):
        x, boxes, boxes_num = inputs
        offset, mask = layer.offset_and_mask(x, boxes, boxes_num)
        grid, points = (_centres(layer, boxes, given) for given in (paddle.zeros_like(offset), offset))
        modulation = np.ones(len(points))
        if mask is not None:
            modulation = mask.numpy().ravel() / float(MODULATION[layer.modulation](paddle.zeros([])))
        seen.append(Bins(branch, layer.bins, grid, points, modulation))

    with hooked(layer.register_forward_post_hook(see) for layer in pool.levels):
        pool(maps, RoIs(paddle.to_tensor(box[None]), [1]))  # of one level, that of the box
    return seen[0]


def _centres(layer, boxes, offset):
    y, x = bin_points(boxes, layer.bins, offset, sampling_ratio=1, gamma=layer.geometry["gamma"])
    return np.stack([axis.numpy().ravel() for axis in (y, x)], axis=-1).astype(np.float64)


def bins_figure(objects: list[Pooled], image: np.ndarray, preparation: Preparation, title: str) -> "Figure":
    """A row for each object, one or more: for each branch its bins without and with offsets -> a matplotlib Figure."""
    from matplotlib.patches import Rectangle

    columns = [
        (f"{bins.branch} branch, {words}", number, kind, colour) for number, bins in enumerate(objects[0].bins)
        for words, kind, colour in (("fixed", "grid", BLUE), ("learned", "points", VERMILLION))
    ]
    figure, axes = panels_of_four(title, _explained(objects), len(objects))
    picture = preparation.shown(image)
    if _is_modulated(objects):
        modulation_key(figure)
    for panels, each in zip(axes, objects, strict=True):
        x1, y1, x2, y2 = each.box - 0.5
        centre = np.array([y1 + y2, x1 + x2]) / 2
        reach = [np.abs(bins.points - centre).max() for bins in each.bins]
        half = AROUND * max(*reach, (y2 - y1) / 2, (x2 - x1) / 2)
        name = shortened(printable(preparation.classes[each.label]), LONGEST_NAME)
        panels[0].set_ylabel(f"{name} {100 * each.score:.0f} %", fontsize=8, labelpad=3, family=fonts_for_names())
        for axis, (words, number, kind, colour) in zip(panels, columns, strict=False):
            bins = each.bins[number]
            draw_picture(axis, picture)
            axis.set(xlim=(centre[1] - half, centre[1] + half), ylim=(centre[0] + half, centre[0] - half))
            axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=ORANGE, linewidth=1.4))
            modulation = bins.modulation if kind == "points" else np.ones(len(bins.grid))
            draw_points(axis, getattr(bins, kind), modulation, colour)
            if each is objects[0]:
                axis.set_title(words, loc="left", fontsize=8.5, pad=4)
        for unused in panels[len(columns):]:
            unused.remove()
    return figure


def _is_modulated(objects):
    return any((bins.modulation != 1).any() for each in objects for bins in each.bins)


def _explained(objects):
    parts = []
    for number, bins in enumerate(objects[0].bins):
        lengths = [
            np.linalg.norm((each.bins[number].points - each.bins[number].grid) / _sides(each.box), axis=1).mean()
            for each in objects
        ]
        size = " x ".join(map(str, bins.size))
        parts.append(f"{size} in the {bins.branch} branch, by {100 * np.mean(lengths):.1f} %")
    text = (
        "Each dot: the centre of a bin that deformable RoI pooling reads of the object in the frame"
        f"{', its area the modulation' * _is_modulated(objects)}. Bins, and how far of the box’s sides they are "
        f"moved in the mean: {'; '.join(parts)}."
    )
    return textwrap.fill(text, 136)


def _sides(box):
    return np.array([box[3] - box[1], box[2] - box[0]])
