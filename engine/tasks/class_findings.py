"""What is wrong with the labels of a data set to be classified, and how many images each class has."""

from collections.abc import Iterator, Sequence

import numpy as np

from data import Dataset
from data.check import Survey, duplicates
from engine.check_data.findings import PARTS, Finding, differently_labelled, many, sample_names

UNEVEN = 10  # times the smallest class: more is worth a word
FEW = 100  # samples for validation: with fewer, each one shows in the error


def class_counts(datasets: Sequence[Dataset]) -> list[dict]:
    """{"label", "class", "training", "validation"} of each class, JSON-able; nothing where there are no labels."""
    if not _are_labelled(datasets):
        return []
    counts = zip(*(_counts(dataset, datasets[0].classes).tolist() for dataset in datasets), strict=True)
    return [
        {"label": label, "class": name, **dict(zip(PARTS, images, strict=True))}
        for label, (name, images) in enumerate(zip(datasets[0].classes, counts, strict=True))
    ]


def class_findings(datasets: Sequence[Dataset], surveys: Sequence[Survey], noun: str = "picture") -> Iterator[Finding]:
    """All that there is to say of the labels of (training, validation); nothing where there are none.

    noun: what people call a sample.
    """
    if not _are_labelled(datasets):
        return
    if contradicting := [group for group in duplicates(surveys) if differently_labelled(datasets, group)]:
        text = f"{many(len(contradicting), noun)} in several classes; keep the right one"
        yield Finding("problem", text, tuple(sample_names(datasets, group) for group in contradicting))
    classes = datasets[0].classes
    for part, dataset in zip(PARTS, datasets, strict=True):
        counts = _counts(dataset, classes)
        fewest, most = counts.argmin(), counts.argmax()
        if not counts[fewest]:
            missing = tuple(name for name, count in zip(classes, counts, strict=True) if not count)
            yield Finding("note", f"no {part} {noun} of {many(len(missing), 'class', 'classes')}", missing)
        elif counts[most] >= UNEVEN * counts[fewest]:
            text = f"{counts[most]:,} of {classes[most]}, {counts[fewest]:,} of {classes[fewest]}"
            yield Finding("note", f"uneven classes in {part}: {text}")
    if (images := len(datasets[1])) < FEW:
        yield Finding("note", f"{many(images, f'validation {noun}')}: each one is {100 / images:.1f} % of the error")


def _are_labelled(datasets):
    return all(dataset.labels is not None for dataset in datasets)


def _counts(dataset, classes):
    return np.bincount(dataset.labels, minlength=len(classes))
