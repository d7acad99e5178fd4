"""Which classes and images a run is trained on: what its config does not say, kept in its folder and compared."""

import json
from pathlib import Path

import pydantic

from data import Dataset
from engine.errors import InputError
from engine.files import read_text, write_text
from engine.run.saved import Strict, first_error

DATA_FILE = "data.json"  # in a run's folder
FEW = 8  # classes that are named, all of them, where they differ


class Part(Strict):
    images: int
    digest: str  # another one for other images, labels or order; wherever they lie


class DataIdentity(Strict):
    """Classes in the order of their labels, and the images; None where a run of an older version did not note them."""

    classes: list[str]
    training: Part | None = None
    validation: Part | None = None


def data_identity(train_set: Dataset, validation_set: Dataset) -> DataIdentity:
    """What is to be noted of two data sets. Their listing is read, or what lies in memory, no picture's file."""
    parts = [Part(images=len(part), digest=part.digest()) for part in (train_set, validation_set)]
    return DataIdentity(classes=list(train_set.classes), training=parts[0], validation=parts[1])


def in_words(train_set: Dataset, validation_set: Dataset) -> str:
    """Such as `800 training and 200 validation images of 10 classes`."""
    classes = f" of {len(train_set.classes)} classes" if train_set.classes else ""
    return f"{len(train_set):,} training and {len(validation_set):,} validation images{classes}"


def write_data_identity(folder: Path, identity: DataIdentity) -> None:
    """Note it in a run's folder."""
    write_text(folder / DATA_FILE, json.dumps(identity.model_dump(), indent=2, ensure_ascii=False) + "\n")


def read_data_identity(folder: Path) -> DataIdentity | None:
    """What a run's folder says of its data; None where it says nothing. Raises InputError where it is damaged."""
    path = folder / DATA_FILE
    if not path.exists():
        return None
    try:
        return DataIdentity.model_validate_json(read_text(path))
    except pydantic.ValidationError as failure:
        raise InputError(f"{path}: {first_error(failure)}; expected one that tools/train.py wrote") from None


def data_changes(before: DataIdentity, now: DataIdentity) -> list[tuple[str, str, str]]:
    """(what, before, now), in words, of what differs; what `before` does not know is not compared."""
    changes = []
    if before.classes != now.classes:
        longest = max(len(before.classes), len(now.classes))
        at = next(label for label in range(longest) if before.classes[label:][:1] != now.classes[label:][:1])
        changes.append(("classes", _named(before.classes, at), _named(now.classes, at)))
    for what in ("training", "validation"):
        was, is_now = getattr(before, what), getattr(now, what)
        if was and was.images != is_now.images:
            changes.append((f"{what} images", str(was.images), str(is_now.images)))
        elif was and was != is_now:
            others = f"as many others, or in another order ({is_now.digest[:8]})"
            changes.append((f"{what} images", f"{was.images} ({was.digest[:8]})", others))
    return changes


def _named(classes, at):
    """All classes, or where they are many the one `at` which they begin to differ."""
    if len(classes) <= FEW:
        return ", ".join(classes)
    return f"{len(classes)}, that of label {at} {classes[at]}" if at < len(classes) else str(len(classes))
