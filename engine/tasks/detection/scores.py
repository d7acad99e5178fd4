"""What a detector's answers about a data set are worth."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import paddle

from engine.files import write_text
from engine.tasks.detection.average_precision import AveragePrecision
from engine.tasks.detection.results import answers_of, results_of
from engine.terminal import printable


class DetectionScores:
    """Average precision of boxes and, with `masks`, of masks; `dataset` knows what its pictures show.

    See `engine.tasks.task.Scores`. All is judged in pixels of the stored pictures.
    """

    def __init__(self, dataset: Any, masks: bool):
        self.dataset, self.kinds = dataset, {**({"mask": "segm"} if masks else {}), "box": "bbox"}
        self._sizes, self._annotations, self.results = {}, [], []

    @property
    def images(self) -> int:
        return len(self._sizes)

    def add(self, batch: dict, predictions: dict[str, paddle.Tensor]) -> None:
        dataset = self.dataset
        for index, size, answer in zip(
            batch["index"].tolist(), batch["original_size"].tolist(), answers_of(predictions), strict=True
        ):
            image_id = int(dataset.image_ids[index])
            self._sizes[image_id] = size
            self._annotations += dataset.annotations(index)
            self.results += results_of(answer, image_id, dataset.category_ids, size)

    def gather(self) -> None:
        if paddle.distributed.get_world_size() > 1:
            shares = []
            paddle.distributed.all_gather_object(shares, (self._sizes, self._annotations, self.results))
            sizes, annotations, results = zip(*shares, strict=True)
            self._sizes = {image: size for share in sizes for image, size in share.items()}
            self._annotations, self.results = sum(annotations, []), sum(results, [])

    @cached_property
    def _precisions(self):
        return {
            name: AveragePrecision(self._sizes, self.dataset.category_ids, self._annotations, self.results, kind)
            for name, kind in self.kinds.items()
        }

    def numbers(self) -> dict[str, float | None]:
        """mask_ap, mask_ap50, … and box_ap, …: fractions; None where there is no object of that size."""
        return {
            f"{name}_{number}": value
            for name, precision in self._precisions.items() for number, value in precision.numbers().items()
        }

    def details(self) -> dict:
        """classes: how many objects each has, and its APs."""
        return {"classes": self._by_class()}

    def _by_class(self):
        counts = dict.fromkeys(self.dataset.category_ids, 0)
        for annotation in self._annotations:
            counts[annotation["category_id"]] += not annotation["iscrowd"]
        aps = {f"{name}_ap": precision.by_class() for name, precision in self._precisions.items()}
        rows = enumerate(zip(self.dataset.classes, self.dataset.category_ids, strict=True))
        return [
            {"label": label, "class": name, "category_id": int(category), "objects": counts[category],
             **{key: values[label] for key, values in aps.items()}}
            for label, (name, category) in rows
        ]

    def in_words(self, longest: int) -> str:
        """A line for each class that has objects to find, the worst first; of more than `longest` the first ones."""
        keys = [f"{name}_ap" for name in self.kinds]
        judged = [row for row in self._by_class() if row["objects"] and row[keys[0]] is not None]
        rows = sorted(judged, key=lambda row: (row[keys[0]], row["label"]))
        lines = ["".join(f"{key.replace('_ap', ' AP'):>9}" for key in keys) + "  objects  class"]
        for row in rows[:longest]:
            lines.append(
                "".join(f"{100 * row[key]:7.2f} %" for key in keys)
                + f"{row['objects']:9,}  {printable(row['class'])}"
            )
        if len(rows) > longest:
            lines.append(f"… {len(rows) - longest:,} more classes, all of them with --json")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Every answer as COCO writes results, with the ids of the annotation file, into x.json; where there are masks,
        boxes into x.bbox.json and masks into x.segm.json.

        COCO's server takes these one by one, and to pycocotools a mask beside its box would be as large as that.
        """
        for kind, other in (("bbox", "segmentation"), ("segm", "bbox")):
            if kind in self.kinds.values():
                entries = [{key: value for key, value in result.items() if key != other} for result in self.results]
                target = path.with_suffix(f".{kind}{path.suffix}") if len(self.kinds) > 1 else path
                write_text(target, json.dumps(entries) + "\n")
