"""Image files: class folders, split or not, and lists, the paper's augmentation, corrupt images."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import denormalised, picture
from PIL import Image

from data import DATASETS, DataError
from data.randomness import global_state_seeded
from data.transforms import EIGENVALUES, EIGENVECTORS, TrainingTransform

SMALL = {"image_size": 16, "resize_short": 20}


def class_folders(root, names=("cat", "dog"), train=3, validation=2):
    for split, count in (("train", train), ("val", validation)):
        for label, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                picture(30 + 4 * i, 26, shift=100 * label + 10 * i).save(root / split / name / f"{i}.png")
    return root


def builder(root, **settings):
    return DATASETS["image_folder"](root=str(root), **{**SMALL, **settings})


def test_class_folders_in_sorted_order(tmp_path):
    class_folders(tmp_path, names=("zebra", "ape"))
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()  # AI Studio's notebooks leave these everywhere
    (tmp_path / "train" / "ape" / "notes.txt").write_text("no image")
    train, validation = builder(tmp_path)
    assert train.classes == validation.classes == ("ape", "zebra")
    assert train.labels.tolist() == [0] * 3 + [1] * 3 and len(validation) == 4
    assert train.image_shape == (3, 16, 16) and not train.in_memory
    batch = validation.batch(np.array([3, 0]), seed=0, epoch=0)
    assert batch["image"].shape == (2, 3, 16, 16) and batch["image"].dtype == np.float32
    assert batch["label"].dtype == np.int64 and batch["label"].tolist() == [1, 0]
    blue = denormalised(batch["image"][0])[2] * 255  # "zebra" was written first, with shift 0 and 10
    np.testing.assert_allclose(blue, 10, atol=0.01)
    assert json.loads(json.dumps(dataclasses.asdict(train.preparation)))["resize_short"] == 20


def test_lists_with_spaces_tabs_and_names(tmp_path):
    class_folders(tmp_path)
    picture(30, 30, shift=77).save(tmp_path / "a file 3.png")
    (tmp_path / "train_list.txt").write_text("train/cat/0.png 0\n\na file 3.png 1\ntrain/dog/1.png\t2\n")
    (tmp_path / "val_list.txt").write_text("val/dog/0.png 2\n")
    train, validation = builder(tmp_path, train="train_list.txt", validation="val_list.txt")
    assert train.classes == ("0", "1", "2") and train.labels.tolist() == [0, 1, 2]
    image = validation.preparation(Image.open(tmp_path / "a file 3.png"))
    np.testing.assert_allclose(denormalised(image)[2] * 255, 77, atol=0.01)
    assert train.batch(np.array([1]), seed=0, epoch=0)["label"].tolist() == [1]
    (tmp_path / "label_list.txt").write_text("0 tench, Tinca tinca\n2 shark\n1 goldfish\n")
    assert builder(tmp_path, train="train_list.txt", validation="val_list.txt")[0].classes[:2] == (
        "tench, Tinca tinca",
        "goldfish",
    )
    (tmp_path / "classes.txt").write_text("one\ntwo\nthree\n", encoding="utf-8-sig")  # as Windows' Notepad does
    assert builder(tmp_path, train="train_list.txt", validation="val_list.txt")[0].classes == ("one", "two", "three")


@pytest.mark.parametrize(
    ("train", "validation", "complaint"),
    [
        ("a.png 0\nb.png", "a.png 0", r"train.txt, line 2: got 'b.png', wanted `path label`"),
        ("a.png 0\nb.png -1", "a.png 0", r"train.txt, line 2: got 'b.png -1'"),
        ("a.png 0\nb.png x", "a.png 0", r"train.txt, line 2"),
        ("a.png 0\nb.png 1", "a.png 0\na.png 2", r"val.txt, line 2: label 2, wanted 0 to 1"),
        ("a.png 0\nb.png 2", "a.png 0", r"train.txt: no image of class 1 \(1\)"),
        ("\n", "a.png 0", r"train.txt: is empty"),
    ],
)
def test_wrong_lists_are_named(tmp_path, train, validation, complaint):
    (tmp_path / "train.txt").write_text(train)
    (tmp_path / "val.txt").write_text(validation)
    with pytest.raises(DataError, match=complaint) as error:
        builder(tmp_path, train="train.txt", validation="val.txt")
    assert str(tmp_path) in str(error.value)


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder; wanted a folder of class folders, or of train and"):
        builder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no folders; wanted a folder of pictures for each class, or train"):
        builder(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="holds one folder only, train"):
        builder(tmp_path)
    with pytest.raises(DataError, match="train: holds no class folders"):
        builder(tmp_path, validation="test")
    (tmp_path / "train").rmdir()
    class_folders(tmp_path)
    (tmp_path / "val" / "horse").mkdir()
    with pytest.raises(DataError, match="val: has a folder for the unknown class 'horse'"):
        builder(tmp_path)
    (tmp_path / "train" / "horse").mkdir()
    with pytest.raises(DataError, match="horse: empty class folder"):
        builder(tmp_path)
    (tmp_path / "val" / "horse").rmdir()
    picture(30, 30).save(tmp_path / "train" / "horse" / "0.png")
    with pytest.raises(DataError, match="val: lacks a folder for class 'horse'"):
        builder(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def scandir(path, scan=os.scandir):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    class_folders(tmp_path)
    with pytest.raises(DataError, match="dog: Permission denied"):
        builder(tmp_path)


def test_one_class_is_no_task(tmp_path):
    class_folders(tmp_path / "a", names=("cat",))
    with pytest.raises(DataError, match="train: holds one class folder only, cat; wanted two or more$"):
        builder(tmp_path / "a")
    for split in ("train", "val"):
        class_folders(tmp_path / "b" / split / "images").rename(tmp_path / "b" / split / "there")
    with pytest.raises(DataError, match="only, there; .*; try data.train=train/there and data.validation likewise"):
        builder(tmp_path / "b")


def test_a_class_name_that_is_no_text_is_one_line(tmp_path):
    class_folders(tmp_path)
    os.rename(tmp_path / "train" / "cat", os.fsencode(tmp_path / "train") + "/狗".encode("gbk"))
    with pytest.raises(DataError, match=r"train: folder b'.*': its name is no UTF-8 text"):
        builder(tmp_path)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_folder(tmp_path, name):
    (class_folders(tmp_path) / "val").rename(tmp_path / name)
    train, validation = builder(tmp_path)
    assert len(train) == 6 and len(validation) == 4
    assert validation.origin == str(tmp_path / name)


def test_a_test_folder_is_no_validation_unless_it_is_named(tmp_path):
    (class_folders(tmp_path) / "val").rename(tmp_path / "test")
    with pytest.raises(DataError, match="has train, but none of val, valid, validation; data.validation=test"):
        builder(tmp_path)
    assert len(builder(tmp_path, validation="test")[1]) == 4
    train, validation = builder(tmp_path / "train")  # as the message says
    assert (len(train), len(validation)) == (4, 2)


def unsplit(root, **counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(30 + i, 26, shift=10 * i).save(root / name / f"Bild {i}é.png")
    return root


def held_out_names(root, **settings):
    train, validation = builder(root, **settings)
    found = [{os.path.relpath(os.fsdecode(path), root) for path in dataset.paths} for dataset in (train, validation)]
    assert not found[0] & found[1]
    for dataset in (train, validation):
        assert [Path(os.fsdecode(path)).parent.name for path in dataset.paths] == [
            dataset.classes[label] for label in dataset.labels
        ]
    return found


def test_without_a_split_a_share_of_every_class_is_held_out(tmp_path):
    unsplit(tmp_path / "a", 猫=20, dog=2, horse=9)
    (tmp_path / "a" / "__MACOSX" / "dog").mkdir(parents=True)
    train, validation = held_out_names(tmp_path / "a")
    counts = [Counter(name.split(os.sep)[0] for name in part) for part in (validation, train)]
    assert counts == [{"猫": 4, "dog": 1, "horse": 2}, {"猫": 16, "dog": 1, "horse": 7}]
    assert held_out_names(tmp_path / "a")[1] == validation
    assert held_out_names(tmp_path / "a", split_seed=1)[1] != validation
    assert len(held_out_names(tmp_path / "a", validation_share=0.99)[0]) == 3  # one of each class is left

    unsplit(tmp_path / "elsewhere" / "b", 猫=20, dog=2, horse=9)
    assert held_out_names(tmp_path / "elsewhere" / "b")[1] == validation  # wherever the folder lies
    picture(90, 90).save(tmp_path / "a" / "horse" / "new.png")
    assert len(held_out_names(tmp_path / "a")[1] ^ validation) <= 1  # and hardly another one for a picture more


def test_copies_of_a_file_are_held_out_together(tmp_path):
    unsplit(tmp_path, cat=10, dog=4)
    for file in list((tmp_path / "cat").iterdir()):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    for seed in range(5):
        _, validation = held_out_names(tmp_path, split_seed=seed)
        cats = {Path(name).name for name in validation if name.startswith("cat")}
        assert len(cats) == 4 and {f"copy of {name}" for name in cats if "copy" not in name} < cats
    for file in (tmp_path / "dog").iterdir():
        shutil.copy(tmp_path / "cat" / "Bild 0é.png", file)
    assert len([name for name in held_out_names(tmp_path)[1] if name.startswith("dog")]) == 1  # all alike: no matter


def test_a_folder_that_is_no_split_and_no_class_folders(tmp_path):
    unsplit(tmp_path / "flowers", rose=3, tulip=1)
    with pytest.raises(DataError, match="holds one folder only, flowers; .*; try data.root=.*flowers"):
        builder(tmp_path)
    with pytest.raises(DataError, match="tulip: has one picture; wanted two or more"):
        builder(tmp_path / "flowers")
    unsplit(tmp_path / "Testing", rose=2, tulip=2)
    with pytest.raises(DataError, match="Testing: holds folders and no pictures; wanted .*data.train=NAME"):
        builder(tmp_path)
    (tmp_path / "flowers.txt").touch()
    with pytest.raises(DataError, match="flowers.txt: is a file; wanted a folder"):
        builder(tmp_path / "flowers.txt")


@pytest.mark.parametrize(
    ("setting", "value"), [("resize_short", 15), ("min_area", 0.0), ("color_jitter", -0.1), ("validation_share", 1.0)]
)
def test_settings_out_of_range_are_named(tmp_path, setting, value):
    with pytest.raises(DataError, match=f"image_folder: {setting} is {value}, wanted"):
        builder(class_folders(tmp_path), **{setting: value})


def test_random_crop_keeps_to_area_and_aspect_and_mirrors():
    transform = TrainingTransform(32, min_area=0.08, flip=True, color_jitter=0.0, lighting=0.0)
    source = picture(width=120, height=90)
    areas, aspects, mirrored = [], [], 0
    for index in range(150):
        with global_state_seeded(9, index):
            image = denormalised(transform(source))
        across, down = image[0].mean(axis=0), image[1].mean(axis=1)
        # Ends of the ramp are half a pixel of the crop inside its borders.
        width = abs(across[-1] - across[0]) * 32 / 31 * 120
        height = (down[-1] - down[0]) * 32 / 31 * 90
        areas.append(width * height / (120 * 90))
        aspects.append(width / height)
        mirrored += across[-1] < across[0]
    assert 0.06 < min(areas) < 0.2 and 0.8 < max(areas) < 1.05
    assert 0.66 < min(aspects) < 0.85 and 1.2 < max(aspects) < 1.5
    assert 50 < mirrored < 100


def test_jitter_and_lighting_change_colours_within_bounds():
    grey = Image.new("RGB", (20, 20), (100, 100, 100))  # contrast and saturation leave an even grey alone
    jitter = TrainingTransform(16, min_area=1.0, flip=False, color_jitter=0.4, lighting=0.0)
    lighting = TrainingTransform(16, min_area=1.0, flip=False, color_jitter=0.0, lighting=0.1)
    factors, shifts = [], []
    for index in range(200):
        with global_state_seeded(9, index):
            factors.append(denormalised(jitter(grey)).mean() * 255 / 100)
        with global_state_seeded(9, index):
            shifts.append(denormalised(lighting(grey)).mean(axis=(1, 2)) - 100 / 255)
    assert 0.58 < min(factors) < 0.65 and 1.35 < max(factors) < 1.42
    # The covariance of the shift is V diag((0.1 lambda)^2) V^T, its trace the sum of (0.1 lambda)^2.
    np.testing.assert_allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=2e-3)
    covariance = np.cov(np.array(shifts).T)
    np.testing.assert_allclose(np.trace(covariance), ((0.1 * EIGENVALUES) ** 2).sum(), rtol=0.25)


def test_augmentation_is_a_function_of_seed_epoch_and_index_and_leaves_the_globals_alone(tmp_path):
    train, _ = builder(class_folders(tmp_path))
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    whole = train.batch(np.arange(6), seed=3, epoch=5)["image"]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.seed(2)
    np.random.seed(2)
    np.testing.assert_array_equal(train.batch(np.array([4, 1]), seed=3, epoch=5)["image"], whole[[4, 1]])
    for other in ({"seed": 4, "epoch": 5}, {"seed": 3, "epoch": 6}):
        assert not np.array_equal(train.batch(np.arange(6), **other)["image"], whole)


def test_one_picture_under_two_indices_is_augmented_twice(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "list.txt").write_text("train/cat/0.png 0\ntrain/cat/0.png 0\n")
    train, validation = builder(tmp_path, train="list.txt", validation="list.txt")
    first, second = train.batch(np.arange(2), seed=3, epoch=5)["image"]
    assert not np.array_equal(first, second)
    first, second = validation.batch(np.arange(2), seed=3, epoch=5)["image"]
    np.testing.assert_array_equal(first, second)


def corrupt(root):
    paths = [root / "train" / "cat" / "1.png", root / "val" / "dog" / "0.png"]
    for path in paths:
        path.write_bytes(path.read_bytes()[:60])
    return paths


def test_corrupt_image_stops_with_its_path(tmp_path):
    train_path, validation_path = corrupt(class_folders(tmp_path))
    for dataset, path in zip(builder(tmp_path), (train_path, validation_path), strict=True):
        with pytest.raises(DataError, match="cannot be read as an image") as error:
            dataset.batch(np.arange(4), seed=0, epoch=0)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_truncated_jpeg_text_and_missing_file_are_named(tmp_path):
    class_folders(tmp_path)
    picture(64, 64).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("no image")
    for name, complaint in (("cut", "truncated"), ("text", "cannot be read as an image"), ("gone", "no such image")):
        (tmp_path / "list.txt").write_text(f"{name}.jpg 0\n")
        train, _ = builder(tmp_path, train="list.txt", validation="list.txt")
        with pytest.raises(DataError, match=f"{name}.jpg.*{complaint}"):
            train.batch(np.array([0]), seed=0, epoch=0)


def test_corrupt_image_skipped_and_counted(tmp_path, caplog):
    train_path, _ = corrupt(class_folders(tmp_path))
    train, validation = builder(tmp_path, on_corrupt_image="skip")
    batch = train.batch(np.array([0, 1, 2]), seed=0, epoch=0)
    assert len(batch["image"]) == 3 and batch["label"].tolist() == [0, 0, 0] and train.skipped == 1
    # The next readable image stands in: its blue is 20, where nothing changes colours.
    plain, _ = builder(tmp_path, on_corrupt_image="skip", color_jitter=0.0, lighting=0.0)
    blue = denormalised(plain.batch(np.array([1]), seed=0, epoch=0)["image"][0])[2] * 255
    np.testing.assert_allclose(blue, 20, atol=0.01)
    assert str(train_path) in caplog.text
    left = validation.batch(np.arange(4), seed=0, epoch=0)
    assert left["label"].tolist() == [0, 0, 1] and validation.skipped == 1
    assert left["image"].shape == (3, 3, 16, 16)
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 6 training images can"):
        train.batch(np.array([0]), seed=0, epoch=0)


def test_reading_arrays_needs_no_paddle():
    command = "import sys, data; data.DATASETS['fashion_mnist'](); sys.exit('paddle' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", command], cwd=root).returncode == 0
