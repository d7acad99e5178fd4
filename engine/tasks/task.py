"""What the rest of engine asks of a task: classifying, detecting, clips. It never asks which task it is."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from paddle import nn
from PIL import Image

from data import Dataset, Preparation
from data.check import Survey
from engine.check_data.findings import Finding
from engine.check_data.samples import Sheet
from engine.run.measure import Measure


class Scores(Protocol):
    """What a network's predictions of a data set are worth: added up batch by batch, on each device for its share."""

    images: int  # that were added

    def add(self, batch: dict, predictions: Any) -> None:
        """A batch of N images as the loader gives it, and what the network said of it in evaluation."""

    def gather(self) -> None:
        """Let every device have what all of them added."""

    def numbers(self) -> dict[str, float | None]:
        """By name, the measures and what else there is, such as the loss; of all images that were added.

        None of what else there is: nothing was there to judge.
        """

    def details(self) -> dict:
        """What goes beyond `numbers`, for JSON."""

    def in_words(self, longest: int) -> str:
        """The same for the screen, in some `longest` lines; an empty text where there is nothing."""

    def draw(self, path: Path) -> None:
        """Draw which class is taken for which, where `Task.check_files` has let it pass."""

    def write(self, path: Path) -> None:
        """Write all answers as other programs read them, where it has let that pass."""


class Task(Protocol):
    """One for all networks of its kind; it keeps nothing."""

    measures: tuple[Measure, ...]  # the first is the headline, by which the best checkpoint is chosen
    noun: str  # what people call a sample

    def scores(self, dataset: Dataset) -> Scores:
        """To be filled over a data set."""

    def check_files(self, confusion: Path | None, results: Path | None) -> None:
        """Raise InputError where scores have no such files: a drawing of the confusion, all answers for others."""

    def samples(self, batch: dict, predictions: Any) -> list:
        """For each image of a batch what `pictures` wants of it."""

    def pictures(self, samples: Sequence, dataset: Dataset) -> dict[str, np.ndarray]:
        """{tag: uint8 [H, W, 3]}: sample images with the answers."""

    def found_below(self, samples: Sequence, dataset: Dataset) -> np.ndarray | None:
        """A picture to be kept, uint8 [H, W, 3]: what some sample images show, and in the lower half what was found
        there; None where a picture cannot tell it. samples: one or more."""

    def find(self, paths: Sequence[str]) -> list[Path]:
        """The files among paths, folders searched, that `answers` can be given. Raises InputError."""

    def answers(self, model: nn.Layer, preparation: Preparation, files: list[Path], **settings: Any) -> Iterator[dict]:
        """Of each file {"file", ...}, or {"file", "error"} where it cannot be read.

        settings: how many guesses at most (top), from which score on (least), both None for the task's own; and of the
        data section, where it has them, max_pixels, test_clips and test_crops.
        """

    def in_words(self, answer: dict) -> str:
        """An answer as a line."""

    def drawing(self) -> Callable[[Image.Image, dict], Image.Image]:
        """What draws its answer into a picture. Raises InputError where there is nothing to draw."""

    def exported(self, model: nn.Layer) -> nn.Layer:
        """image float32 [N, C, H, W] -> a tensor or several: what deployment calls, of Paddle's operators only.

        `input_shape`, where it has one, says which of the sizes are open (None); else N alone is.
        """

    def check(self, dataset: Dataset) -> None:
        """Raise InputError where nothing can be learned from a data set, or judged by it."""

    def findings(
        self, datasets: Sequence[Dataset], surveys: Sequence[Survey], network: Callable[[], nn.Layer]
    ) -> Iterator[Finding]:
        """What check_data says beyond broken, doubled and odd images; `network` builds the config's network."""

    def sheet(self, dataset: Dataset) -> Sheet:
        """What check_data's sheet shows of samples."""

    def class_counts(self, datasets: Sequence[Dataset]) -> list[dict]:
        """What check_data lists: {"label", "class", "training", "validation"} of each class; maybe nothing."""
