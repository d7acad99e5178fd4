"""The effective dilation of deformable convolutions over a set (arXiv:1703.06211, section 3 and table 2)."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from data import Loader, Preparation
from engine.drawing import markdown_table
from engine.errors import InputError
from engine.files import write_text, writing_into
from engine.show_offsets.sampling import Sampling, collect, short

ON_BLACK = ("fashion_mnist", "warped_fashion_mnist")  # sets in which the object is what is not black
BLACK_BELOW = 0.1  # of the full range
SIZES = ("small", "medium", "large")


def effective_dilation(layer: Sampling) -> np.ndarray:
    """The mean distance of neighbouring sampling points (arXiv:1703.06211, section 3) at each position [N, H', W'].

    In pixels of the layer's input; offsets of zero give its dilation. Neighbours are taps beside or below each other;
    deformable groups are averaged.
    """
    taps = layer.points.reshape(*layer.points.shape[:2], *layer.kernel, *layer.shape, 2)
    pairs = [np.linalg.norm(np.diff(taps, axis=axis), axis=-1) for axis in (2, 3)]  # below and beside
    count = sum(pair.shape[2] * pair.shape[3] for pair in pairs)
    return sum(pair.sum(axis=(2, 3)) for pair in pairs).mean(axis=1) / count


def on_black(image: np.ndarray, preparation: Preparation) -> np.ndarray:
    """Where an object stands on black: prepared images [N, C, H, W] -> bool [N, H, W]."""
    return preparation.shown(image).max(axis=-1) > 255 * BLACK_BELOW


class Spread(NamedTuple):
    """Of the effective dilation over positions of many images."""

    mean: float
    deviation: float
    positions: int


@dataclass(frozen=True)
class Dilations:
    """Effective dilation over a set. rows: (layer, its input's stride, plain dilation, {group: Spread}), lowest first.

    limits: the extents, in pixels, up to which an object is small, and medium; None where objects are not known.
    """

    images: int
    rows: list[tuple[str, int, float, dict[str, Spread]]]
    limits: tuple[float, float] | None


def dilations(
    model: nn.Layer, loader: Loader, *, foreground: Callable[[np.ndarray], np.ndarray] | None = None
) -> Dilations:
    """The effective dilation of each deformable layer over a loader's images, by where a position lies.

    foreground: images [N, C, H, W] -> bool [N, H, W], for sets where the picture tells; then positions are grouped into
    those on a small, medium or large object and the background. Sizes are the terciles, over the set's objects, of the
    root of the number of an object's pixels. None: all positions only.
    """
    layers, extents = {}, []  # for each layer and batch: sums [2 (not on the object, on it), N, 3 (count, x, x^2)]
    with paddle.no_grad():
        for image in (image for batch in loader.epoch(0) for image in _pictures(batch)):
            there = foreground(image) if foreground else np.zeros((len(image), *image.shape[2:]), bool)
            extents.append(np.sqrt(there.sum(axis=(1, 2))))
            for layer in collect(model, paddle.to_tensor(image)):
                on_object = there[:, :: layer.stride_out, :: layer.stride_out]  # position p lies on pixel p * stride
                value = effective_dilation(layer)[:, : on_object.shape[1], : on_object.shape[2]]  # less a pad's
                moments = np.stack([np.ones_like(value), value, value**2], axis=-1)
                sums = [(moments * of[..., None]).sum(axis=(1, 2)) for of in (~on_object, on_object)]
                layers.setdefault(layer.name, (layer, []))[1].append(np.stack(sums))
    if not layers:
        raise InputError("the model has no deformable layers, or not one validation image can be read")
    extent = np.concatenate(extents)
    limits = tuple(np.quantile(extent[extent > 0], [1 / 3, 2 / 3])) if foreground and (extent > 0).any() else None
    rows = []
    for name, (layer, batches) in layers.items():
        background, on_object = np.concatenate(batches, axis=1)
        groups = {"all positions": background.sum(axis=0) + on_object.sum(axis=0)}
        if limits:
            size = np.searchsorted(limits, extent)  # 0, 1 or 2; an extent on a limit belongs below it
            groups = {f"{word} object": on_object[size == number].sum(axis=0) for number, word in enumerate(SIZES)} | {
                "background": background.sum(axis=0)} | groups
        plain = effective_dilation(replace(layer, points=layer.grid)).mean()
        rows.append((name, layer.stride_in, float(plain), {group: _spread(*sums) for group, sums in groups.items()}))
    return Dilations(len(extent), rows, limits)


def _pictures(batch):
    """A batch's images [N, C, H, W]; where they are padded to one size, each alone and without its pad."""
    images = batch["image"]
    if "size" in batch:
        return [image[None, :, :height, :width] for image, (height, width) in zip(images, batch["size"], strict=True)]
    return [images] if len(images) else []


def _spread(count, total, squares):
    if not count:
        return Spread(float("nan"), float("nan"), 0)
    mean = total / count
    return Spread(float(mean), float(np.sqrt(max(0.0, squares / count - mean**2))), int(count))


def dilation_table(found: Dilations) -> list[list[str]]:
    """Rows of texts, the first its header: mean ± standard deviation for each layer and group of positions."""
    groups = list(found.rows[0][3])
    rows = [["layer", "stride", "fixed grid", *groups]]
    for name, stride, plain, spreads in found.rows:
        cells = [f"{of.mean:.2f} ± {of.deviation:.2f}" if of.positions else "–" for of in spreads.values()]
        rows.append([short(name), str(stride), f"{plain:.2f}", *cells])
    return rows


def dilation_caption(found: Dilations) -> str:
    """What the table says and how it was counted."""
    text = (
        "Effective dilation: the mean distance of neighbouring sampling points, in pixels of the layer's input, which "
        "stands at the given stride; mean ± standard deviation over the positions of "
        f"{found.images} validation images."
    )
    if found.limits is None:
        return f"{text} Where the objects lie is not known for this set."
    small, medium = found.limits
    return (
        f"{text} The object is what is not black. Sizes are terciles over the set's objects of the root of their "
        f"number of pixels: small up to {small:.1f}, medium up to {medium:.1f}."
    )


def write_dilations(found: Dilations, folder: Path) -> list[Path]:
    """Write effective_dilation.csv, a line for each layer and group, and effective_dilation.md."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["layer", "stride", "fixed_grid", "group", "mean", "deviation", "positions"])
    for name, stride, plain, spreads in found.rows:
        for group, (mean, deviation, positions) in spreads.items():
            writer.writerow([name, stride, plain, group, mean, deviation, positions])
    texts = {
        "effective_dilation.csv": lines.getvalue(),
        "effective_dilation.md": f"{markdown_table(dilation_table(found))}\n\n{dilation_caption(found)}\n",
    }
    with writing_into(folder):
        for name, text in texts.items():
            write_text(folder / name, text)
    return [folder / name for name in texts]
