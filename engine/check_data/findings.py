"""What is wrong with a data set, and what is good to know of it, in words."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from data import Dataset
from data.check import Survey, duplicates
from data.walk import counted

PARTS = ("training", "validation")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
HUGE = 8  # times resize_short: decoding such a picture takes far longer than all that comes after


class Finding(NamedTuple):
    """One line of text and, one line each, what it is about. kind is "problem", to be mended, or "note"."""

    kind: str
    text: str
    items: tuple[str, ...] = ()


def findings(
    datasets: Sequence[Dataset],
    surveys: Sequence[Survey],
    *,
    images_per_step: int,
    on_corrupt_image: str = "stop",
    on_corrupt_video: str | None = None,
    task_findings: Iterable[Finding] = (),
    noun: str = "picture",
) -> list[Finding]:
    """All that there is to say of (training, validation) and the Survey of each, problems first.

    task_findings: what the task says of labels, boxes and the like. on_corrupt_image: as of image_folder;
    on_corrupt_video: as of video_folder, None of other sets. noun: what people call a sample.
    """
    found = [
        *_unreadable(surveys, on_corrupt_image, on_corrupt_video), *_doubled(datasets, surveys, noun),
        *task_findings, *_too_few(datasets[0], images_per_step, noun), *_peculiar(datasets, surveys, noun),
    ]
    return sorted(found, key=lambda each: each.kind != "problem")


def differently_labelled(datasets: Sequence[Dataset], group: list[tuple[int, int]]) -> bool:
    """Whether samples of one picture, (number of the set, index), have several labels: what that is, tasks say."""
    own = [(datasets[part].labels, index) for part, index in group]
    return len({None if labels is None else int(labels[index]) for labels, index in own}) > 1


def sample_names(datasets: Sequence[Dataset], group: list[tuple[int, int]]) -> str:
    """The samples of one picture, (number of the set, index), as people find them."""
    return " = ".join(_sample_name(datasets[part], PARTS[part], index) for part, index in group)


def many(count: int, word: str, plural: str | None = None) -> str:
    """A number with its word: 1 picture, 2 pictures."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def _unreadable(surveys, on_corrupt_image, on_corrupt_video):
    setting, value = "on_corrupt_image", on_corrupt_image
    if on_corrupt_video:
        setting, value = "on_corrupt_video", on_corrupt_video
    parts = [[text for _, text in survey.broken] for survey in surveys]
    skipped = sum(parts[: 1 if on_corrupt_video else 2] if value == "skip" else [], [])  # in validation no video is
    if skipped:
        yield Finding("note", f"{many(len(skipped), 'broken file')}; skipped in training", tuple(skipped))
    if broken := sum(parts, [])[len(skipped) :]:
        advice = "" if value == "skip" else f", or data.{setting}=skip"
        text = f"{many(len(broken), 'broken file')}; training would stop: delete them{advice}"
        yield Finding("problem", text, tuple(broken))


def _doubled(datasets, surveys, noun):
    across, within = [], []
    for group in duplicates(surveys):
        if not differently_labelled(datasets, group):
            parts = {part for part, _ in group}
            (across if len(parts) > 1 else within).append(sample_names(datasets, group))
    if across:
        text = "in training and in validation, which makes the error look too low; keep one of each"
        yield Finding("problem", f"{many(len(across), noun)} {text}", tuple(across))
    if within:
        yield Finding("note", f"{many(len(within), noun)} there more than once", tuple(within))


def _too_few(training, images_per_step, noun):
    if images_per_step > len(training):
        text = f"for a step of {images_per_step}; lower batch.images_per_worker"
        yield Finding("problem", f"{many(len(training), f'training {noun}')} {text}")


def _peculiar(datasets, surveys, noun):
    short_sides = np.concatenate([each.sizes.min(axis=1) for each in surveys])
    side, resize_short = datasets[0].image_shape[-1], datasets[0].preparation.resize_short  # None for arrays
    is_cropped = resize_short and not hasattr(datasets[0].preparation, "resize_long")
    if is_cropped and (small := int((short_sides < side).sum())):
        yield Finding("note", f"{many(small, noun)} smaller than data.image_size ({side}), scaled up")
    if resize_short and (huge := int((short_sides > HUGE * resize_short).sum())):
        text = f"over {HUGE} times as large as data.resize_short ({resize_short}); smaller copies are read much faster"
        yield Finding("note", f"{many(huge, noun)} {text}")
    if alpha := sum(each.modes[mode] for each in surveys for mode in ALPHA):
        text = "with an alpha channel, which is dropped: what was transparent shows the colour stored under it"
        yield Finding("note", f"{many(alpha, 'picture')} {text}")
    if several := sum(each.several for each in surveys):
        yield Finding("note", f"{many(several, 'file')} with several pictures, of which the first is taken")
    dark = [sample_names(datasets, [(part, index)]) for part in (0, 1) for index in surveys[part].dark]
    if dark and datasets[0].preparation.resize_short:
        text = "all but black: are they meant so, or 12 bits stored as 16 in colour?"
        yield Finding("note", f"{many(len(dark), noun)} {text}", tuple(dark))
    yield from _unused(datasets[0].unused)
    opened, images = sum(each.opened for each in surveys), sum(map(len, datasets))
    if opened < images:
        text = f"{noun}s were opened; among the others some can be broken or doubled"
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
    where = part if dataset.labels is None else f"{part}, {dataset.classes[dataset.labels[index]]}"
    return f"{dataset.path(index) or f'image {index}'} ({where})"
