"""Annotations as COCO has them, checked, and kept in arrays: what is wrong is named, what is of no use is counted."""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from data.detection.masks import checked_lengths, is_lost, polygon_area
from data.detection.objects import SMALLEST_SIDE
from data.detection.preparation import resized_sides
from data.detection.reading import are_finite, text, whole, wrong
from data.errors import DataError, quoted
from data.lists import check_names

# Why an annotation is left out, or a part of it.
NO_AREA, OUTSIDE = "with a box of no area: left out", "with a box outside its picture: left out"
NO_MASK = "without a mask: left out"
LOST_MASK = "with a mask that has no pixel once the picture is resized: nothing is learned of them"
BROKEN_POLYGON = "with polygons of fewer than three corners or of half a point: these polygons are left out"


class Document(NamedTuple):
    """COCO's three lists as a file has them, and `place("annotations", 3)`, which says where an entry of one stands."""

    images: list[dict]
    categories: list[dict]
    annotations: list[dict]
    place: Callable[[str, int], str]


@dataclass(frozen=True)
class Annotations:
    """N pictures and A objects in them, in the order of the pictures; K categories in the order of their ids.

    file_names [N], bytes; sizes int64 [N, 2], height and width; objects starts[n] to starts[n + 1] belong to picture n.
    boxes float64 [A, 4], x, y, width, height as the file has them; classes int64 [A], from 0; crowd bool [A]; areas
    float64 [A], pixels; numbers int64 [A], where in the file's list each stood.
    left_out: numbers of annotations that are of no use, or of which a polygon is of none, by the reason.
    has_polygons: whether there are any, which want pycocotools.
    """

    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    image_ids: np.ndarray
    file_names: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    numbers: np.ndarray
    left_out: dict[str, list[int]]
    has_polygons: bool
    place: Callable[[str, int], str]
    _block: bytes  # not a million objects: worker processes share it, for nothing in it counts references
    _ends: np.ndarray

    def of_picture(self, number: int) -> range:
        """The objects of a picture."""
        return range(int(self.starts[number]), int(self.starts[number + 1]))

    def segmentation(self, number: int) -> list | dict | None:
        """Polygons or run lengths of an object, as pycocotools takes them; None where masks are not asked for."""
        return pickle.loads(self._block[self._ends[number] : self._ends[number + 1]])

    def digest(self) -> str:
        """Another text for other pictures, classes, boxes or masks, or another order."""
        content = hashlib.sha256(repr((self.category_ids, self.class_names)).encode())
        for part in (b"\0".join(self.file_names.tolist()), self.image_ids, self.sizes, self.starts, self.boxes,
                     self.classes, self.crowd, self._block):
            content.update(part)
        return content.hexdigest()


def checked(document: Document, *, masks: bool, known: Annotations | None = None) -> Annotations:
    """The annotations of a document. Raises DataError for the first value that is wrong.

    known: those of the training set, where this is a set to validate on; it gets their categories.
    """
    category_ids, names = _categories(document)
    if known:
        pairs = set(zip(known.category_ids, known.class_names, strict=True))
        for number, entry in enumerate(document.categories):
            if (entry["id"], entry["name"]) not in pairs:
                came = f"{entry['id']} {quoted(entry['name'])}"
                raise DataError(f"{document.place('categories', number)}: {came} is no category of the training set")
        category_ids, names = known.category_ids, known.class_names
    image_ids, file_names, sizes = _images(document)
    objects = _objects(document, dict(zip(category_ids, range(len(names)), strict=True)), image_ids, sizes, masks)
    order = np.argsort(objects.images, kind="stable")
    segmentations = [objects.segmentations[at] for at in order]
    return Annotations(
        category_ids, names, np.array(image_ids, np.int64), np.array(file_names), np.array(sizes, np.int64),
        np.searchsorted(np.array(objects.images)[order], np.arange(len(image_ids) + 1)),
        np.array(objects.boxes, np.float64).reshape(-1, 4)[order], np.array(objects.classes, np.int64)[order],
        np.array(objects.crowd, bool)[order], np.array(objects.areas, np.float64)[order],
        np.array(objects.numbers, np.int64)[order], objects.left_out, objects.has_polygons, document.place,
        b"".join(segmentations), np.cumsum([0, *map(len, segmentations)]),
    )


def with_lost_masks(annotations: Annotations, pictures: np.ndarray, short: int, long: int) -> Annotations:
    """The same, but left_out tells, too, of objects in these pictures, no crowds, whose mask is lost when a picture is
    resized as `resized` does it: thin ones, and small ones in large pictures. At another size they may be seen."""
    each = np.repeat(np.arange(len(annotations.sizes)), np.diff(annotations.starts))
    sizes = annotations.sizes[each]
    scale = np.minimum(short / sizes.min(axis=1), long / sizes.max(axis=1))
    sides, areas = scale * annotations.boxes[:, 2:].min(axis=1), scale**2 * annotations.areas
    small = ((sides < 2) | (areas < 4)) & ~annotations.crowd & np.isin(each, pictures)  # all else keeps some pixel
    lost = [
        int(annotations.numbers[at]) for at in np.flatnonzero(small).tolist()
        if is_lost(annotations.segmentation(at), (size := tuple(sizes[at].tolist())), resized_sides(size, short, long))
    ]
    left_out = {**annotations.left_out, **({LOST_MASK: lost} if lost else {})}
    return replace(annotations, left_out=left_out)


def _categories(document):
    ids = _unique_ids(document, "categories")
    names, where = {}, document.place
    for number, entry in enumerate(document.categories):
        name = text(entry.get("name"), f"{where('categories', number)}: name")
        check_names([name], where("categories", number))
        if name in names:
            raise DataError(f"{where('categories', number)}: name {quoted(name)} is that of {names[name]} too")
        names[name] = f"categories[{number}]"
    if not ids:
        raise DataError(f"{where('categories', 0)}: there is no category; wanted one or more")
    pairs = sorted(zip(ids, names, strict=True))
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _images(document):
    ids, names, sizes = _unique_ids(document, "images"), [], []
    for number, entry in enumerate(document.images):
        place = document.place("images", number)
        name = text(entry.get("file_name"), f"{place}: file_name")
        sizes.append([whole(entry.get(side), f"{place}: {side}", 1) for side in ("height", "width")])
        names.append(name.encode())
    if not ids:
        raise DataError(f"{document.place('images', 0)}: there is no image; wanted one or more")
    return ids, names, sizes


def _unique_ids(document, kind):
    seen = {}
    for number, entry in enumerate(getattr(document, kind)):
        value = whole(entry.get("id"), f"{document.place(kind, number)}: id")
        if value in seen:
            raise DataError(f"{document.place(kind, number)}: id {value} is that of {kind}[{seen[value]}] too")
        seen[value] = number
    return list(seen)


class _Objects:
    """Lists, one entry for each object that is of use."""

    def __init__(self):
        self.images, self.boxes, self.classes, self.crowd, self.areas, self.numbers = [], [], [], [], [], []
        self.segmentations, self.left_out, self.has_polygons = [], {}, False


def _objects(document, label_of, image_ids, sizes, masks):
    number_of = {value: number for number, value in enumerate(image_ids)}
    found, ids = _Objects(), {}
    for number, entry in enumerate(document.annotations):
        _check_id(entry.get("id"), ids, document, number)
        image = _known(entry, "image_id", number_of, document, number, "images")
        label = _known(entry, "category_id", label_of, document, number, "categories")
        box, crowd = entry.get("bbox"), entry.get("iscrowd", 0)
        if not isinstance(box, list) or len(box) != 4 or not are_finite(box) or box[2] < 0 or box[3] < 0:
            wanted = "[x, y, width, height], numbers, no width or height below 0"
            raise wrong(f"{document.place('annotations', number)}: bbox", box, wanted)
        if crowd not in (0, 1):
            raise wrong(f"{document.place('annotations', number)}: iscrowd", crowd, "0 or 1")
        segmentation, is_whole = None, True
        if masks:
            segmentation, is_whole = _segmentation(entry.get("segmentation"), sizes[image], document, number)
        of_no_use = _of_no_use(box, sizes[image], masks and segmentation is None)
        if of_no_use or not is_whole:
            found.left_out.setdefault(of_no_use or BROKEN_POLYGON, []).append(number)
        if of_no_use:
            continue
        found.images.append(image)
        found.boxes.append(box)
        found.classes.append(label)
        found.crowd.append(crowd)
        found.areas.append(_area(entry.get("area"), box, segmentation, document, number))
        found.numbers.append(number)
        found.has_polygons |= isinstance(segmentation, list)
        found.segmentations.append(pickle.dumps(segmentation, 5))
    return found


def _check_id(value, ids, document, number):
    """One may be missing, for nothing here has a use for it; doubled ones tell of a file that is broken."""
    try:
        earlier = number if value is None else ids.setdefault(value, number)
    except TypeError:
        raise wrong(f"{document.place('annotations', number)}: id", value, "a whole number") from None
    if earlier != number:
        raise DataError(f"{document.place('annotations', number)}: id {value} is that of annotations[{earlier}] too")


def _known(entry, key, numbers, document, number, kind):
    value = entry.get(key)
    try:
        return numbers[value]
    except (KeyError, TypeError):
        raise wrong(f"{document.place('annotations', number)}: {key}", value, f"the id of one of {kind}") from None


def _of_no_use(box, size, has_no_mask):
    x, y, width, height = box
    if min(width, height) <= SMALLEST_SIDE:
        return NO_AREA
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        return OUTSIDE
    return NO_MASK if has_no_mask else None


def _area(area, box, segmentation, document, number):
    if area is not None:
        if not are_finite([area]) or area < 0:
            raise wrong(f"{document.place('annotations', number)}: area", area, "a number of 0 or more")
        return area
    if isinstance(segmentation, list):
        return polygon_area(segmentation)
    if segmentation is not None:
        return int(checked_lengths(segmentation["counts"], *segmentation["size"])[1::2].sum())
    return box[2] * box[3]


def _segmentation(value: Any, size: Sequence[int], document: Document, number: int) -> tuple[list | dict | None, bool]:
    """(what of a segmentation is of use, whether that is all of it). Raises DataError for what is none."""
    height, width = size
    if value is None or value == []:
        return None, True
    if isinstance(value, dict):
        return _run_lengths(value, height, width, document, number), True
    if not isinstance(value, list) or not all(isinstance(polygon, list) for polygon in value):
        wanted = "polygons, [[x1, y1, x2, y2, …], …], or run lengths, {\"size\", \"counts\"}"
        raise wrong(f"{document.place('annotations', number)}: segmentation", value, wanted)
    for at, polygon in enumerate(value):
        if not are_finite(polygon):
            place = document.place("annotations", number)
            raise wrong(f"{place}: segmentation[{at}]", polygon, "numbers, x1, y1, x2, y2 and so on")
    kept = [polygon for polygon in value if len(polygon) >= 6 and len(polygon) % 2 == 0]
    is_whole = len(kept) == len(value)
    # Far outside there is nothing to see, and pycocotools would walk there step by step.
    limits = np.tile([2.0 * width, 2.0 * height], max(map(len, kept), default=0) // 2)
    kept = [
        polygon if min(polygon) >= 0 and max(polygon) <= min(size)
        else np.clip(polygon, -limits[: len(polygon)], limits[: len(polygon)]).tolist() for polygon in kept
    ]
    return kept or None, is_whole


def _run_lengths(value, height, width, document, number):
    place, counts = f"{document.place('annotations', number)}: segmentation", value.get("counts")
    if value.get("size") != [height, width]:
        raise wrong(f"{place}: size", value.get("size"), f"its picture's height and width, [{height}, {width}]")
    if not isinstance(counts, str) and not (isinstance(counts, list) and all(type(count) is int for count in counts)):
        raise wrong(f"{place}: counts", counts, "a list of whole numbers, or COCO's text")
    try:
        checked_lengths(counts, height, width)
    except (ValueError, OverflowError) as error:
        wanted = f"run lengths of the {height} x {width} = {height * width:,} of its picture"
        raise DataError(f"{place}: counts: {error}, wanted {wanted}") from None
    return {"size": [height, width], "counts": counts}
