"""Annotations of COCO's kind: what is read of them, and how boxes and masks move with their pictures."""

import json
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, picture
from PIL import Image

from data import DATASETS, DataError, Loader, length
from data.dataset import Dataset
from data.detection.dataset import DetectionDataset
from data.detection.masks import checked_lengths, is_lost, mask_of, run_lengths
from engine.build import build_data
from engine.config import load_config
from engine.tasks.detection.coco_files import write_coco
from models import pack_masks

SQUARE = [[2, 1, 6, 1, 6, 4, 2, 4]]  # columns 2 to 5, rows 1 to 3


def lengths_of(rows, columns, shape=(9, 12)):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return run_lengths(mask)


def entry(number, image, category, box, segmentation, **more):
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": box, "segmentation": segmentation,
        "iscrowd": 0, "area": 12.5, **more,
    }


def document():
    """Three pictures 12 wide and 9 high, of which 30 has a crowd only; two categories, not in order, with gaps."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 12, "height": 9} for n in (70, 30, 50)],
        "categories": [{"id": 90, "name": "cup"}, {"id": 7, "name": "cat"}],
        "annotations": [
            entry(1, 70, 90, [2, 1, 4, 3], lengths_of(slice(1, 4), slice(2, 6))),
            entry(2, 50, 7, [0, 2, 3, 7], lengths_of(slice(2, 9), slice(0, 3))),
            entry(3, 70, 7, [7, 0, 5, 9], lengths_of(slice(0, 9), slice(7, 12))),
            entry(4, 30, 7, [0, 0, 12, 9], lengths_of(slice(0, 9), slice(0, 12)), iscrowd=1),
        ],
    }


def write_set(root, train=None, validation=None):
    for part in ("train", "val"):
        (root / part).mkdir(parents=True)
        for n in (70, 30, 50):
            picture(12, 9, n).save(root / part / f"{n}.png")
    (root / "annotations").mkdir()
    for part, content in (("train", train), ("val", validation)):
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content or document()))
    return root


def read_set(root, **settings):
    values = {
        "root": str(root), "train": "annotations/instances_train.json", "validation": "annotations/instances_val.json",
        "resize_short": 9, "resize_long": 12, "flip": False, **settings,
    }
    return DATASETS["coco"](**values)


def bits_of(batch):
    return {name: array.tobytes() for name, array in batch.items()}


def test_categories_are_numbered_and_ids_are_kept(tmp_path):
    train, validation = read_set(write_set(tmp_path))
    for dataset in (train, validation):
        assert isinstance(dataset, Dataset) and isinstance(dataset, DetectionDataset)
        assert dataset.classes == ("cat", "cup") and dataset.category_ids == (7, 90) and dataset.labels is None
        assert dataset.preparation.category_ids == (7, 90)
    assert train.image_ids.tolist() == [70, 50] and validation.image_ids.tolist() == [70, 30, 50]
    objects = train.objects(0)
    assert objects.classes.tolist() == [1, 0] and objects.boxes.tolist() == [[2, 1, 6, 4], [7, 0, 12, 9]]
    for box, mask in zip(objects.boxes.astype(int), objects.masks, strict=True):
        assert mask[box[1] : box[3], box[0] : box[2]].all() and mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    crowd = document()["annotations"][3]
    del crowd["id"]
    assert validation.annotations(1) == [crowd]
    assert [each["category_id"] for each in train.annotations(0)] == [90, 7]
    assert validation.objects(1).crowd.tolist() == [True]


def test_a_batch_has_the_objects_that_can_be_learned(tmp_path):
    train, validation = read_set(write_set(tmp_path), without_objects="keep")
    batch = train.batch([0, 1, 2], seed=0, epoch=0)
    assert length(batch) == 3 and batch["objects"].tolist() == [2, 0, 1]
    assert batch["image"].shape == (3, 3, 32, 32) and batch["size"].tolist() == [[9, 12]] * 3
    assert not batch["image"][:, :, 9:].any() and not batch["image"][:, :, :, 12:].any()
    assert batch["boxes"].shape == (3, 2, 4) and batch["masks"].shape == (3, 2, 32, 4)
    masks = np.zeros((2, 32, 32), bool)
    masks[:, :9, :12] = train.objects(0).masks
    np.testing.assert_array_equal(batch["masks"][0], pack_masks(masks))
    evaluation = validation.batch([1, 0], seed=0, epoch=0)
    assert evaluation.keys() == {"image", "size", "original_size", "index"} and evaluation["index"].tolist() == [1, 0]
    none = train.batch([], seed=0, epoch=0)
    assert none.keys() == batch.keys() and length(none) == 0
    assert sum(array.nbytes for array in train.batch([0], seed=0, epoch=0).values()) <= train.sample_bytes


def test_pictures_without_objects_are_dropped_or_kept_by_a_word(tmp_path):
    dropped, validation = read_set(write_set(tmp_path))
    kept, _ = read_set(tmp_path, without_objects="keep")
    assert (len(dropped), len(kept), len(validation)) == (2, 3, 3)
    assert list(dropped.unused.values()) == [1] and not kept.unused and dropped.digest() != kept.digest()


def test_boxes_only_ask_for_no_masks(tmp_path, monkeypatch):
    content = document()
    content["annotations"][0]["segmentation"] = SQUARE
    write_set(tmp_path, content)
    train, _ = read_set(tmp_path, masks=False)
    assert "masks" not in train.batch([0, 1], seed=0, epoch=0) and train.objects(0).masks is None
    assert "segmentation" not in train.annotations(0)[0] and not train.has_masks
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match=r"pycocotools, which is not installed: pip install -r requirements-detection"):
        read_set(tmp_path)


def test_a_mirrored_picture_has_its_boxes_and_masks_where_they_are(tmp_path):
    train, _ = read_set(write_set(tmp_path), flip=True)
    plain, _ = read_set(tmp_path)
    seen = set()
    for epoch in range(12):
        batch, as_it_is = (dataset.batch([1], seed=0, epoch=epoch) for dataset in (train, plain))
        image, still = batch["image"][0, :, :9, :12], as_it_is["image"][0, :, :9, :12]
        mirrored = not np.array_equal(image, still)
        seen.add(mirrored)
        np.testing.assert_array_equal(image, still[:, :, ::-1] if mirrored else still)
        assert batch["boxes"][0].tolist() == [[9, 2, 12, 9] if mirrored else [0, 2, 3, 9]]  # x' = W - x
        mask = np.unpackbits(batch["masks"][0, 0], axis=-1)[:9, :12].astype(bool)
        expected = train.objects(1).masks[0]
        np.testing.assert_array_equal(mask, expected[:, ::-1] if mirrored else expected)
    assert seen == {True, False}


def test_boxes_and_masks_are_resized_each_axis_by_itself(tmp_path):
    train, validation = read_set(write_set(tmp_path), resize_short=20, resize_long=24)
    batch = train.batch([0], seed=0, epoch=0)
    assert batch["size"].tolist() == [[18, 24]] and batch["original_size"].tolist() == [[9, 12]]
    assert batch["boxes"][0, 0].tolist() == [4, 2, 12, 8]
    mask = np.unpackbits(batch["masks"][0, 0], axis=-1).astype(bool)
    assert mask[2:8, 4:12].all() and mask.sum() == 48
    assert validation.batch([0], seed=0, epoch=0)["size"].tolist() == [[18, 24]]
    odd, _ = read_set(tmp_path, resize_short=10, resize_long=100)  # 9 x 12 -> 10 x 13
    batch = odd.batch([1], seed=0, epoch=0)
    assert batch["size"].tolist() == [[10, 13]]
    np.testing.assert_allclose(batch["boxes"][0, 0], [0, 2 * 10 / 9, 3 * 13 / 12, 10], rtol=1e-6)
    several, _ = read_set(tmp_path, train_resize_short=(9, 18, 27), resize_long=36)
    sizes = {tuple(several.batch([0], seed=0, epoch=epoch)["size"][0]) for epoch in range(30)}
    assert sizes == {(9, 12), (18, 24), (27, 36)}


def test_augmentation_follows_from_seed_epoch_and_image_in_any_number_of_processes(tmp_path):
    train, _ = read_set(write_set(tmp_path), flip=True, train_resize_short=(9, 40), resize_long=60)
    alone = train.batch([1], seed=3, epoch=2)
    both = train.batch([0, 1], seed=3, epoch=2)
    assert bits_of(train.batch([1], seed=3, epoch=2)) == bits_of(alone)
    assert both["size"][1].tolist() == alone["size"][0].tolist()
    assert both["sampling_seed"][1] == alone["sampling_seed"][0] != both["sampling_seed"][0]
    others = [train.batch([1], seed=seed, epoch=epoch) for seed in range(4) for epoch in (0, 1)]
    assert len({bits_of(batch)["image"] for batch in others}) > 2
    batches = [bits_of(batch) for batch in Loader(train, 1, seed=1, train=True).epoch(0)]
    others = [bits_of(batch) for batch in Loader(train, 1, seed=1, train=True, processes=2).epoch(0)]
    assert batches == others and len(batches) == 2


def test_annotations_of_no_use_are_left_out_and_told(tmp_path, caplog):
    content = document()
    whole = lengths_of(slice(0, 9), slice(0, 3))
    content["annotations"] += [
        entry(5, 50, 7, [3, 3, 0, 4], whole), entry(6, 50, 7, [12, 0, 4, 4], whole),
        entry(7, 50, 7, [3, 3, 4, 4], []), entry(8, 50, 7, [3, 3, 4, 4], [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]]),
        entry(9, 50, 7, [-4, 3, 9, 4], whole),
    ]
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4], *SQUARE]
    pytest.importorskip("pycocotools")
    train, _ = read_set(write_set(tmp_path, content))
    said = [record.getMessage() for record in caplog.records]
    for words in ("1 annotations with a box of no area: left", "1 annotations with a box outside its picture: left",
                  "2 annotations without a mask: left", "1 annotations with polygons of fewer than three corners"):
        assert any(words in line and "instances_train.json: annotations[" in line for line in said)
    assert len(train.objects(1)) == 2 and train.objects(0).masks[0].sum() == 12
    assert [len(places) for places in train.left_out.values()] == [1, 1, 1, 2]
    assert train.batch([1], seed=0, epoch=0)["boxes"][0].tolist() == [[0, 2, 3, 9], [0, 3, 5, 7]]  # cut at the edge


def test_what_becomes_too_small_is_no_object_of_the_step_and_counted(tmp_path, caplog):
    content = document()
    content["annotations"] += [entry(5, 50, 7, [5, 5, 1, 1], lengths_of(slice(5, 6), slice(5, 6)))]
    train, _ = read_set(write_set(tmp_path, content), resize_short=2, resize_long=3)
    assert train.batch([1], seed=0, epoch=0)["objects"].tolist() == [1]  # its mask has no pixel there
    assert "1 annotations with a mask that has no pixel once the picture is resized" in caplog.text
    assert [[place[-14:] for place in places] for places in train.left_out.values()] == [["annotations[4]"]]
    assert not read_set(tmp_path)[0].left_out and not read_set(tmp_path, resize_short=2, masks=False)[0].left_out


@pytest.mark.parametrize("after", [(4, 7), (9, 12), (20, 13), (1, 1)], ids=str)
def test_a_mask_is_lost_where_none_of_its_pixels_is_seen(after):
    pytest.importorskip("pycocotools")
    chance, before, seen = np.random.default_rng(0), (9, 12), set()
    for share in (0.0, 0.01, 0.03, 1.0) * 9:
        mask = run_lengths(chance.random(before) < share)
        polygon = [chance.uniform([1, 1] * 3, [2 + 10 * share] * 6).tolist()]
        for segmentation in (mask, polygon):
            seen.add(lost := is_lost(segmentation, before, after))
            assert lost == (not mask_of(segmentation, before, after).any())
    assert seen == {True, False}


def test_a_part_can_be_held_out(tmp_path):
    write_set(tmp_path)
    train, validation = read_set(tmp_path, validation=None, without_objects="keep")
    assert sorted([*train.image_ids, *validation.image_ids]) == [30, 50, 70] and len(validation) == 1
    assert "less 20 % of its pictures" in train.origin
    chosen = {int(read_set(tmp_path, validation=None, without_objects="keep", split_seed=seed)[1].image_ids[0])
              for seed in range(8)}
    assert len(chosen) > 1
    (tmp_path / "train").rename(tmp_path.with_name("elsewhere"))
    elsewhere = read_set(tmp_path, validation=None, without_objects="keep", train_pictures="../elsewhere")
    assert list(map(len, elsewhere)) == [2, 1]


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "images", "annotations", "."])
def test_pictures_are_found_where_people_put_them(tmp_path, place):
    write_set(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(document()))
    (tmp_path / "train").rename(tmp_path / "moved")
    if place not in ("annotations", "."):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / "moved").rename(tmp_path / place)
    else:
        for file in (tmp_path / "moved").iterdir():
            file.rename(tmp_path / place / file.name)
    train, _ = read_set(tmp_path, train="annotations/instances_train2017.json")
    assert train.path(0) == str(tmp_path / place / "70.png")
    assert train.batch([0], seed=0, epoch=0)["objects"].tolist() == [2]


def test_a_broken_picture_stops_or_is_skipped(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train" / "70.png").write_bytes(b"nothing")
    picture(11, 9).save(tmp_path / "val" / "50.png")
    train, validation = read_set(tmp_path)
    with pytest.raises(DataError, match=r"70\.png: cannot be read as an image"):
        train.batch([0], seed=0, epoch=0)
    with pytest.raises(DataError, match=r"50\.png: has 11 x 9 pixels, turned upright; its annotations are of 12 x 9"):
        validation.batch([2], seed=0, epoch=0)
    train, validation = read_set(tmp_path, on_corrupt_image="skip")
    batch = train.batch([0, 1], seed=0, epoch=0)
    assert batch["index"].tolist() == [1, 1] and batch["objects"].tolist() == [1, 1] and train.skipped == 1
    assert batch["sampling_seed"][0] != batch["sampling_seed"][1]
    assert validation.batch([2, 0], seed=0, epoch=0)["index"].tolist() == [0] and validation.skipped == 1


def test_a_file_to_be_judged_elsewhere_has_pictures_only(tmp_path):
    content = {key: value for key, value in document().items() if key != "annotations"}
    _, validation = read_set(write_set(tmp_path, validation=content))
    assert len(validation) == 3 and validation.annotations(0) == [] and not len(validation.objects(0))
    with pytest.raises(DataError, match="instances_train.json: has no 'annotations'; it has 'images', 'categories'"):
        (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
        read_set(tmp_path)


def test_run_lengths_are_numbers_or_text():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 500), (40, 3)):
        for share in (0, 0.1, 0.5, 1):
            mask = rng.random(shape) < share
            np.testing.assert_array_equal(mask_of(run_lengths(mask), shape), mask)
    by_hand = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert run_lengths(by_hand) == {"size": [2, 3], "counts": [2, 1, 1, 2]}
    assert checked_lengths("2111", 2, 3).tolist() == [2, 1, 1, 2]  # the last as the difference to the last but one


def test_polygons_and_text_are_what_pycocotools_makes_of_them():
    coco_mask = pytest.importorskip("pycocotools.mask")

    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 500), (40, 30)):
        for _ in range(20):
            mask = rng.random(shape) < rng.random()
            text = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
            assert checked_lengths(text, *shape).tolist() == run_lengths(mask)["counts"]
            encoded = coco_mask.frPyObjects(run_lengths(mask), *shape)
            assert encoded["counts"].decode() == text
    two = [[1.5, 2, 9, 2.5, 5, 8], [10, 10, 20, 10, 20, 25.5, 10, 25]]
    encoded = coco_mask.merge(coco_mask.frPyObjects(two, 30, 25))
    expected = mask_of({"counts": encoded["counts"].decode()}, (30, 25))
    np.testing.assert_array_equal(mask_of(two, (30, 25)), expected)
    assert expected.sum() == coco_mask.area(encoded) > 150 and expected[12, 15] and not expected[1, 1]
    np.testing.assert_array_equal(mask_of([[5, 5, 10, 5, 10, 10, 5, 10]], (20, 20), (40, 60))[10:20, 15:30], True)


def test_scenes_are_the_same_through_both_doors(tmp_path):
    scenes = DATASETS["garment_scenes"](train_images=6, validation_images=3, image_size=64, fresh=False)
    write_coco(scenes, tmp_path / "scenes")
    read = read_set(tmp_path / "scenes", resize_short=64, resize_long=128)
    assert read[0].classes == scenes[0].classes and read[0].category_ids == scenes[0].category_ids
    one, other = (dataset.batch(np.arange(6), seed=2, epoch=3) for dataset in (scenes[0], read[0]))
    assert one.keys() == other.keys()
    for name in one.keys() - {"image"}:  # which is normalised by other constants
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        assert one[name].dtype == other[name].dtype
    for drawn, stored in zip(scenes, read, strict=True):
        for index in range(3):
            assert drawn.stored_picture(index).tobytes() == stored.stored_picture(index).tobytes()
            assert drawn.annotations(index) == stored.annotations(index)
            np.testing.assert_array_equal(drawn.objects(index).masks, stored.objects(index).masks)


def test_a_command_writes_any_set_as_cocos(tmp_path, run_here):
    write_set(tmp_path / "set")
    data = f"data={{name: coco, root: {tmp_path / 'set'}, train: annotations/instances_train.json, " \
        "validation: annotations/instances_val.json}"
    arguments = ("write_coco.py", "-c", ROOT / "configs" / "my_images.yaml", "--output", tmp_path / "copy", "-o", data)
    ended = run_here(*arguments)
    assert ended.returncode == 0 and ended.stdout.split("\n")[1].endswith("copy/annotations/instances_val.json")
    for before, after in zip(read_set(tmp_path / "set"), read_set(tmp_path / "copy"), strict=True):
        assert before.category_ids == after.category_ids and before.image_ids.tolist() == after.image_ids.tolist()
        for index in range(len(before)):
            assert before.annotations(index) == after.annotations(index)
            assert before.stored_picture(index).tobytes() == after.stored_picture(index).tobytes()
    content = json.loads((tmp_path / "copy" / "annotations" / "instances_train.json").read_text())
    assert [each["id"] for each in content["annotations"]] == [1, 2, 3]  # to pycocotools 0 is none
    again = run_here(*arguments)
    assert again.returncode == 2 and "is there already; expected a new folder, or an empty one" in again.stderr
    other = run_here(*arguments[:3], "--output", tmp_path / "none", "-o", "data={name: fashion_mnist}")
    assert other.returncode == 2 and "data.name: fashion_mnist has no boxes" in other.stderr


def test_archives_may_take_the_folders_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_set(tmp_path / "set")
    (tmp_path / "mounted").mkdir()
    shutil.make_archive(str(tmp_path / "mounted" / "pictures"), "zip", tmp_path / "set")
    config = load_config(ROOT / "configs" / "my_images.yaml", [
        f"data={{name: coco, root: {tmp_path / 'mounted'}, train: annotations/instances_train.json, "
        "validation: annotations/instances_val.json, resize_short: 9, resize_long: 12}",
    ])
    train, _ = build_data(config)
    assert len(train) == 2 and Image.open(train.path(0)).size == (12, 9)
