"""Broken annotation files: each ends in one line with the file and the place in it, what came and what was wanted."""

import copy
import json
import re

import pytest
from conftest import ROOT, is_one_line
from test_data_coco import SQUARE, document, read_set, write_set

from data import DataError
from data.detection.annotations import checked
from data.detection.documents import read_document
from engine.build import build_data, build_model
from engine.config import load_config


def put(*path, value=None, gone=False):
    """A change of the document at a path, such as ("annotations", 0, "bbox")."""

    def change(content):
        for key in path[:-1]:
            content = content[key]
        if gone:
            del content[path[-1]]
        else:
            content[path[-1]] = value

    return change


def lengths(counts, size=(9, 12)):
    return put("annotations", 2, "segmentation", value={"size": list(size), "counts": counts})


WHERE = r"broken\.json: "
IMAGE, KIND, ENTRY = r"images\[%d\]: ", r"categories\[%d\]: ", r"annotations\[%d\]: "
BROKEN = {  # name: (the change, what the line says)
    "no images": (put("images", gone=True), r"has no 'images'; it has 'categories', 'annotations'"),
    "images no list": (put("images", value={}), r"images: got \{\}, wanted a list"),
    "no image": (put("images", value=[]), IMAGE % 0 + r"there is no image; wanted one or more"),
    "an image that is a name": (put("images", 1, value="30.png"), IMAGE % 1 + r"got '30\.png', wanted an object"),
    "image id as text": (put("images", 2, "id", value="50"), IMAGE % 2 + r"id: got '50', wanted a whole number"),
    "image ids doubled": (put("images", 2, "id", value=70), IMAGE % 2 + r"id 70 is that of images\[0\] too"),
    "no file name": (put("images", 1, "file_name", gone=True), IMAGE % 1 + r"file_name: is missing or null, wanted"),
    "half a letter": (put("images", 1, "file_name", value="\ud800"), IMAGE % 1 + r"file_name: got .*, wanted a text"),
    "width 0": (put("images", 0, "width", value=0), IMAGE % 0 + r"width: got 0, wanted a whole number of 1 or more"),
    "half a pixel": (put("images", 0, "height", value=9.5), IMAGE % 0 + r"height: got 9\.5, wanted"),
    "no categories": (put("categories", gone=True), r"has no 'categories'; it has 'images', 'annotations'"),
    "no category": (put("categories", value=[]), KIND % 0 + r"there is no category"),
    "category ids doubled": (put("categories", 1, "id", value=90), KIND % 1 + r"id 90 is that of categories\[0\] too"),
    "category names doubled": (put("categories", 1, "name", value="cup"), KIND % 1 + r"name 'cup' is that of cat"),
    "a name of nothing": (put("categories", 0, "name", value=" "), KIND % 0 + r"name: got ' ', wanted a text"),
    "a name of two lines": (put("categories", 0, "name", value="a\nb"), KIND % 0 + r"the class name 'a\\nb' has"),
    "annotation ids doubled": (put("annotations", 3, "id", value=2), ENTRY % 3 + r"id 2 is that of annotations\[1\]"),
    "an id that is a list": (put("annotations", 3, "id", value=[2]), ENTRY % 3 + r"id: got \[2\], wanted a whole"),
    "an unknown image": (put("annotations", 1, "image_id", value=51), ENTRY % 1 + r"image_id: got 51, wanted the id"),
    "an unknown category": (put("annotations", 1, "category_id", value=8), ENTRY % 1 + r"category_id: got 8, wanted"),
    "no category id": (put("annotations", 1, "category_id", gone=True), ENTRY % 1 + r"category_id: is missing or null"),
    "no box": (put("annotations", 0, "bbox", gone=True), ENTRY % 0 + r"bbox: is missing or null, wanted \[x, y, width"),
    "a box of three": (put("annotations", 0, "bbox", value=[1, 2, 3]), ENTRY % 0 + r"bbox: got \[1, 2, 3\], wanted"),
    "a box of words": (put("annotations", 0, "bbox", value=["1", 2, 3, 4]), ENTRY % 0 + r'bbox: got \["1", 2, 3, 4\]'),
    "a box not finite": (put("annotations", 0, "bbox", value=[0, 0, float("nan"), 4]), ENTRY % 0 + r"bbox: got \[0, 0"),
    "a number too long": (put("annotations", 0, "bbox", value=[0, 0, 10**400, 4]), ENTRY % 0 + r"bbox: got \[0, 0"),
    "corners the wrong way": (put("annotations", 0, "bbox", value=[6, 1, -4, 3]), r"no width or height below 0"),
    "a crowd of two": (put("annotations", 3, "iscrowd", value=2), ENTRY % 3 + r"iscrowd: got 2, wanted 0 or 1"),
    "an area below 0": (put("annotations", 0, "area", value=-1), ENTRY % 0 + r"area: got -1, wanted"),
    "a polygon in no list": (put("annotations", 1, "segmentation", value=SQUARE[0]), ENTRY % 1 + r"segmentation: got"),
    "a polygon of points": (put("annotations", 1, "segmentation", value=[[[2, 1], [6, 1]]]), r"segmentation\[0\]: "),
    "a mask that is a word": (put("annotations", 1, "segmentation", value="m"), ENTRY % 1 + r"segmentation: got 'm'"),
    "lengths of another size": (lengths([0, 108], (12, 9)), r"size: got \[12, 9\], wanted its picture's height"),
    "lengths too short": (lengths([0, 107]), r"counts: 107 pixels in all, wanted run lengths of the 9 x 12 = 108"),
    "lengths below 0": (lengths([120, -12]), r"counts: a run of -12 pixels, wanted"),
    "lengths that overflow": (lengths([2**63, 2**63]), ENTRY % 2 + r"segmentation: counts: "),
    "no lengths": (lengths(None), r"counts: is missing or null, wanted a list of whole numbers, or COCO's text"),
    "text of other letters": (lengths("§§"), r"counts: letters that stand for no run lengths"),
    "text cut short": (lengths("P"), r"counts: no end of the last number"),
    "text without end": (lengths("o" * 40 + "1"), r"counts: a number without end"),
    "text of another mask": (lengths("11"), r"counts: 2 pixels in all, wanted run lengths of the 9 x 12"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_value_is_named_with_its_place(tmp_path, name):
    change, said = BROKEN[name]
    content = copy.deepcopy(document())
    change(content)
    (tmp_path / "broken.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=WHERE + f".*{said}") as ended:
        checked(read_document(tmp_path / "broken.json"), masks=True)
    assert "\n" not in str(ended.value) and len(str(ended.value)) < 600


NO_JSON = {
    "empty": (b"", r"is no JSON: Expecting value: line 1 column 1"),
    "cut short": (json.dumps(document()).encode()[:300], r"is no JSON: .* line 1 column \d+"),
    "latin": ('{"a": "é"}'.encode("latin-1"), r"is no JSON in UTF-8: byte 7 is no text"),
    "nested": (b"[" * 100_000, r"is no JSON that can be read: RecursionError"),
    "results": (b'[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]', r"is a list, as a file of"),
    "a number": (b"7", r"got 7, wanted an object"),
    "labelme's": (b'{"shapes": []}', r"is labelme's file of one picture; wanted the folder of all of them"),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_annotation_file_is_named(tmp_path, name):
    content, said = NO_JSON[name]
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(DataError, match=WHERE + said):
        read_document(tmp_path / "broken.json")


def test_what_is_no_file_is_named(tmp_path):
    write_set(tmp_path)
    content = document()
    content["images"][0]["file_name"] = "a\0.png"
    (tmp_path / "annotations" / "nul.json").write_text(json.dumps(content))
    for settings, said in (
        ({"train": "annotations/nul.json"}, r"nul\.json: images\[0\]: .*no file can have this name"),
        ({"train": "annotations/none.json"}, r"annotations/none\.json: no such file"),
        ({"train": "val"}, r"val: holds no JSON files; wanted one for each picture, or the name of a file"),
        ({"train_pictures": "nowhere"}, r"instances_train\.json: images\[0\]: no picture '70\.png' in .*nowhere"),
        ({"resize_short": 0}, r"coco: resize_short is 0, wanted 1 to resize_long \(12\)"),
        ({"train_resize_short": (13,)}, r"coco: train_resize_short is \[13\], wanted each 1 to resize_long \(12\)"),
        ({"validation_share": 1.0}, r"coco: validation_share is 1\.0, wanted"),
        ({"max_pixels": 0}, r"coco: max_pixels is 0, wanted"),
    ):
        with pytest.raises(DataError, match=said):
            read_set(tmp_path, **settings)
    (tmp_path / "train" / "50.png").unlink()
    with pytest.raises(DataError, match=r"instances_train\.json: images\[2\]: no picture .*train/50\.png$"):
        read_set(tmp_path)


def test_validation_has_the_categories_of_training(tmp_path):
    content = document()
    content["categories"][0]["name"] = "mug"
    write_set(tmp_path, validation=content)
    with pytest.raises(DataError, match=r"instances_val\.json: categories\[0\]: 90 'mug' is no category of the"):
        read_set(tmp_path)
    content = document()
    content["annotations"] = content["annotations"][3:]
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(document()))
    with pytest.raises(DataError, match="none of its pictures has an object .*; all annotations have iscrowd 1"):
        read_set(tmp_path)


def test_a_set_without_masks_is_told_how_it_can_be_learned(tmp_path):
    content = document()
    for each in content["annotations"]:
        each["segmentation"] = []
    write_set(tmp_path, content, content)
    with pytest.raises(DataError) as error:
        read_set(tmp_path)
    advice = re.search(r"no annotation has a mask: (model\S+) (model\S+) (data\S+)", str(error.value)).groups()
    config = load_config(ROOT / "configs" / "detection" / "my_objects.yaml", [*advice, f"data.root={tmp_path}"])
    train_set, _ = build_data(config)
    assert train_set.batch([0], seed=0, epoch=0)["objects"].tolist() == [2] and build_model(config, train_set)


def test_a_command_ends_in_one_line_and_status_2(tmp_path, run_here):
    content = document()
    content["annotations"][1]["bbox"] = [3, 4, -5, 2]
    write_set(tmp_path, content)
    ended = run_here(
        "check_data.py", "-c", ROOT / "configs" / "my_images.yaml", "--output", tmp_path / "out", "-o",
        f"data={{name: coco, root: {tmp_path}, train: annotations/instances_train.json, "
        "validation: annotations/instances_val.json}",
    )
    assert ended.returncode == 2 and is_one_line(ended.stderr) and not (tmp_path / "out").exists()
    assert re.search(r"instances_train\.json: annotations\[1\]: bbox: got \[3, 4, -5, 2\], wanted", ended.stderr)
