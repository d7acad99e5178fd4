"""Which pictures of a folder are taken: behind links, of many endings; and which are there and told as not taken."""

import os
import socket
from collections import Counter

import pytest
from conftest import picture
from PIL import Image

from data import DATASETS, DataError
from data.walk import picture_files

SMALL = {"image_size": 16, "resize_short": 20}


def class_folders(root, names=("cat", "dog"), count=3):
    for split in ("train", "val"):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                picture(30, 26, shift=number).save(root / split / name / f"{number}.png")
    return root


def builder(root, **settings):
    return DATASETS["image_folder"](root=str(root), **{**SMALL, **settings})


def taken(folder):
    unused = Counter()
    files = picture_files(folder, unused)
    reasons = Counter()
    for (reason, _), number in unused.items():
        reasons[reason] += number
    return [os.path.relpath(file, folder) for file in files], reasons


def test_linked_folders_are_searched(tmp_path):
    root = class_folders(tmp_path / "pets")
    (tmp_path / "morecats" / "inner").mkdir(parents=True)
    picture(20, 20).save(tmp_path / "morecats" / "inner" / "9.png")
    (root / "train" / "cat" / "more").symlink_to("../../../morecats")
    assert taken(root / "train" / "cat") == (["0.png", "1.png", "2.png", "more/inner/9.png"], {})
    assert len(builder(root)[0]) == 7


def test_circles_and_second_ways_to_one_file_are_noticed(tmp_path):
    cat = class_folders(tmp_path) / "train" / "cat"
    (cat / "z").mkdir()
    picture(20, 20).save(cat / "z" / "9.png")
    for name, target in (
        ("all", ".."), ("self", "."), ("itself", "itself"), ("z/up", "../../.."), ("a", "z"), ("b.png", "0.png"),
        ("gone", "nowhere"), ("root", "/"),
    ):
        (cat / name).symlink_to(target)
    files, unused = taken(cat)
    assert files == ["0.png", "1.png", "2.png", "z/9.png"]
    assert unused == {"into a circle": 4, "to nowhere": 2, "to what is counted already": 2}
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(20, 20).save(outside / "1.png")
    (cat / "first").symlink_to(outside)
    (cat / "second").symlink_to(outside)
    assert taken(cat)[0] == ["0.png", "1.png", "2.png", "first/1.png", "z/9.png"]
    (tmp_path / "train" / "ape").symlink_to(".")
    with pytest.raises(DataError, match="ape: empty class folder"):
        builder(tmp_path)


def test_a_linked_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def scandir(path, scan=os.scandir):
        if os.path.basename(path) == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    root = class_folders(tmp_path / "pets")
    (tmp_path / "there").mkdir()
    (root / "train" / "cat" / "more").symlink_to(tmp_path / "there")
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="cat/more: Permission denied"):
        builder(root)


@pytest.mark.parametrize("ending", ["JPG", "jpe", "jfif", "ppm", "pgm", "pbm", "tif", "TIFF", "gif", "webp", "bmp"])
def test_endings_that_are_taken(tmp_path, ending):
    root, kind = class_folders(tmp_path), {"pgm": "L", "pbm": "1"}.get(ending, "RGB")
    same = {"JPG": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "pgm": "ppm", "pbm": "ppm"}
    picture(20, 20).convert(kind).save(root / "train" / "cat" / f"9.{ending}", same.get(ending, ending))
    train, _ = builder(root)
    assert len(train) == 7 and train.stored_picture(3).size == (20, 20) and not train.unused


def test_what_is_there_and_not_taken_is_told_in_one_line(tmp_path, caplog):
    root = class_folders(tmp_path)
    cat = root / "train" / "cat"
    content = (cat / "0.png").read_bytes()
    for name in ("no_ending", "photo.jpg_large", ".hidden.png", "phone.HEIC", ".cache/a.png", "notes", "x.txt"):
        (cat / name).parent.mkdir(exist_ok=True)
        (cat / name).write_bytes(b"words" if name in ("notes", "x.txt") else content)
    (cat / "._0.png").write_bytes(b"\0\5\x16\7 of a Mac")
    (root / "train" / "beside.png").write_bytes(content)
    (root / "beside.jpg").write_bytes(content)
    (root / "more.zip").write_bytes(b"")
    (root / "test" / "cat").mkdir(parents=True)
    (root / "test" / "cat" / "1.png").write_bytes(content)
    train, _ = builder(root)
    assert len(train) == 6
    (line,) = caplog.messages
    assert line == (
        f"data.root {root}: not taken: 3 pictures beside the class folders, 1 picture called .jpg_large, "
        "2 pictures hidden, 1 archive not unpacked, for other data lie beside, 1 picture of the format .heic, "
        "1 picture without an ending; tools/check_data.py says where"
    )


def test_pictures_beside_class_folders_without_a_split(tmp_path):
    root = class_folders(tmp_path) / "train"
    picture(20, 20).save(root / "beside.png")
    assert sum(builder(root)[0].unused.values()) == 1


def test_lists_that_name_fewer_than_there_are(tmp_path, caplog):
    root = class_folders(tmp_path)
    (root / "train.txt").write_text("train/cat/0.png 0\n./train/dog/0.png 1\n")
    (root / "val.txt").write_text("val//cat/0.png 0\n")
    train, _ = builder(root, train="train.txt", validation="val.txt")
    assert {(reason, os.path.relpath(folder, root)): n for (reason, folder), n in train.unused.items()} == {
        ("in no list", "train/cat"): 2, ("in no list", "train/dog"): 2, ("in no list", "val/cat"): 2,
        ("in no list", "val/dog"): 3,
    }
    assert "not taken: 9 pictures in no list" in caplog.text


def test_what_is_no_ordinary_file_counts_as_a_corrupt_picture(tmp_path):
    """A pipe would be waited for without end: the test would hang."""
    root = class_folders(tmp_path)
    cat = root / "train" / "cat"
    for name in ("8.png", "9.png"):  # two of the same size are compared where a share is held out
        os.mkfifo(cat / name)
    (cat / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(cat / "socket.png"))
        train, _ = builder(root)
    for index, kind in enumerate(("a pipe", "a pipe", "a device", "a socket"), start=3):
        with pytest.raises(DataError, match=f"png: is {kind}, wanted an ordinary file"):
            train.stored_picture(index)
    assert len(builder(root / "train")[0]) > 0
    train, _ = builder(root, on_corrupt_image="skip")
    assert len(train.batch([3], seed=0, epoch=0)["label"]) == 1 and train.skipped == 4


@pytest.mark.parametrize("name", ["classes.txt", "labels.txt", "label_list.txt", "train.txt", "val.txt"])
def test_a_pipe_in_the_place_of_a_list_is_named(tmp_path, name):
    root = class_folders(tmp_path)
    (root / "train.txt").write_text("train/cat/0.png 0\ntrain/dog/0.png 1\n")
    (root / "val.txt").write_text("val/cat/0.png 0\n")
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(DataError, match=f"{name}: is a pipe, wanted an ordinary file"):
        builder(root, train="train.txt", validation="val.txt")


def test_a_guess_about_folders_can_be_overruled(tmp_path):
    names = ("cat", "test", "train", "val")
    for name in names:
        (tmp_path / name).mkdir()
        for number in range(2):
            picture(20, 20, shift=number).save(tmp_path / name / f"{number}.png")
    with pytest.raises(DataError, match="train: holds no class folders"):
        builder(tmp_path)
    train, validation = builder(tmp_path, split="none")
    assert train.classes == names and len(train) == len(validation) == 4
    for name in ("train", "val"):
        for file in (tmp_path / name).iterdir():
            file.unlink()
        (tmp_path / name).rmdir()
    with pytest.raises(DataError, match="has test, but no train; .* data.split=none where all folders are classes"):
        builder(tmp_path)
    with pytest.raises(DataError, match="data.split none: takes no data.train"):
        builder(tmp_path, split="none", train="cat")
    with pytest.raises(DataError, match="train: no such file"):
        builder(tmp_path, split="folders")


@pytest.mark.parametrize("name", ["a\n\nno problems found", "\x1b[2J", "abc\u202edef", "\x7f", "\u2028"])
def test_a_class_name_that_would_not_show_itself_is_refused(tmp_path, name):
    root = class_folders(tmp_path, names=("cat", name))
    with pytest.raises(DataError, match="the class name .* has characters that cannot be shown; rename it") as error:
        builder(root)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [" ", "-rf", "$HOME", "a b", "猫", "'\"", "%s{}", "é", "x" * 255, "#1", "~", "null"])
def test_odd_names_of_classes_and_files_are_taken(tmp_path, name):
    root = class_folders(tmp_path, names=("cat", name))
    Image.new("RGB", (20, 20)).save(root / "train" / name / f"{name[:250]}.png")
    train, _ = builder(root)
    assert name in train.classes and len(train) == 7
    assert len(train.batch(range(7), seed=0, epoch=0)["label"]) == 7
