"""preparation.json: what a run's folder says of pictures, for a classifier as ever, and for a detector."""

import json

import numpy as np
import pytest
from conftest import picture

from data import DetectionPreparation, Preparation
from engine.errors import InputError
from engine.run.folder import read_preparation, write_preparation

CLASSIFIES = Preparation(("cat", "dog"), (3, 20, 24), (0.5,) * 3, (0.25,) * 3, 30)
DETECTS = DetectionPreparation(
    ("cat", "cup"), (3, 32, 64), (0.5,) * 3, (0.25,) * 3, 30, resize_long=60, category_ids=(7, 90)
)


@pytest.mark.parametrize("preparation", [CLASSIFIES, DETECTS])
def test_it_comes_back_as_it_was(tmp_path, preparation):
    write_preparation(tmp_path, preparation)
    assert read_preparation(tmp_path) == preparation


def test_a_classifiers_file_has_nothing_of_a_detectors(tmp_path):
    write_preparation(tmp_path, CLASSIFIES)
    assert json.loads((tmp_path / "preparation.json").read_text()) == {
        "classes": ["cat", "dog"], "image_shape": [3, 20, 24], "mean": [0.5] * 3, "std": [0.25] * 3,
        "resize_short": 30, "interpolation": "bilinear",
    }


@pytest.mark.parametrize(("size", "seen"), [
    ((40, 20), (30, 60)), ((20, 40), (60, 30)), ((30, 30), (30, 30)), ((100, 10), (6, 60)), ((1, 1), (30, 30)),
    ((1, 500), (60, 1)), ((7, 500), (60, 1)),
])
def test_a_detector_sees_whole_pictures(size, seen):
    image = DETECTS(picture(*size))
    assert image.shape == (3, *seen) and image.dtype == np.float32
    still = DETECTS(picture(30, 30))
    np.testing.assert_array_equal(DETECTS.shown(still), np.asarray(picture(30, 30)))


@pytest.mark.parametrize(("change", "said"), [
    ({"resize_long": 29}, "resize_short: 30, more than the resize_long of 29"),
    ({"category_ids": [7]}, "category_ids: 1 of 2 classes"),
    ({"category_ids": ["a", "b"]}, "category_ids"),
    ({"image_shape": [1, 32, 64]}, "image_shape"),
    ({"resize_short": None}, "resize_short"),
    ({"mean": [0.5]}, "mean and std: expected 3 numbers each"),
])
def test_a_damaged_file_is_one_line(tmp_path, change, said):
    write_preparation(tmp_path, DETECTS)
    path = tmp_path / "preparation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=rf"preparation\.json: damaged \(.*{said}"):
        read_preparation(tmp_path)
