"""A set of pictures with objects as files that other programs read: COCO's folder, pictures and annotations."""

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from data.detection.dataset import DetectionDataset
from engine.environment import is_watched
from engine.errors import InputError
from engine.files import write_text, writing_into, written_whole

PARTS, ANNOTATIONS = ("train", "val"), "annotations"


def write_coco(datasets: Sequence[DetectionDataset], folder: Path) -> list[Path]:
    """Write (training, validation) below a folder that is new or empty; returns the annotation files, a part's last.

    folder/annotations/instances_train.json and instances_val.json, folder/train/1.png and so on, by the ids of the
    pictures; one that has a file is copied as it is. Raises InputError, and leaves nothing then.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; expected a new folder, or an empty one")
    with _gone_unless_whole(folder):
        return [_write_part(part, dataset, folder) for part, dataset in zip(PARTS, datasets, strict=True)]


@contextlib.contextmanager
def _gone_unless_whole(folder):
    """What is written within is gone after an error, so that the folder can be written to again."""
    was_there = folder.exists()
    try:
        yield
    except BaseException:
        for part in (*PARTS, ANNOTATIONS):
            shutil.rmtree(folder / part, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _write_part(part, dataset, folder):
    """The pictures and the annotations of one part; returns the file of these."""
    images, annotations = [], []
    with writing_into(folder / part):
        for index in tqdm(range(len(dataset)), desc=part, unit="picture", leave=False, disable=not is_watched()):
            images.append(_write_picture(dataset, index, folder / part))
            annotations += dataset.annotations(index)
    document = {
        "images": images,
        "categories": [
            {"id": int(category), "name": name}
            for category, name in zip(dataset.category_ids, dataset.classes, strict=True)
        ],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }
    file = folder / ANNOTATIONS / f"instances_{part}.json"
    with writing_into(file.parent):
        write_text(file, json.dumps(document, ensure_ascii=False))
    return file


def _write_picture(dataset, index, folder):
    image_id, path = int(dataset.image_ids[index]), dataset.path(index)
    picture = dataset.stored_picture(index)
    target = folder / f"{image_id}{Path(path).suffix if path else '.png'}"
    with written_whole(target) as part:
        if path:
            shutil.copyfile(path, part)
        else:
            picture.save(part, format="PNG")
    return {"id": image_id, "file_name": target.name, "height": picture.height, "width": picture.width}
