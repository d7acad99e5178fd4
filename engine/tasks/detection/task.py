"""Finding objects: average precision, sample images and picture files with what was found, the exported form."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from PIL import Image

from data import MAX_PIXELS, DataError, Dataset, Preparation, read_picture
from data.check import Survey
from data.detection.batch import Sample, detection_batch
from data.detection.dataset import DetectionDataset
from engine.check_data.findings import Finding
from engine.check_data.samples import Sheet
from engine.errors import InputError
from engine.run.measure import Measure
from engine.tasks.detection.drawing import draw_objects, drawable
from engine.tasks.detection.findings import object_counts, object_findings
from engine.tasks.detection.results import Answer, answers_of, check_pycocotools, told
from engine.tasks.detection.scores import DetectionScores
from engine.tasks.detection.sheet import found_below, of_objects
from engine.tasks.picture_files import find_pictures
from engine.terminal import printable
from models import DetectionGraph

SURE = 0.5  # the score from which an answer is told and drawn
KEPT = 4  # sample images that the run folder keeps
LEGIBLE = 300  # pixels of a short side; a smaller picture is drawn enlarged, so that names have room


class Shown(NamedTuple):
    """A sample image: float [C, h, w] as the network saw it, its stored (height, width), the answer, its index."""

    image: np.ndarray
    original_size: tuple[int, int]
    answer: Answer
    index: int


class Detection:
    """See `engine.tasks.task.Task`. Predictions are those of models.MaskRCNN."""

    noun = "picture"

    def __init__(self, masks: bool):
        self.masks = masks
        kinds = [*["mask"] * masks, "box"]
        self.measures = tuple(
            Measure(f"{kind}_ap{threshold}", f"{kind} AP{threshold}", lower_is_better=False)
            for kind in kinds for threshold in ("", "50", "75")
        )

    def scores(self, dataset: Dataset) -> DetectionScores:
        check_pycocotools()
        return DetectionScores(dataset, self.masks)

    def check_files(self, confusion: Path | None, results: Path | None) -> None:
        if confusion:
            raise InputError("--confusion: a detector's answers are of no one class; --results writes them all")

    def samples(self, batch: dict, predictions: dict[str, paddle.Tensor]) -> list[Shown]:
        rows = zip(
            batch["image"], batch["size"], batch["original_size"], answers_of(predictions), batch["index"], strict=True
        )
        return [Shown(image[:, :height, :width], tuple(original), answer, int(index))
                for image, (height, width), original, answer, index in rows]

    def pictures(self, samples: Sequence[Shown], dataset: Dataset) -> dict[str, np.ndarray]:
        """{tag: uint8 [H, W, 3]}: sample images as the network saw them, with what it is sure of."""
        pictures = {}
        for number, (image, original_size, answer, _) in enumerate(samples):
            picture = Image.fromarray(np.ascontiguousarray(dataset.preparation.shown(image)))
            size = image.shape[1:]
            objects = told(answer.resized(original_size, size), dataset.preparation, size, SURE)
            pictures[f"eval/sample_{number}"] = np.asarray(self.drawn(picture, {"objects": objects}))
        return pictures

    def found_below(self, samples: Sequence[Shown], dataset: Dataset) -> np.ndarray:
        return found_below(dataset, [(each.index, each.answer) for each in samples[:KEPT]], SURE)

    def find(self, paths: Sequence[str]) -> list[Path]:
        return find_pictures(paths)

    @paddle.no_grad()
    def answers(
        self, model: nn.Layer, preparation: Preparation, files: list[Path], *, top: int | None = None,
        least: float | None = None, max_pixels: int = MAX_PIXELS,
    ) -> Iterator[dict]:
        """Yield {"file", "size", "objects"} for each file: (height, width) and, the best first, what `told` says.

        A picture that cannot be read gives {"file", "error"} in its place. top: all where it is None; least: 0.5.
        """
        check_pycocotools()
        for file in files:
            try:
                picture = read_picture(file, max_pixels, 0)
            except DataError as error:
                yield {"file": str(file), "error": str(error)}
                continue
            size = [picture.height, picture.width]
            batch = detection_batch([Sample(preparation(picture), tuple(size), 0)], training=False)
            (answer,) = answers_of(model({name: paddle.to_tensor(value) for name, value in batch.items()}))
            objects = told(answer, preparation, size, SURE if least is None else least)
            yield {"file": str(file), "size": size, "objects": objects[:top]}

    def in_words(self, answer: dict) -> str:
        """What `answers` gave for a picture that could be read, as a line."""
        found = (f"{each['class']} {100 * each['score']:.1f} %" for each in answer["objects"])
        return printable(f"{answer['file']}: {', '.join(found) or 'nothing found'}")

    def drawing(self) -> Callable[[Image.Image, dict], Image.Image]:
        return self.drawn

    def drawn(self, picture: Image.Image, answer: dict) -> Image.Image:
        """The picture, a small one enlarged, with boxes, masks, names and scores of an answer's objects."""
        scale = min(LEGIBLE // min(picture.size), 4 * LEGIBLE // max(picture.size))
        return draw_objects(picture, *drawable(answer["objects"]), scale=max(1, scale))

    def check(self, dataset: Dataset) -> None:
        check_pycocotools()
        if not isinstance(dataset, DetectionDataset):
            raise InputError("data: its pictures have no boxes; a detector wants coco's or garment_scenes'")
        if self.masks and not dataset.has_masks:
            raise InputError("data: has boxes and no masks; choose model.name=faster_rcnn")
        if not any(not entry["iscrowd"] for index in range(len(dataset)) for entry in dataset.annotations(index)):
            raise InputError(f"data: its {len(dataset)} pictures show no object: there is nothing to learn or judge by")

    def findings(
        self, datasets: Sequence[Dataset], surveys: Sequence[Survey], network: Callable[[], nn.Layer]
    ) -> Iterator[Finding]:
        return object_findings(datasets, surveys, network)

    def sheet(self, dataset: Dataset) -> Sheet:
        return of_objects(dataset)

    def class_counts(self, datasets: Sequence[Dataset]) -> list[dict]:
        return object_counts(datasets)

    def exported(self, model: nn.Layer) -> nn.Layer:
        return DetectionGraph(model)
