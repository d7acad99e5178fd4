"""Average precision as COCO defines it, computed by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

THRESHOLDS = {"": None, "50": 0.5, "75": 0.75}  # of the IoU from which an answer is right; None: the mean of ten
AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}  # of objects: below 32 x 32 pixels, below 96 x 96, above
NUMBERS = (*(f"ap{name}" for name in THRESHOLDS), *(f"ap{name}" for name in AREAS if name))


class AveragePrecision:
    """How well `results` find `annotations`, boxes ("bbox") or masks ("segm").

    sizes: (height, width) of each picture by its id. annotations and results are entries of COCO's files, in pixels of
    the picture, the former without "id": pycocotools takes an object of id 0 for one that was not found.
    """

    def __init__(
        self, sizes: Mapping[int, Sequence[int]], category_ids: Sequence[int], annotations: Sequence[dict],
        results: Sequence[dict], kind: Literal["bbox", "segm"],
    ):
        from pycocotools.cocoeval import COCOeval  # here, for who classifies need not wait for it

        with contextlib.redirect_stdout(io.StringIO()):  # it tells how it gets on
            evaluation = COCOeval(
                _indexed(sizes, category_ids, annotations), _indexed(sizes, category_ids, _found(results, kind)), kind
            )
            evaluation.evaluate()
            evaluation.accumulate()
        self._precision = evaluation.eval["precision"][..., -1]  # [thresholds, recalls, classes, areas], -1: no object
        self._thresholds = evaluation.params.iouThrs
        self._places = [list(evaluation.params.catIds).index(category) for category in category_ids]

    def numbers(self) -> dict[str, float | None]:
        """{"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"}; None where there is no such object."""
        by_threshold = {f"ap{name}": self._mean(threshold=value) for name, value in THRESHOLDS.items()}
        return by_threshold | {f"ap{name}": self._mean(area=area) for name, area in AREAS.items() if name}

    def by_class(self) -> list[float | None]:
        """The AP of each class, in the order of category_ids; None of one without objects."""
        return [_mean(self._precision[:, :, place, 0]) for place in self._places]

    def _mean(self, threshold=None, area=0):
        chosen = slice(None) if threshold is None else np.isclose(self._thresholds, threshold)
        return _mean(self._precision[chosen][..., area])


def _mean(precision):
    there = precision[precision > -1]
    return float(there.mean()) if there.size else None


def _indexed(sizes, category_ids, entries):
    """A pycocotools COCO. It would write into the entries, which are needed again."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "height": height, "width": width} for image, (height, width) in sizes.items()],
        "categories": [{"id": category} for category in category_ids],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(entries, start=1)],
    }
    coco.createIndex()
    return coco


def _found(results, kind):
    """Results with their areas, by which COCO judges only objects of a like size: a mask's is less than its box's."""
    if kind == "bbox":
        areas = [result["bbox"][2] * result["bbox"][3] for result in results]
    else:
        from pycocotools import mask

        areas = [int(mask.area(result["segmentation"])) for result in results]  # of a list it takes 255 at most
    return [{**result, "area": area, "iscrowd": 0} for result, area in zip(results, areas, strict=True)]
