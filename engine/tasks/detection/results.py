"""A detector's answers as COCO writes results, boxes as x, y, width, height and masks as run lengths, and as people
read them."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import paddle

from data import Preparation
from engine.errors import InputError
from models import paste_mask


@dataclass(frozen=True)
class Answer:
    """What a network says of one picture, the best first: boxes [D, 4] in pixels of it, scores [D], classes [D] and, of
    a network with masks, masks [D, S, S], probabilities over the box. All in NumPy."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None

    def first(self, count: int) -> "Answer":
        """Of so many objects."""
        values = (self.boxes, self.scores, self.classes, self.masks)
        return Answer(*(value if value is None else value[:count] for value in values))

    def resized(self, before: Sequence[int], after: Sequence[int]) -> "Answer":
        """For the same picture of another size; both are (height, width)."""
        vertical, horizontal = (there / here for here, there in zip(before, after, strict=True))
        return replace(self, boxes=self.boxes * [horizontal, vertical, horizontal, vertical])


def check_pycocotools() -> None:
    """Raise InputError where pycocotools, which is no requirement of the rest, is not installed."""
    if importlib.util.find_spec("pycocotools") is None:
        raise InputError("detection wants pycocotools, which is not here: pip install -r requirements-detection.txt")


def answers_of(predictions: Mapping[str, paddle.Tensor]) -> list[Answer]:
    """What a batch's predictions say of each of its pictures."""
    arrays = {name: value.numpy() for name, value in predictions.items()}
    names = ("boxes", "scores", "classes", "masks")
    return [
        Answer(*(arrays[name][row] if name in arrays else None for name in names)).first(count)
        for row, count in enumerate(arrays["objects"].tolist())
    ]


def results_of(answer: Answer, image_id: int, category_ids: Sequence[int], size: Sequence[int]) -> Iterator[dict]:
    """Entries of COCO's result files for a picture of size (height, width)."""
    for number, box in enumerate(answer.boxes.tolist()):
        x1, y1, x2, y2 = box
        result = {
            "image_id": int(image_id), "category_id": int(category_ids[answer.classes[number]]),
            "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(answer.scores[number]),
        }
        if answer.masks is not None:
            result["segmentation"] = run_lengths(paste_mask(answer.masks[number], box, *map(int, size)))
        yield result


def told(answer: Answer, preparation: Preparation, size: Sequence[int], least: float) -> list[dict]:
    """{"class", "category_id", "score", "box", "mask"} of each object whose score is at least `least`, JSON-able.

    box is [x1, y1, x2, y2] in pixels of the picture of size (height, width), mask COCO's run lengths, where there are
    masks; category_id the data set's own number of the class.
    """
    ids = preparation.category_ids or range(len(preparation.classes))
    names = dict(zip(ids, preparation.classes, strict=True))
    objects = []
    for result in results_of(answer.first(int((answer.scores >= least).sum())), 0, ids, size):
        x, y, width, height = result["bbox"]
        objects.append({
            "class": names[result["category_id"]], "category_id": result["category_id"], "score": result["score"],
            "box": [x, y, x + width, y + height],
            **({"mask": result["segmentation"]} if "segmentation" in result else {}),
        })
    return objects


def run_lengths(mask: np.ndarray) -> dict:
    """bool [H, W] -> {"size": [H, W], "counts"}: COCO's compressed run lengths, of text as JSON wants it."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def pixels_of(run_lengths: dict) -> np.ndarray:
    """The inverse: bool [H, W]."""
    from pycocotools import mask as coco_mask

    return coco_mask.decode(run_lengths).astype(bool)
