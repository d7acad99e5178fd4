"""What is wrong with the objects of a data set, how many each class has, and what its pictures look like with them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from data.check import Survey
from data.detection.dataset import DetectionDataset
from data.detection.objects import SMALLEST_SIDE
from engine.check_data.findings import PARTS, Finding, many, sample_names
from models.detection.anchors import FITS, MUCH

BEYOND = 1  # pixels that a box may reach beyond its picture: rounding does that
SMALL = 8  # pixels of a side as the network sees it: less is hardly learned, and hardly found
LOOKED_AT = 200  # pictures whose objects are laid on the anchors


class _Objects(NamedTuple):
    """All A objects of the pictures that could be read: rows into these; boxes [A, 4], x1, y1, x2, y2 in pixels of the
    stored picture; labels [A]; crowd [A]; sizes [A, 2], height and width of the picture."""

    rows: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    sizes: np.ndarray


def object_counts(datasets: Sequence[DetectionDataset]) -> list[dict]:
    """{"label", "class", "training", "validation"} of each class, JSON-able: how many objects, crowds apart."""
    counts = np.zeros((2, len(datasets[0].classes)), int)
    for own, dataset in zip(counts, datasets, strict=True):
        label_of = {category: label for label, category in enumerate(dataset.category_ids)}
        for index in range(len(dataset)):
            for entry in dataset.annotations(index):
                own[label_of[entry["category_id"]]] += not entry["iscrowd"]
    return [
        {"label": label, "class": name, **dict(zip(PARTS, counts[:, label].tolist(), strict=True))}
        for label, name in enumerate(datasets[0].classes)
    ]


def object_findings(
    datasets: Sequence[DetectionDataset], surveys: Sequence[Survey], network: Callable[[], nn.Layer]
) -> Iterator[Finding]:
    """All that there is to say of the objects of (training, validation). `network` has the anchors."""
    for number, dataset in enumerate(datasets):
        told = datasets[0].left_out if number else {}
        for reason, places in dataset.left_out.items():
            if places != told.get(reason):  # one file can hold both
                yield Finding("note", f"{many(len(places), 'annotation')} {reason}", tuple(places))
    parts = [_objects(*pair) for pair in zip(datasets, surveys, strict=True)]
    for number, (part, objects) in enumerate(zip(PARTS, parts, strict=True)):

        def named(rows, number=number):
            indices = surveys[number].indices
            return tuple(sample_names(datasets, [(number, int(indices[row]))]) for row in np.unique(rows))

        yield from _boxes(part, objects, named)
        yield from _lacking(part, objects, datasets[number], len(surveys[number].indices))
    yield from _gaps(datasets[0].category_ids)
    yield from _sizes(parts[0], datasets[0].preparation)
    if len(parts[0].rows):
        yield _anchors(parts[0], datasets[0].preparation, network().rpn.anchors)


def _objects(dataset, survey):
    label_of = {category: label for label, category in enumerate(dataset.category_ids)}
    rows, entries = [], []
    for row, index in enumerate(survey.indices):
        own = dataset.annotations(int(index))
        rows += [row] * len(own)
        entries += own
    boxes = np.array([entry["bbox"] for entry in entries], float).reshape(-1, 4)
    rows = np.array(rows, int)
    return _Objects(
        rows, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        np.array([label_of[entry["category_id"]] for entry in entries], int),
        np.array([entry["iscrowd"] for entry in entries], bool), survey.sizes[rows][:, ::-1],
    )


def _boxes(part, objects, named):
    boxes, sizes = objects.boxes, objects.sizes[:, ::-1]
    beyond = (boxes < -BEYOND).any(axis=1) | (boxes[:, 2:] > sizes + BEYOND).any(axis=1)
    if beyond.any():
        share = beyond.mean()
        advice = "; COCO's are x, y, width, height: are these x1, y1, x2, y2?" if share > MUCH else ", cut at its edges"
        text = f"{many(int(beyond.sum()), f'{part} box', f'{part} boxes')} beyond the picture{advice}"
        yield Finding("problem" if share > MUCH else "note", text, named(objects.rows[beyond]))
    keys = np.column_stack([objects.rows, objects.labels, objects.crowd, boxes])
    _, first = np.unique(keys, axis=0, return_index=True)
    if doubled := len(keys) - len(first):
        twice = np.setdiff1d(np.arange(len(keys)), first)
        text = f"{many(doubled, f'{part} object')} annotated twice, with the same box and class"
        yield Finding("problem", text, named(objects.rows[twice]))


def _lacking(part, objects, dataset, pictures):
    if (crowds := int(objects.crowd.sum())) > len(objects.crowd) / 2:
        text = f"{crowds:,} of {many(len(objects.crowd), f'{part} annotation')} have iscrowd 1"
        yield Finding("problem", f"{text}: nothing is learned of crowds; run lengths may have iscrowd 0, too")
    real = ~objects.crowd
    if empty := pictures - len(np.unique(objects.rows[real])):
        yield Finding("note", f"{many(empty, f'{part} picture')} without an object")
    there = np.unique(objects.labels[real])
    if len(there) < len(dataset.classes):
        missing = tuple(name for label, name in enumerate(dataset.classes) if label not in there)
        yield Finding("note", f"no {part} object of {many(len(missing), 'class', 'classes')}", missing)


def _gaps(ids):
    if len(ids) < ids[-1] - ids[0] + 1:
        text = f"{len(ids)} category ids from {ids[0]} to {ids[-1]}, with gaps"
        yield Finding("note", f"{text}: labels are 0 to {len(ids) - 1}, and files of results have the ids")


def _seen(objects, preparation):
    """Boxes in pixels of the picture as the network sees it in validation."""
    short, long = objects.sizes.min(axis=1), objects.sizes.max(axis=1)
    scale = np.minimum(preparation.resize_short / short, preparation.resize_long / long)
    return scale[:, None] * objects.boxes, np.rint(scale[:, None] * objects.sizes).astype(int)


def _sizes(objects, preparation):
    boxes, _ = _seen(objects, preparation)
    sides = (boxes[:, 2:] - boxes[:, :2])[~objects.crowd]
    if small := int((np.sqrt(sides.prod(axis=1)) < SMALL).sum()):
        text = f"{many(small, 'training object')} of {len(sides):,} smaller than {SMALL} x {SMALL} pixels"
        yield Finding("note", f"{text} once the picture is scaled: larger ones, or data.resize_short, help")


def _anchors(objects, preparation, anchors):
    """What share of the objects no anchor fits, in some pictures evenly spaced."""
    boxes, sizes = _seen(objects, preparation)
    boxes = np.clip(boxes, 0, sizes[:, [1, 0, 1, 0]])
    usable = ~objects.crowd & (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
    pictures = np.unique(objects.rows[usable])
    chosen = pictures[np.linspace(0, len(pictures) - 1, min(LOOKED_AT, len(pictures))).round().astype(int)]
    overlaps, sides = [np.zeros(0)], [np.zeros(0)]
    for row in chosen:
        own = usable & (objects.rows == row)
        height, width = sizes[own][0].tolist()
        overlaps.append(anchors.best_overlap(paddle.to_tensor(boxes[own], "float32"), height, width).numpy())
        sides.append(np.sqrt((boxes[own, 2:] - boxes[own, :2]).prod(axis=1)))
    overlaps, sides = np.concatenate(overlaps), np.concatenate(sides)
    share = (overlaps < FITS).mean() if len(overlaps) else 0.0
    low, high = np.percentile(sides, [5, 95]) if len(sides) else (0, 0)
    text = f"no anchor fits {100 * share:.1f} % of {len(overlaps):,} training objects (IoU below {FITS})"
    advice = f"nine in ten have sides of {low:.0f} to {high:.0f} pixels for the network; see model.anchor_sizes"
    return Finding("problem" if share > MUCH else "note", f"{text}; {advice}")
