"""What a detector's answers are worth, how they are told, drawn and written, on a set of two pictures made by hand."""

import contextlib
import importlib.util
import io
import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from PIL import Image

from data.detection.dataset import annotations_of
from data.detection.objects import Objects
from data.detection.preparation import DetectionPreparation
from engine.errors import InputError
from engine.evaluation import numbers_text
from engine.tasks import task_of
from engine.tasks.detection import Detection
from engine.tasks.detection.results import Answer, pixels_of, run_lengths, told

pytest.importorskip("pycocotools")
SIZES = [(60, 80), (120, 50)]  # height, width
OBJECTS = [  # (class, box) of each picture
    [(0, (5, 7, 35, 29)), (2, (40, 10, 70, 55)), (2, (2, 40, 20, 58))],
    [(0, (3, 4, 45, 116))],
]
SHIFTS = [0, 1, 3, 6, 12]


def rectangles(boxes, size):
    row, column = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    return np.array([(column > x1) & (column < x2) & (row > y1) & (row < y2) for x1, y1, x2, y2 in boxes])


class TwoPictures:
    """A DetectionDataset, stored at SIZES; the network sees picture 0 at half of its size, picture 1 as it is."""

    classes, category_ids, image_ids = ("a", "b", "c"), (7, 50, 90), np.array([11, 4])
    labels, origin, unused, skipped, in_memory, has_masks = None, "", Counter(), 0, True, True
    image_shape, sample_bytes, left_out = (3, 128, 96), 0, {}
    preparation = DetectionPreparation(
        classes, image_shape, (0.5,) * 3, (0.5,) * 3, 50, resize_long=100, category_ids=category_ids
    )

    def __init__(self, objects=OBJECTS, crowd=()):
        self.shown, self.crowd = objects, crowd

    def __len__(self):
        return len(self.shown)

    def objects(self, index):
        classes = np.array([label for label, _ in self.shown[index]], np.int64)
        boxes = np.array([box for _, box in self.shown[index]], np.float32).reshape(-1, 4)
        crowd = np.array([(index, place) in self.crowd for place in range(len(classes))], bool)
        return Objects(boxes, classes, rectangles(boxes, SIZES[index]).reshape(-1, *SIZES[index]), crowd)

    def annotations(self, index):
        return annotations_of(self.objects(index), self.image_ids[index], self.category_ids)

    def batch(self, indices, *, seed, epoch): ...
    def digest(self): ...
    def stored_picture(self, index): ...
    def path(self, index): ...
    def file_name(self, index): ...


def predictions(answers, most=8, size=28):
    """What MaskRCNN gives: lists of (class, box, score) of each picture, every mask full."""
    count = len(answers)
    arrays = {
        "objects": np.array([len(answer) for answer in answers]), "boxes": np.zeros((count, most, 4), np.float32),
        "scores": np.zeros((count, most), np.float32), "classes": np.zeros((count, most), np.int64),
        "masks": np.ones((count, most, size, size), np.float32),
    }
    for row, answer in enumerate(answers):
        for place, (label, box, score) in enumerate(answer):
            arrays["boxes"][row, place], arrays["scores"][row, place] = box, score
            arrays["classes"][row, place] = label
    return {name: paddle.to_tensor(array) for name, array in arrays.items()}


def batch(rows=(0, 1)):
    return {"index": np.array(rows), "original_size": np.array([SIZES[row] for row in rows])}


def moved(pixels):
    return [[(label, np.add(box, (pixels, 0, pixels, 0)), 0.9) for label, box in picture] for picture in OBJECTS]


def scored(answers, dataset=None, model="mask_rcnn"):
    scores = task_of(model).scores(dataset or TwoPictures())
    scores.add(batch(), predictions(answers))
    scores.gather()
    return scores


def coco_says(answers, kind, tmp_path, dataset):
    """pycocotools' own way through files, and what it prints: AP, 50, 75, small, medium, large."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    entries = [entry for index in range(2) for entry in dataset.annotations(index)]
    document = {
        "images": [{"id": int(i), "height": h, "width": w} for i, (h, w) in zip(dataset.image_ids, SIZES, strict=True)],
        "categories": [{"id": number, "name": name} for number, name in zip((7, 50, 90), "abc", strict=True)],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(entries, 1)],
    }
    scores = scored(answers, dataset)
    scores.write(tmp_path / "results.json")
    (tmp_path / "truth.json").write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / f"results.{kind}.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6]


def test_the_truth_itself_has_an_ap_of_one():
    numbers = scored(moved(0)).numbers()
    whole = [f"{kind}_{name}" for kind in ("mask", "box") for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium")]
    assert [numbers[name] for name in whole] == pytest.approx([1.0] * 10) and numbers["box_ap_large"] is None
    assert "box_ap_large: n/a" in numbers_text(numbers)
    assert list(scored(moved(0), model="faster_rcnn").numbers()) == [
        "box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ap_medium", "box_ap_large"
    ]


@pytest.mark.parametrize("pixels", SHIFTS)
def test_what_is_shifted_is_what_pycocotools_says(tmp_path, pixels):
    dataset = TwoPictures(crowd={(0, 2)})
    numbers = scored(moved(pixels), dataset).numbers()
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        ours = [numbers[f"{name}_ap{more}"] for more in ("", "50", "75", "_small", "_medium", "_large")]
        theirs = coco_says(moved(pixels), kind, tmp_path, dataset)
        assert [-1 if value is None else value for value in ours] == pytest.approx(theirs)
    if pixels in (3, 6):
        assert 0 < numbers["box_ap"] < 1


def test_a_wrong_class_and_a_second_answer_cost():
    wrong = [[(1, box, score) for _, box, score in picture] for picture in moved(0)]
    assert scored(wrong).numbers()["mask_ap"] == 0
    twice = [picture + [(label, box, 0.95) for label, box, _ in moved(30)[row]] for row, picture in enumerate(moved(0))]
    assert 0 < scored(twice).numbers()["box_ap"] < 1
    assert scored([[], []]).numbers()["box_ap"] == 0


def test_nothing_to_find_is_no_number():
    numbers = scored(moved(0), TwoPictures([[], []])).numbers()
    assert set(numbers.values()) == {None}


def test_more_answers_than_a_byte_counts():
    many = [[(0, (5, 7, 35, 29), 0.9)] * 150] * 2
    scores = task_of("mask_rcnn").scores(TwoPictures())
    scores.add(batch(), predictions(many, most=150, size=2))
    assert len(scores.results) == 300 and scores.numbers()["mask_ap"] > 0


def test_by_class_and_in_words(monkeypatch):
    scores = scored([moved(0)[0], []])
    (a, b, c) = scores.details()["classes"]
    assert (a["category_id"], a["objects"], a["mask_ap"]) == (7, 2, pytest.approx(0.505, abs=0.01))
    assert (b["class"], b["objects"], b["box_ap"]) == ("b", 0, None) and (c["objects"], c["box_ap"]) == (2, 1.0)
    lines = scores.in_words(1).splitlines()
    assert lines[0].split() == ["mask", "AP", "box", "AP", "objects", "class"]
    assert lines[1].endswith("2  a") and lines[2].startswith("… 1 more classes")
    monkeypatch.setattr(scores, "_by_class", lambda: [a | {"mask_ap": None}, b, c])  # too large an area to be judged
    assert [line[-1] for line in scores.in_words(9).splitlines()[1:]] == ["c"]
    with pytest.raises(InputError, match="--confusion"):
        Detection(masks=True).check_files("x.png", None)


def test_results_have_the_files_ids_and_original_pixels(tmp_path):
    scored(moved(0)).write(tmp_path / "results.json")
    boxes, masks = (json.loads((tmp_path / f"results.{kind}.json").read_text()) for kind in ("bbox", "segm"))
    for results, key in ((boxes, "bbox"), (masks, "segmentation")):
        ids = [(result["image_id"], result["category_id"]) for result in results]
        assert ids == [(11, 7), (11, 90), (11, 90), (4, 7)]
        assert all(set(result) == {"image_id", "category_id", "score", key} for result in results)
    assert boxes[1]["bbox"] == [40, 10, 30, 45] and masks[3]["segmentation"]["size"] == [120, 50]
    np.testing.assert_array_equal(pixels_of(masks[1]["segmentation"]), rectangles([(40, 10, 70, 55)], SIZES[0])[0])
    scored(moved(0), model="faster_rcnn").write(tmp_path / "boxes.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "results.bbox.json", "results.segm.json"]


def test_measures_rise_and_masks_come_first():
    mask, *_, box, _, _ = task_of("mask_rcnn").measures
    assert (mask.name, mask.words, mask.text(0.3456)) == ("mask_ap", "mask AP", "34.56 %") and mask.better(0.3, 0.2)
    assert box.name == task_of("faster_rcnn").measures[0].name == "box_ap"


def test_answers_are_told_and_drawn():
    answer = Answer(
        np.array([[40.0, 10, 70, 55], [5, 7, 35, 29]]), np.array([0.9, 0.4]), np.array([2, 0]), np.ones((2, 28, 28))
    )
    (sure,) = told(answer, TwoPictures.preparation, SIZES[0], 0.5)
    assert (sure["class"], sure["category_id"], sure["box"], sure["score"]) == ("c", 90, [40, 10, 70, 55], 0.9)
    assert len(told(answer, TwoPictures.preparation, SIZES[0], 0.4)) == 2
    task = task_of("mask_rcnn")
    line = task.in_words({"file": "x.png", "objects": [sure]})
    assert line == "x.png: c 90.0 %" and "nothing found" in task.in_words({"file": "x.png", "objects": []})
    drawn = np.asarray(task.drawn(Image.new("RGB", (80, 60)), {"objects": [sure]}))
    assert drawn.shape == (300, 400, 3)  # a small picture is enlarged fivefold
    assert drawn[150, 275].any() and not drawn[150, 100].any()


def test_samples_are_shown_as_the_network_saw_them():
    task, dataset = task_of("mask_rcnn"), TwoPictures()
    seen = {**batch(), "image": np.zeros((2, 3, 128, 96), np.float32), "size": np.array([(30, 40), (120, 50)])}
    pictures = task.pictures(task.samples(seen, predictions(moved(0))), dataset)
    assert [picture.shape for picture in pictures.values()] == [(300, 400, 3), (720, 300, 3)]
    grey, half = pictures["eval/sample_0"][5, 395], pictures["eval/sample_0"][160, 275]
    assert (grey == 128).all() and (half != grey).any()  # the object at x 55 of 80 is at 27.5 of 40


def test_run_lengths_and_back():
    mask = np.random.default_rng(0).random((7, 5)) > 0.5
    np.testing.assert_array_equal(pixels_of(run_lengths(mask)), mask)


def test_sets_that_nothing_can_be_learned_from_are_told(monkeypatch):
    task = task_of("mask_rcnn")
    task.check(TwoPictures())
    with monkeypatch.context() as patch, pytest.raises(InputError, match="pip install -r requirements-detection.txt"):
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        task.check(TwoPictures())
    with pytest.raises(InputError, match="show no object"):
        task.check(TwoPictures([[], []]))
    with pytest.raises(InputError, match="show no object"):
        task.check(TwoPictures([OBJECTS[0][:1], []], crowd={(0, 0)}))
    boxes_only = TwoPictures()
    boxes_only.has_masks = False
    with pytest.raises(InputError, match="faster_rcnn"):
        task.check(boxes_only)
    task_of("faster_rcnn").check(boxes_only)
    pictures = SimpleNamespace(classes=("a", "b"), labels=np.zeros(3, int))
    with pytest.raises(InputError, match="no boxes"):
        task.check(pictures)
    with pytest.raises(InputError, match="not one class each"):
        task_of("resnet").check(TwoPictures())
