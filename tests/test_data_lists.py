"""Lists of `path label` and files of class names, as they come from other programs, other systems and strangers."""

import os

import pytest
from conftest import picture

from data import DATASETS, DataError


def pictures(root, count=4):
    (root / "cats and dogs").mkdir()
    for number in range(count):
        picture(30, 26, shift=number).save(root / "cats and dogs" / f"{number}.png")


def listed(root, train, validation=None, encoding="utf-8", **settings):
    (root / "train.txt").write_bytes(train if isinstance(train, bytes) else train.encode(encoding))
    (root / "val.txt").write_bytes((validation or "0.png 0\n").encode(encoding))
    return DATASETS["image_folder"](
        root=str(root), train="train.txt", validation="val.txt", image_size=16, resize_short=20, **settings
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_from_windows_is_taken(tmp_path, encoding):
    pictures(tmp_path)
    lines = "cats and dogs\\0.png 0\r\n.\\cats and dogs\\1.png\t1\r\n\r\n"
    train, _ = listed(tmp_path, lines, lines, encoding=encoding)
    assert [os.path.exists(path) for path in train.paths] == [True, True] and train.labels.tolist() == [0, 1]


def test_a_backslash_that_belongs_to_a_name_stays(tmp_path):
    picture(20, 20).save(tmp_path / "a\\b.png")
    train, _ = listed(tmp_path, "a\\b.png 0\n")
    assert train.stored_picture(0).size == (20, 20)


def test_labels_that_start_at_1_are_told_and_a_key_takes_them(tmp_path):
    pictures(tmp_path)
    lines = "cats and dogs/0.png 1\ncats and dogs/1.png 2\ncats and dogs/2.png 3\n"
    (tmp_path / "classes.txt").write_text("cat\ndog\nhorse\n")
    with pytest.raises(DataError, match="train.txt: labels go from 1 to 3, wanted from 0 on; data.first_label=1 takes"):
        listed(tmp_path, lines, "0.png 1\n")
    train, validation = listed(tmp_path, lines, "0.png 3\n", first_label=1)
    assert train.classes == ("cat", "dog", "horse") and validation.labels.tolist() == [2]
    (tmp_path / "classes.txt").unlink()
    assert listed(tmp_path, lines, "0.png 3\n", first_label=1)[0].classes == ("1", "2", "3")
    (tmp_path / "label_list.txt").write_text("1 one\n2\ttwo\n3 three\n")
    assert listed(tmp_path, lines, "0.png 3\n", first_label=1)[0].classes == ("one", "two", "three")
    with pytest.raises(DataError, match="val.txt, line 1: label 4, wanted 1 to 3"):
        listed(tmp_path, lines, "0.png 4\n", first_label=1)
    with pytest.raises(DataError, match=r"val.txt, line 1: label '0', wanted 1 \(data.first_label\) to"):
        listed(tmp_path, lines, "0.png 0\n", first_label=1)


@pytest.mark.parametrize(
    "text, names",
    [("cat\ndog\n", ("cat", "dog")), ("0 cat\n1 big dog\n", ("cat", "big dog")), ("a\nb\nc\n", ("0", "1"))],
)
def test_labels_txt_has_the_names_where_it_has_as_many(tmp_path, text, names):
    (tmp_path / "labels.txt").write_text(text)
    assert listed(tmp_path, "0.png 0\n1.png 1\n")[0].classes == names


@pytest.mark.parametrize(
    "lines, complaint",
    [
        ("0.png 0\n1.png 999999999999999999\n", "line 2: label '9+', wanted 0 .* to 1,000,000,000"),
        ("0.png 0\n1.png " + "9" * 5000, "line 2: label '9{120}' …, wanted"),
        ("0.png 0\n1.png 1000000000\n", r"no image of class 1 \(1\)"),  # and no list of so many names is made
        ("0.png 0\na\0b.png 1\n", r"line 2: 'a\\x00b.png': no file can have this name"),
        ("0.png 0\nC:\\Users\\me\\1.png 1\n", "line 2: got 'C:.*a place on a disk of Windows; wanted a path below"),
        ("0.png,0\n", "line 1: got '0.png,0', wanted `path label` .*; a comma does not separate them, but a space"),
        ("0.png ²\n", "line 1: got '0.png ²', wanted `path label`"),
        ("\x1b[2J\n", r"line 1: got '\\x1b\[2J'"),
        ("x" * 100_000, "line 1: has more than 65,536 letters"),
        ("狗.png 0\n".encode("gbk"), "cannot be read as UTF-8 text"),
        (b"\xff\xfe\n", "cannot be read as UTF-8 text"),
    ],
)
def test_what_is_no_list_is_one_short_line(tmp_path, lines, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        listed(tmp_path, lines)
    assert len(str(error.value)) < len(str(tmp_path)) + 400 and "\n" not in str(error.value)


def test_a_class_name_with_an_escape_is_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n\x1b[2Jno problems found\n")
    with pytest.raises(DataError, match=r"the class name '\\x1b\[2Jno problems found' has characters"):
        listed(tmp_path, "0.png 0\n1.png 1\n")
