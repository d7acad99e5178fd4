"""From picture files to class names with probabilities."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import paddle
from paddle.nn import functional as F

from data import MAX_PIXELS, PICTURE_ENDINGS, DataError, picture_files, read_picture
from data.walk import unused_text
from engine.errors import InputError
from engine.terminal import printable

log = logging.getLogger("engine")


def find_pictures(paths):
    """The picture files among paths, in order. Raises InputError where there is none.

    A folder is searched to any depth for files with the endings of pictures, hidden ones apart, and what is left out
    is logged; a file is taken whatever its ending.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            unused = Counter()
            inside = [Path(file) for file in picture_files(path, unused)]
            if unused:
                log.warning("%s", printable(f"{path}: {unused_text(unused)}"))
            if not inside:
                raise InputError(f"{path}: no pictures in this folder; looked for {', '.join(sorted(PICTURE_ENDINGS))}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such picture or folder")
    return found


def predict(model, preparation, files, *, top=3, batch=32, max_pixels: int = MAX_PIXELS):
    """Yield {"file", "top": [{"class", "probability"}, ...]} for each picture file, the most probable class first.

    A picture that cannot be read gives {"file", "error"} in its place, with the path and the reason. max_pixels: as of
    image_folder.
    """
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        prepared = [_prepared(preparation, file, max_pixels) for file in part]
        rows = iter(_probabilities(model, [image for image in prepared if not isinstance(image, DataError)]))
        for file, image in zip(part, prepared, strict=True):
            if isinstance(image, DataError):
                yield {"file": str(file), "error": str(image)}
                continue
            row = next(rows)
            best = np.argsort(-row)[:top]
            guesses = [{"class": preparation.classes[index], "probability": float(row[index])} for index in best]
            yield {"file": str(file), "top": guesses}


def in_words(prediction: dict) -> str:
    """What `predict` gave for a picture that could be read, as a line."""
    guesses = (f"{guess['class']} {100 * guess['probability']:.1f} %" for guess in prediction["top"])
    return printable(f"{prediction['file']}: {', '.join(guesses)}")


def _prepared(preparation, file, max_pixels):
    try:
        return preparation(read_picture(file, max_pixels, preparation.resize_short or 0))
    except DataError as error:
        return error


@paddle.no_grad()
def _probabilities(model, images):
    """float32 [N, classes] of N prepared images; N may be 0."""
    return F.softmax(model({"image": paddle.to_tensor(np.stack(images))}), axis=1).numpy() if images else []
