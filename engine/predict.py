"""From picture files to class names with probabilities."""

from pathlib import Path

import numpy as np
import paddle
from paddle.nn import functional as F

from data import PICTURE_ENDINGS, picture_files, read_picture
from engine.errors import InputError


def find_pictures(paths):
    """The picture files among paths, folders searched through, in order. Raises InputError where there is none."""
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [Path(file) for file in picture_files(path)]
            if not inside:
                raise InputError(f"{path}: no pictures in this folder; looked for {', '.join(sorted(PICTURE_ENDINGS))}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such picture or folder")
    return found


@paddle.no_grad()
def predict(model, preparation, files, *, top=3, batch=32):
    """Yield {"file", "top": [{"class", "probability"}, ...]} for each picture file, the most probable class first.

    Raises DataError, naming the file, where a picture cannot be read.
    """
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        image = np.stack([preparation(read_picture(file)) for file in part])
        probabilities = F.softmax(model({"image": paddle.to_tensor(image)}), axis=1).numpy()
        for file, row in zip(part, probabilities, strict=True):
            best = np.argsort(-row)[:top]
            guesses = [{"class": preparation.classes[index], "probability": float(row[index])} for index in best]
            yield {"file": str(file), "top": guesses}
