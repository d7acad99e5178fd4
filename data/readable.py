"""What becomes of a picture that cannot be read: an end of it all, or, where such are skipped, another in its place."""

import logging

from PIL import Image

from data.dataset import Dataset
from data.errors import DataError, printable

log = logging.getLogger("data")


def readable(dataset: Dataset, index: int, *, training: bool) -> tuple[int, Image.Image | None]:
    """Index and picture of a sample or, in training, of the next one that can be read; (index, None) if it is skipped.

    The set's `on_corrupt_image` says whether an image may be skipped; it is counted then. Raises DataError.
    """
    for candidate in range(index, index + (len(dataset) if training else 1)):
        candidate %= len(dataset)
        try:
            return candidate, dataset.stored_picture(candidate)
        except DataError as error:
            if dataset.on_corrupt_image == "stop":
                raise
            dataset.skipped += 1
            log.warning("skipped %s", printable(str(error)))
    if training:
        path = dataset.path(index)
        raise DataError(f"{path}: cannot be read as an image, and none of the {len(dataset)} training images can")
    return index, None
