"""A detector's answers as COCO writes results: boxes as x, y, width, height, masks as run lengths."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import paddle

from models import paste_mask


class Answer:
    """What a network says of one picture, all in NumPy: boxes [D, 4] in pixels of it, scores [D], classes [D] and, of a
    network with masks, masks [D, S, S], probabilities over the box."""

    def __init__(self, answers: Mapping[str, np.ndarray], row: int):
        own = slice(int(answers["objects"][row]))
        self.boxes, self.scores, self.classes = (answers[name][row, own] for name in ("boxes", "scores", "classes"))
        self.masks = answers["masks"][row, own] if "masks" in answers else None

    def __len__(self) -> int:
        return len(self.scores)


def answers_of(predictions: Mapping[str, paddle.Tensor]) -> list[Answer]:
    """What a batch's predictions say of each of its pictures."""
    answers = {name: value.numpy() for name, value in predictions.items()}
    return [Answer(answers, row) for row in range(len(answers["objects"]))]


def results_of(
    answer: Answer, image_id: int, category_ids: Sequence[int], size: Sequence[int]
) -> Iterator[dict]:
    """Entries of COCO's result files for a picture of size (height, width), the best first."""
    for number, box in enumerate(answer.boxes.tolist()):
        x1, y1, x2, y2 = box
        result = {
            "image_id": int(image_id), "category_id": int(category_ids[answer.classes[number]]),
            "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(answer.scores[number]),
        }
        if answer.masks is not None:
            result["segmentation"] = run_lengths(paste_mask(answer.masks[number], box, *map(int, size)))
        yield result


def run_lengths(mask: np.ndarray) -> dict:
    """bool [H, W] -> {"size": [H, W], "counts"}: COCO's compressed run lengths, of text as JSON wants it."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
