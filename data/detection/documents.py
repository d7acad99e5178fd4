"""Files of annotations as COCO's three lists: a file of COCO's, or a folder with a JSON file for each picture.

The files of a folder are labelme's, or plain ones of the same parts as COCO's, the class by its name:

    {"image": {"file_name": "a.jpg", "height": 480, "width": 640},
     "annotations": [{"category": "cup", "bbox": [x, y, width, height], "segmentation": …, "iscrowd": 0}]}

A picture is looked for beside its JSON file first.
"""

import base64
import binascii
import io
import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data.detection.annotations import Document
from data.detection.masks import mask_of, run_lengths
from data.detection.reading import are_finite, entries, mapping, read_json, text, whole, wrong
from data.errors import DataError, quoted
from data.preparation import MAX_PIXELS
from data.walk import is_visible

MOST_LISTED = 20  # names in a message
CORNERS = 32  # of what stands for a circle
KINDS = "polygon, rectangle, circle or mask"


def read_document(path: Path, known: Mapping[str, int] | None = None) -> Document:
    """The document at a path, of a file or a folder. Raises DataError.

    known: ids of the training set's categories by name, where this is a set to validate on. The labels of a folder have
    these ids, and a file of COCO's may lack annotations, as those of pictures to be judged elsewhere do.
    """
    return _of_folder(path, known) if path.is_dir() else _of_file(path, known is not None)


def _of_file(path, without_annotations):
    value = read_json(path)
    if isinstance(value, list):
        raise DataError(f"{path}: is a list, as a file of results is; wanted images, annotations and categories")
    if "shapes" in mapping(value, str(path)):
        raise DataError(f"{path}: is labelme's file of one picture; wanted the folder of all of them")
    if without_annotations:
        value = {"annotations": [], **value}
    lists = [entries(value, kind, str(path)) for kind in ("images", "categories", "annotations")]
    return Document(*lists, lambda kind, number: f"{path}: {kind}[{number}]")


def _of_folder(folder, known):
    files = sorted(file for file in folder.rglob("*.json") if all(map(is_visible, file.relative_to(folder).parts)))
    if not files:
        raise DataError(f"{folder}: holds no JSON files; wanted one for each picture, or the name of a file of COCO's")
    images, annotations, places = [], [], []
    for number, file in enumerate(files, start=1):
        value = mapping(read_json(file), str(file))
        image, found = (_of_labelme if "shapes" in value else _of_plain)(value, file)
        name = os.path.relpath(file.parent / image["file_name"].replace("\\", "/"), folder)
        images.append({**image, "id": number, "file_name": name})
        for place, annotation in found:
            annotations.append({**annotation, "image_id": number})
            places.append(place)
    names = [annotation["category"] for annotation in annotations]
    if not names and known is None:
        raise DataError(f"{folder}: none of its {len(files):,} JSON files has an object")
    ids = known or {name: number for number, name in enumerate(sorted(set(names)), start=1)}
    for place, name in zip(places, names, strict=True):
        if name not in ids:
            raise DataError(f"{place}: {quoted(name)} is no class of the training set; it has {_listed(ids)}")
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    annotations = [{**each, "category_id": ids[name]} for each, name in zip(annotations, names, strict=True)]
    return Document(images, categories, annotations, partial(_place, folder, files, places))


def _listed(names):
    more = f" and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
    return ", ".join(list(names)[:MOST_LISTED]) + more


def _place(folder, files, places, kind, number):
    if kind == "categories":
        return f"{folder}: class {number}"
    return places[number] if kind == "annotations" else str(files[number])


def _of_plain(value, file):
    image = mapping(value.get("image"), f"{file}: image")
    name = text(image.get("file_name"), f"{file}: image: file_name")
    found = []
    for number, annotation in enumerate(entries(value, "annotations", str(file))):
        place = f"{file}: annotations[{number}]"
        text(annotation.get("category"), f"{place}: category")
        found.append((place, {key: entry for key, entry in annotation.items() if key != "id"}))
    return {**image, "file_name": name}, found


def _of_labelme(value, file):
    height, width = (whole(value.get(side), f"{file}: {side}", 1) for side in ("imageHeight", "imageWidth"))
    name = text(value.get("imagePath"), f"{file}: imagePath")
    parts = {}
    for number, shape in enumerate(entries(value, "shapes", str(file))):
        place = f"{file}: shapes[{number}]"
        label, group = text(shape.get("label"), f"{place}: label"), shape.get("group_id")
        key = number if group is None else (label, str(group))  # parts of one object
        parts.setdefault(key, []).append((place, label, _shape(shape, place, height, width)))
    found = []
    for own in parts.values():
        if len(own) > 1 and not all(isinstance(segmentation, list) for _, _, segmentation in own):
            raise DataError(f"{own[0][0]}: shares its group_id; wanted that of polygons, rectangles and circles only")
        place, label, segmentation = own[0]
        if len(own) > 1:
            segmentation = [polygon for _, _, polygons in own for polygon in polygons]
        box = _box_of(segmentation, height, width)
        found.append((place, {"category": label, "bbox": box, "segmentation": segmentation}))
    return {"file_name": name, "height": height, "width": width}, found


def _shape(shape, place, height, width):
    """A shape of labelme's as a segmentation of COCO's."""
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and are_finite(point) for point in points
    ):
        raise wrong(f"{place}: points", points, "a list of [x, y]")
    if kind not in ("polygon", "rectangle", "circle", "mask"):
        raise wrong(f"{place}: shape_type", kind, KINDS)
    wanted = None if kind == "polygon" else 2
    if wanted and len(points) != wanted or kind == "polygon" and len(points) < 3:
        raise DataError(f"{place}: {kind} of {len(points)} points, wanted {wanted or '3 or more'}")
    if kind == "polygon":
        return [[edge for point in points for edge in point]]
    (x1, y1), (x2, y2) = points
    if kind == "rectangle":
        return [[x1, y1, x2, y1, x2, y2, x1, y2]]
    if kind == "circle":
        turns = 2 * math.pi * np.arange(CORNERS) / CORNERS
        radius = math.hypot(x2 - x1, y2 - y1)
        return [np.stack([x1 + radius * np.cos(turns), y1 + radius * np.sin(turns)], axis=1).ravel().tolist()]
    return run_lengths(_stamped(shape.get("mask"), place, int(min(x1, x2)), int(min(y1, y2)), height, width))


def _stamped(encoded, place, left, top, height, width):
    """The mask bool [height, width] of a PNG as text, whose upper left corner lies at left, top."""
    if height * width > MAX_PIXELS:
        raise DataError(f"{place}: mask: of a picture of {width} x {height}; wanted {MAX_PIXELS:,} pixels at most")
    mask = np.zeros((height, width), bool)
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded or "", validate=True)), formats=("PNG",)) as picture:
            wide, tall = picture.size
            if left < 0 or top < 0 or top + tall > height or left + wide > width:
                raise DataError(f"{place}: mask: of {tall} x {wide} pixels, reaches out of its picture")
            mask[top : top + tall, left : left + wide] = np.asarray(picture.convert("L")) > 0
    except DataError:
        raise
    except (binascii.Error, TypeError, ValueError, OSError, SyntaxError):
        raise DataError(f"{place}: mask: wanted a PNG in base64") from None
    return mask


def _box_of(segmentation, height, width):
    """x, y, width, height around a segmentation, within the picture."""
    if isinstance(segmentation, dict):
        mask = mask_of(segmentation, (height, width))
        if not mask.any():
            return [0, 0, 0, 0]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation]).clip(0, [width, height])
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return [x1, y1, x2 - x1, y2 - y1]
