"""Which classes are taken for which, and the error of each class."""

from collections.abc import Iterable

import numpy as np
import paddle

from engine.terminal import printable


class Confusion:
    """What a classifier said of each image of a set, beside what it is.

    `add` takes the batches of this device, `gather` puts those of all devices together; then `matrix` and `by_class`
    are of the whole set. `classes` are the names, in the order of the labels.
    """

    def __init__(self, classes: Iterable[str]):
        self.classes = tuple(classes)
        self._labels, self._guesses = [], []

    def add(self, labels: np.ndarray, guesses: np.ndarray) -> None:
        """Of a batch of N images the true labels and the most probable ones, both integers [N]."""
        self._labels.append(labels)
        self._guesses.append(guesses)

    def gather(self) -> None:
        """Let every device have what all of them added."""
        if paddle.distributed.get_world_size() > 1:
            shares = []
            paddle.distributed.all_gather_object(shares, (self._labels, self._guesses))
            self._labels, self._guesses = ([part for share in shares for part in share[which]] for which in (0, 1))

    @property
    def images(self) -> int:
        """How many were evaluated."""
        return sum(map(len, self._labels))

    def matrix(self) -> np.ndarray:
        """Images int64 [K, K] by true class (row) and by what they were taken for (column)."""
        count = len(self.classes)
        pairs = self._joined(self._labels) * count + self._joined(self._guesses)
        return np.bincount(pairs, minlength=count**2).reshape(count, count)

    def by_class(self) -> list[dict]:
        """{"label", "class", "images", "wrong", "top1_error"} of each class, JSON-able; the error of none is None."""
        labels = self._joined(self._labels)
        missed = labels[labels != self._joined(self._guesses)]
        images, wrong = (np.bincount(which, minlength=len(self.classes)).tolist() for which in (labels, missed))
        return [
            {"label": label, "class": name, "images": images[label], "wrong": wrong[label],
             "top1_error": wrong[label] / images[label] if images[label] else None}
            for label, name in enumerate(self.classes)
        ]

    def taken_for(self, label: int) -> tuple[int, int] | None:
        """(label, images) of the wrong class that a class is most often taken for; None where there is none."""
        guesses = self._joined(self._guesses)[self._joined(self._labels) == label]
        counts = np.bincount(guesses[guesses != label], minlength=len(self.classes))
        return (int(counts.argmax()), int(counts.max())) if counts.any() else None

    def _joined(self, parts):
        return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)


def by_class_text(confusion: Confusion, longest: int) -> str:
    """A line for each class that has images, the highest error first; of more than `longest` the first ones."""
    by_class = confusion.by_class()
    there = [each for each in by_class if each["images"]]
    there.sort(key=lambda each: (-each["top1_error"], -each["images"], each["label"]))
    lines = ["  error   wrong  images  class"]
    for each in there[:longest]:
        line = f"{100 * each['top1_error']:6.2f} %{each['wrong']:7,} {each['images']:7,}  {printable(each['class'])}"
        if mistaken := confusion.taken_for(each["label"]):
            line += f", most often taken for {printable(confusion.classes[mistaken[0]])} ({mistaken[1]:,})"
        lines.append(line)
    if len(there) > longest:
        lines.append(f"… {len(there) - longest:,} more classes, all of them with --json")
    if missing := [printable(each["class"]) for each in by_class if not each["images"]]:
        more = f" and {len(missing) - longest:,} more" if len(missing) > longest else ""
        lines.append(f"no images of {', '.join(missing[:longest])}{more}")
    return "\n".join(lines)
