"""What a data set is to the rest: every kind keeps the contract, and a new kind stands in no list."""

from collections import Counter

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from data import DATASETS, Dataset, Preparation
from data.check import survey

SMALL = {"train_images": 20, "validation_images": 10}
KINDS = {
    "fashion_mnist": SMALL, "warped_fashion_mnist": SMALL, "synthetic": {**SMALL, "channels": 3, "image_size": 8},
    "image_folder": {"image_size": 16, "resize_short": 20},
}


@pytest.fixture(params=KINDS)
def sets(request, tmp_path):
    settings = dict(KINDS[request.param])
    if request.param == "image_folder":
        for part in ("train", "val"):
            for name in ("cat", "dog"):
                (tmp_path / part / name).mkdir(parents=True)
                picture(30, 26).save(tmp_path / part / name / "0.png")
        settings["root"] = str(tmp_path)
    return DATASETS[request.param](**settings)


def test_every_kind_of_set_keeps_the_contract(sets):
    for dataset in sets:
        assert isinstance(dataset, Dataset)
        assert dataset.labels.dtype == np.int64 and dataset.labels.shape == (len(dataset),)
        assert dataset.preparation.image_shape == dataset.image_shape and isinstance(dataset.origin, str)
        two, none = (dataset.batch(np.arange(count), seed=0, epoch=0) for count in (2, 0))
        assert sum(values.nbytes for values in two.values()) <= 2 * dataset.sample_bytes
        assert {name: (0, *values.shape[1:]) for name, values in two.items()} == {
            name: values.shape for name, values in none.items()
        }
        stored, path = dataset.stored_picture(1), dataset.path(1)
        assert stored.mode == ("L" if dataset.image_shape[0] == 1 else "RGB")
        if path:
            np.testing.assert_array_equal(stored, Image.open(path))


class Discs:
    """A kind of set that no list knows: one grey disc an image, without classes and labels."""

    classes, labels, image_shape, origin, unused = (), None, (1, 9, 9), "discs", Counter()
    preparation = Preparation((), (1, 9, 9), (0.5,), (0.5,))
    skipped, in_memory, sample_bytes = 0, True, 4 * 81

    def __len__(self):
        return 5

    def batch(self, indices, *, seed, epoch):
        return {"image": np.stack([self.preparation(self.stored_picture(index)) for index in indices])}

    def digest(self):
        return "discs"

    def stored_picture(self, index):
        y, x = np.mgrid[-4:5, -4:5]
        return Image.fromarray(np.uint8(255 * (y**2 + x**2 <= index**2)))

    def path(self, index):
        return None


def test_a_set_of_another_kind_is_looked_through():
    seen = survey(Discs())
    assert isinstance(Discs(), Dataset) and seen.sizes.tolist() == [[9, 9]] * 5 and len(set(seen.fingerprints)) == 5
    np.testing.assert_allclose(seen.mean, [(1 + 5 + 13 + 29 + 49) / 5 / 81])
