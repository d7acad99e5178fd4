"""Folders with a JSON file for each picture: labelme's, and plain ones with classes by their names."""

import base64
import io
import json

import numpy as np
import pytest
from conftest import picture
from PIL import Image
from test_data_coco import lengths_of, read_set

from data import DataError
from data.detection.documents import read_document


def labelme(name, *shapes, **more):
    return {
        "version": "5.5.0", "imagePath": name, "imageHeight": 9, "imageWidth": 12, "imageData": None, **more,
        "shapes": [{"label": label, "points": points, "group_id": None, "shape_type": kind, **extra}
                   for label, points, kind, extra in shapes],
    }


def stamp(mask):
    file = io.BytesIO()
    Image.fromarray(np.uint8(mask)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
        picture(12, 9).save(folder / f"{name}.png")
    return folder


def test_a_plain_folder_names_its_classes(tmp_path):
    mask = lengths_of(slice(1, 4), slice(2, 6))
    one = {
        "image": {"file_name": "one.png", "height": 9, "width": 12},
        "annotations": [
            {"id": 3, "category": "cup", "bbox": [2, 1, 4, 3], "segmentation": mask},
            {"id": 3, "category": "ant", "bbox": [0, 0, 12, 9], "segmentation": mask, "iscrowd": 1},
        ],
    }
    two = {**one, "image": {**one["image"], "file_name": "two.png"}, "annotations": one["annotations"][:1]}
    write(tmp_path / "train", one=one)
    write(tmp_path / "val", two=two)
    train, validation = read_set(tmp_path, train="train", validation="val")
    assert train.classes == validation.classes == ("ant", "cup") and train.category_ids == (1, 2)
    assert train.objects(0).classes.tolist() == [1, 0] and train.objects(0).crowd.tolist() == [False, True]
    assert validation.objects(0).classes.tolist() == [1]
    assert validation.objects(0).boxes.tolist() == [[2, 1, 6, 4]] and validation.path(0).endswith("val/two.png")
    assert [each["area"] for each in train.annotations(0)] == [12, 12]  # of the masks
    two["annotations"][0]["category"] = "cap"
    write(tmp_path / "val", two=two)
    with pytest.raises(DataError, match=r"two\.json: annotations\[0\]: 'cap' is no class of the training set; it has"):
        read_set(tmp_path, train="train", validation="val")


def test_labelmes_shapes_are_objects(tmp_path):
    cross = np.zeros((3, 4), bool)
    cross[1], cross[:, 2] = True, True
    write(tmp_path, first=labelme(
        "first.png", ("cup", [[2, 1], [6, 1], [6, 4]], "polygon", {}), ("ant", [[8, 7], [3, 2]], "rectangle", {}),
        ("cup", [[6, 4], [6, 7]], "circle", {}), ("ant", [[5.0, 2.0], [9.0, 5.0]], "mask", {"mask": stamp(cross)}),
    ))
    (tmp_path / "first.json").rename(tmp_path / "a.json")
    document = read_document(tmp_path)
    triangle, box, circle, stamped = document.annotations
    assert triangle["bbox"] == [2, 1, 4, 3] and triangle["segmentation"] == [[2, 1, 6, 1, 6, 4]]
    assert box["bbox"] == [3, 2, 5, 5] and [each["name"] for each in document.categories] == ["ant", "cup"]
    np.testing.assert_allclose(circle["bbox"], [3, 1, 6, 6])
    assert stamped["bbox"] == [5, 2, 4, 3] and stamped["category_id"] == 1
    pytest.importorskip("pycocotools")
    train, _ = read_set(write(tmp_path / "val", b=labelme("b.png", ("cup", [[0, 0], [6, 6]], "rectangle", {}))).parent,
                        train=".", validation="val")
    masks = next(train.objects(index).masks for index in range(len(train)) if len(train.objects(index)) == 4)
    np.testing.assert_array_equal(masks[3][2:5, 5:9], cross)
    assert masks[3].sum() == cross.sum() and masks[1].sum() == 25 and masks[1][2:7, 3:8].all()
    assert abs(int(masks[2].sum()) - 9 * np.pi) < 3


def test_shapes_of_one_group_are_one_object(tmp_path):
    corner, other = [[0, 0], [3, 0], [3, 3]], [[8, 5], [12, 5], [12, 9]]
    write(tmp_path, a=labelme(
        "a.png", ("cup", corner, "polygon", {"group_id": 1}), ("ant", corner, "polygon", {"group_id": 1}),
        ("cup", other, "polygon", {"group_id": 1}),
    ))
    document = read_document(tmp_path)
    assert [len(each["segmentation"]) for each in document.annotations] == [2, 1]
    assert document.annotations[0]["bbox"] == [0, 0, 12, 9]


@pytest.mark.parametrize(("shape", "said"), [
    (("cup", [[1, 2]], "point", {}), r"shape_type: got 'point', wanted polygon, rectangle, circle or mask"),
    (("cup", [[1, 2], [3, 4]], "polygon", {}), "polygon of 2 points, wanted 3 or more"),
    (("cup", [[1, 2]], "rectangle", {}), "rectangle of 1 points, wanted 2"),
    (("cup", [[1, 2], [3, "4"], [5, 6]], "polygon", {}), r"points: got \[\[1, 2\], \[3, \"4\"\]"),
    (("", [[1, 2], [3, 4]], "rectangle", {}), "label: got '', wanted a text"),
    (("cup", [[1, 2], [3, 4]], "mask", {"mask": "no PNG"}), "mask: wanted a PNG in base64"),
    (("cup", [[1, 2], [3, 4]], "mask", {"mask": None}), "mask: wanted a PNG in base64"),
    (("cup", [[9, 2], [13, 5]], "mask", {"mask": stamp(np.ones((3, 4)))}), "mask: of 3 x 4 pixels, reaches out of"),
])
def test_a_shape_that_is_no_object_is_named(tmp_path, shape, said):
    write(tmp_path, a=labelme("a.png", ("cup", [[0, 0], [3, 3]], "rectangle", {}), shape))
    with pytest.raises(DataError, match=rf"a\.json: shapes\[1\]: {said}"):
        read_document(tmp_path)


def test_a_file_of_a_folder_that_is_broken_is_named(tmp_path):
    for content, said in (
        (labelme("a.png", imageHeight=None), r"a\.json: imageHeight: is missing or null, wanted a whole number of 1"),
        (labelme(3), r"a\.json: imagePath: got 3, wanted a text"),
        ({"annotations": []}, r"a\.json: image: is missing or null, wanted an object"),
        ({"image": {"file_name": "a.png"}}, r"a\.json: has no 'annotations'; it has 'image'"),
        (labelme("a.png"), r"none of its 1 JSON files has an object"),
        ([], r"a\.json: got \[\], wanted an object"),
    ):
        write(tmp_path, a=content)
        with pytest.raises(DataError, match=said):
            read_document(tmp_path)
