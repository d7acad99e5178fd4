"""What is wrong with a data set, and what is good to know of it, in words."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data.check import duplicates
from data.walk import counted
from engine.config import Config

PARTS = ("training", "validation")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
UNEVEN = 10  # times the smallest class: more is worth a word
FEW = 100  # pictures for validation: with fewer, each one shows in the error
HUGE = 8  # times resize_short: decoding such a picture takes far longer than all that comes after


class Finding(NamedTuple):
    """One line of text and, one line each, what it is about. kind is "problem", to be mended, or "note"."""

    kind: str
    text: str
    items: tuple[str, ...] = ()


def findings(config: Config, datasets, surveys) -> Iterator[Finding]:
    """All that there is to say of (training, validation) and the Survey of each, the gravest first."""
    yield from _unreadable(config, datasets, surveys)
    yield from _doubled(datasets, surveys)
    images, step = len(datasets[0]), config.batch.images_per_step
    if step > images:
        text = f"{_many(images, 'training picture')} for a step of {step}; lower batch.images_per_worker"
        yield Finding("problem", text)
    yield from _unequal(datasets)
    yield from _peculiar(datasets, surveys)


def _unreadable(config, datasets, surveys):
    if broken := tuple(text for each in surveys for _, text in each.broken):
        skipped = config.data.on_corrupt_image == "skip"  # only files break
        text = "skipped in training" if skipped else "training would stop: delete them, or data.on_corrupt_image=skip"
        yield Finding("note" if skipped else "problem", f"{_many(len(broken), 'broken file')}; {text}", broken)


def _doubled(datasets, surveys):
    across, contradicting, within = [], [], []
    for group in duplicates(surveys):
        labels = {int(datasets[part].labels[index]) for part, index in group}
        parts = {part for part, _ in group}
        kind = contradicting if len(labels) > 1 else across if len(parts) > 1 else within
        kind.append(" = ".join(_sample_name(datasets[part], PARTS[part], index) for part, index in group))
    if across:
        text = "in training and in validation, which makes the error look too low; keep one of each"
        yield Finding("problem", f"{_many(len(across), 'picture')} {text}", tuple(across))
    if contradicting:
        text = f"{_many(len(contradicting), 'picture')} in several classes; keep the right one"
        yield Finding("problem", text, tuple(contradicting))
    if within:
        yield Finding("note", f"{_many(len(within), 'picture')} there more than once", tuple(within))


def _unequal(datasets):
    classes = datasets[0].classes
    for part, dataset in zip(PARTS, datasets, strict=True):
        counts = np.bincount(dataset.labels, minlength=len(classes))
        fewest, most = counts.argmin(), counts.argmax()
        if not counts[fewest]:
            missing = tuple(name for name, count in zip(classes, counts, strict=True) if not count)
            yield Finding("note", f"no {part} picture of {_many(len(missing), 'class', 'classes')}", missing)
        elif counts[most] >= UNEVEN * counts[fewest]:
            text = f"{counts[most]:,} of {classes[most]}, {counts[fewest]:,} of {classes[fewest]}"
            yield Finding("note", f"uneven classes in {part}: {text}")
    if (images := len(datasets[1])) < FEW:
        yield Finding("note", f"{_many(images, 'validation picture')}: each one is {100 / images:.1f} % of the error")


def _peculiar(datasets, surveys):
    short_sides = np.concatenate([each.sizes.min(axis=1) for each in surveys])
    side, resize_short = datasets[0].image_shape[1], datasets[0].preparation.resize_short  # None for arrays
    if resize_short and (small := int((short_sides < side).sum())):
        yield Finding("note", f"{_many(small, 'picture')} smaller than data.image_size ({side}), scaled up")
    if resize_short and (huge := int((short_sides > HUGE * resize_short).sum())):
        text = f"over {HUGE} times as large as data.resize_short ({resize_short}); smaller copies are read much faster"
        yield Finding("note", f"{_many(huge, 'picture')} {text}")
    if alpha := sum(each.modes[mode] for each in surveys for mode in ALPHA):
        text = "with an alpha channel, which is dropped: what was transparent shows the colour stored under it"
        yield Finding("note", f"{_many(alpha, 'picture')} {text}")
    if several := sum(each.several for each in surveys):
        yield Finding("note", f"{_many(several, 'file')} with several pictures, of which the first is taken")
    dark = [_sample_name(datasets[part], PARTS[part], index) for part in (0, 1) for index in surveys[part].dark]
    if dark and datasets[0].preparation.resize_short:
        text = "all but black: are they meant so, or 12 bits stored as 16 in colour?"
        yield Finding("note", f"{_many(len(dark), 'picture')} {text}", tuple(dark))
    yield from _unused(getattr(datasets[0], "unused", {}))
    opened, images = sum(each.opened for each in surveys), sum(map(len, datasets))
    if opened < images:
        text = "pictures were opened; among the others some can be broken or doubled"
        yield Finding("note", f"{opened:,} of {images:,} {text}")


def _unused(unused):
    reasons = {}
    for (reason, folder), number in unused.items():
        reasons.setdefault(reason, []).append((str(folder), number))
    for reason, places in sorted(reasons.items()):
        number = sum(number for _, number in places)
        yield Finding(
            "note", f"{counted(reason, number)}: not taken",
            tuple(f"{folder}: {number:,}" for folder, number in sorted(places)),
        )


def _sample_name(dataset, part, index):
    return f"{dataset.path(index) or f'image {index}'} ({part}, {dataset.classes[dataset.labels[index]]})"


def _many(count, word, plural=None):
    return f"{count:,} {word if count == 1 else plural or word + 's'}"
