"""What check_data says of objects, and the sheet of samples with their masks."""

import json

import numpy as np
import pytest
from PIL import Image
from test_data_coco import SQUARE, document, entry, lengths_of, read_set, write_set

from data import DATASETS
from engine.check_data.findings import findings
from engine.check_data.report import survey_sets
from engine.check_data.samples import EPOCHS, write_data_sheet
from engine.tasks.detection.findings import object_counts, object_findings
from engine.tasks.detection.sheet import CELL, of_objects
from models.detection.anchors import Anchors

WHOLE = lengths_of(slice(0, 9), slice(0, 12))


class Network:
    """What is asked of one: the anchors."""

    def __init__(self, *sizes, ratios=(1.0,)):
        self.rpn, self.anchors = self, Anchors([sizes], ratios, [2])

    def __call__(self):
        return self


def said_of(datasets, network=None):
    surveys = survey_sets(datasets)
    return {found.text: found for found in object_findings(datasets, surveys, network or Network(4.0, 8.0))}


def the(found, words):
    matching = [finding for text, finding in found.items() if words in text]
    assert len(matching) == 1, (words, list(found))
    return matching[0]


def test_a_set_in_order_has_notes_only(tmp_path):
    datasets = read_set(write_set(tmp_path), resize_short=18, resize_long=24)
    found = said_of(datasets, Network(8.0, 10.0, 12.0, ratios=(1.0, 2.0)))
    assert {each.kind for each in found.values()} == {"note"}
    assert "labels are 0 to 1" in the(found, "2 category ids from 7 to 90, with gaps").text
    assert the(found, "no anchor fits").text.startswith("no anchor fits 0.0 % of 3 training objects")
    assert "1 validation picture without an object" in found
    assert object_counts(datasets) == [
        {"label": 0, "class": "cat", "training": 2, "validation": 2},
        {"label": 1, "class": "cup", "training": 1, "validation": 1},
    ]


def test_the_share_of_objects_that_no_anchor_fits_by_hand(tmp_path):
    content = document()
    content["annotations"] = [
        entry(1, 70, 7, [0, 0, 4, 4], WHOLE), entry(2, 70, 7, [4, 2, 8, 8], WHOLE),
        entry(3, 50, 90, [0, 0, 1, 1], WHOLE),
    ]
    datasets = read_set(write_set(tmp_path, content))
    found = the(said_of(datasets, Network(4.0)), "no anchor fits")  # 4 x 4 has one of its own, 8 x 7 shares 16 of 56
    assert found.kind == "problem" and "66.7 % of 3 training objects" in found.text
    assert "sides of 1 to 7 pixels" in found.text
    assert "33.3 %" in the(said_of(datasets, Network(4.0, 8.0)), "no anchor fits").text


def test_boxes_beyond_their_pictures_and_doubled_ones_are_found(tmp_path):
    content = document()
    content["annotations"] += [entry(5, 50, 7, [8, 3, 9, 4], WHOLE), entry(6, 70, 90, [2, 1, 4, 3], WHOLE)]
    datasets = read_set(write_set(tmp_path, content))
    found = said_of(datasets)
    beyond = the(found, "1 training box beyond the picture, cut at its edges")
    assert beyond.kind == "note" and beyond.items == (f"{tmp_path / 'train' / '50.png'} (training)",)
    doubled = the(found, "1 training object annotated twice, with the same box and class")
    assert doubled.kind == "problem" and doubled.items == (f"{tmp_path / 'train' / '70.png'} (training)",)
    content = document()
    for each in content["annotations"]:  # corners in the place of width and height
        each["bbox"] = [each["bbox"][0], each["bbox"][1], 12, 9]
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert "are these x1, y1, x2, y2?" in the(said_of(read_set(tmp_path)), "training boxes beyond the picture").text


def test_crowds_small_and_missing_objects_are_found(tmp_path):
    content = document()
    for each in content["annotations"][:2]:
        each["iscrowd"] = 1
    datasets = read_set(write_set(tmp_path, content), without_objects="keep")
    found = said_of(datasets)
    assert the(found, "3 of 4 training annotations have iscrowd 1").kind == "problem"
    assert the(found, "no training object of 1 class").items == ("cup",)
    assert "2 training pictures without an object" in found
    assert "1 training object of 1 smaller than 8 x 8 pixels" in the(found, "smaller than").text


def test_what_is_left_out_is_listed_once_with_its_places(tmp_path):
    pytest.importorskip("pycocotools")
    content = document()
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4], *SQUARE]
    content["annotations"] += [entry(5, 50, 7, [3, 3, 0, 4], WHOLE)]
    datasets = read_set(write_set(tmp_path, content), validation=None)
    found = said_of(datasets)
    assert the(found, "1 annotation with a box of no area: left out").items[0].endswith("train.json: annotations[4]")
    assert the(found, "these polygons are left out").items[0].endswith("annotations[0]")
    thin = lengths_of(slice(4, 5), slice(0, 9))
    content["annotations"] += [entry(number, number, 7, [0, 4, 9, 1], thin) for number in (70, 30, 50)]
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    found = said_of(read_set(tmp_path, validation=None, resize_short=4, resize_long=6))
    assert len(the(found, "2 annotations with a mask that has no pixel once").items) == 2  # one is held out
    the(found, "1 annotation with a box of no area: left out")


def test_broken_and_doubled_pictures_are_found_as_of_any_set(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train" / "70.png").write_bytes(b"")
    (tmp_path / "train" / "50.png").write_bytes((tmp_path / "val" / "30.png").read_bytes())
    datasets = read_set(tmp_path)
    surveys = survey_sets(datasets)
    of_task = object_findings(datasets, surveys, Network(4.0))
    found = {each.text: each for each in findings(datasets, surveys, images_per_step=1, task_findings=of_task)}
    assert "70.png" in the(found, "1 broken file").items[0]
    assert the(found, "in training and in validation").kind == "problem"
    assert not any("data.image_size" in text for text in found)  # nothing is cropped


def test_the_sheet_shows_samples_with_their_masks(tmp_path):
    datasets = DATASETS["garment_scenes"](train_images=3, validation_images=2, image_size=60, fresh=False)
    said, heads, row_of = of_objects(datasets[0])
    row = list(row_of(1, 0))
    assert len(heads) == len(row) == 1 + EPOCHS and "without augmentation" in said
    assert all(cell.shape == (CELL, CELL, 3) for cell in row)
    np.testing.assert_array_equal(row[0], row[1])  # a fixed scene is never augmented
    plain = np.asarray(datasets[0].stored_picture(1).resize((CELL, CELL))).astype(int)
    where = datasets[0].objects(1).masks.any(axis=0).repeat(CELL // 60, axis=0).repeat(CELL // 60, axis=1)
    assert np.abs(row[0] - plain)[where].mean() > 20 > 5 > np.abs(row[0] - plain)[~where].mean()
    path = write_data_sheet(datasets[0], np.arange(3), 0, tmp_path / "samples.png", of_objects(datasets[0]))
    assert Image.open(path).size[0] > 1000
    boxes_only = read_set(write_set(tmp_path / "set"), masks=False)[0]
    cells = list(of_objects(boxes_only)[2](0, 0))
    assert len(cells) == 1 + EPOCHS and (cells[0][CELL * 9 // 12 + 1 :] == 255).all()
