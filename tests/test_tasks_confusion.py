"""Which class is taken for which: the numbers, the lines and the picture."""

import json

import numpy as np
import pytest
from PIL import Image

from engine.drawing import check_target
from engine.errors import InputError
from engine.tasks.confusion import Confusion, by_class_text
from engine.tasks.confusion_figure import LARGEST, SHOWN, condensed, write_confusion_figure


def told(classes, pairs):
    """A Confusion that was told (label, guess) pairs, in two batches."""
    confusion = Confusion(classes)
    for part in (pairs[:3], pairs[3:]):
        labels, guesses = np.array(part, np.int64).reshape(-1, 2).T
        confusion.add(labels, guesses)
    confusion.gather()
    return confusion


def random_pairs(classes, images, seed=0):
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(0, classes, images)
    return np.stack([labels, np.where(numbers.random(images) < 0.6, labels, labels**2 % classes)], 1).tolist()


PETS = told(("cat", "dog", "owl", "ape"), [(0, 0), (0, 1), (0, 2), (0, 2), (1, 1), (1, 1), (2, 0)])


def test_numbers_by_hand():
    assert PETS.images == 7
    assert PETS.matrix().tolist() == [[1, 1, 2, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert json.loads(json.dumps(PETS.by_class())) == [
        {"label": 0, "class": "cat", "images": 4, "wrong": 3, "top1_error": 0.75},
        {"label": 1, "class": "dog", "images": 2, "wrong": 0, "top1_error": 0.0},
        {"label": 2, "class": "owl", "images": 1, "wrong": 1, "top1_error": 1.0},
        {"label": 3, "class": "ape", "images": 0, "wrong": 0, "top1_error": None},
    ]
    assert [PETS.taken_for(label) for label in range(4)] == [(2, 2), None, (0, 1), None]


def test_lines_begin_with_the_worst_class():
    assert by_class_text(PETS, 20).splitlines() == [
        "  error   wrong  images  class",
        "100.00 %      1       1  owl, most often taken for cat (1)",
        " 75.00 %      3       4  cat, most often taken for owl (2)",
        "  0.00 %      0       2  dog",
        "no images of ape",
    ]


def test_lines_of_many_classes_are_bounded():
    many = told([f"class {number}" for number in range(1000)], random_pairs(500, 5000))
    lines = by_class_text(many, 20).splitlines()
    assert len(lines) == 23 and lines[21] == "… 480 more classes, all of them with --json"
    assert lines[22].startswith("no images of class 500, ") and lines[22].endswith("class 519 and 480 more")


def test_up_to_a_hundred_classes_are_drawn_each():
    confusion = told([f"class {number}" for number in range(200)], random_pairs(LARGEST, 3000))
    names, matrix, images, _ = condensed(confusion)
    assert names == [f"class {number}" for number in range(LARGEST)]
    np.testing.assert_array_equal(matrix, confusion.matrix()[:LARGEST, :LARGEST])
    np.testing.assert_array_equal(images, matrix.sum(axis=1))


def test_of_more_classes_those_with_the_most_mistakes_and_the_others_as_one():
    confusion = told([f"class {number}" for number in range(1000)], random_pairs(1000, 20000))
    whole = confusion.matrix()
    names, matrix, images, said = condensed(confusion)
    assert len(names) == SHOWN + 1 and names[-1] == f"{1000 - SHOWN} others" and "Of 1,000 classes" in said
    assert images.sum() == 20000 and matrix.diagonal().sum() == whole.diagonal().sum()
    mistakes = whole.sum(axis=0) + whole.sum(axis=1) - 2 * whole.diagonal()
    shown = [int(name.split()[1]) for name in names[:-1]]
    assert min(mistakes[shown]) >= np.delete(mistakes, shown).max()
    np.testing.assert_array_equal(matrix[:-1, :-1], whole[np.ix_(shown, shown)])


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_the_picture_has_a_square_for_each_class(tmp_path, classes):
    odd = ["$x_$", "外套", "a\nb", "x" * 500, "\ud800"]
    confusion = told((odd + [f"class {number}" for number in range(classes)])[:classes], random_pairs(classes, 3000))
    path = write_confusion_figure(confusion, tmp_path / "confusion.png")
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    blue = (picture[..., 2] - picture[..., 0] > 60) & (picture[..., 2] > 140)
    drawn = min(classes, SHOWN + 1) if classes > LARGEST else classes
    columns = np.flatnonzero(blue.any(axis=0))
    assert np.ptp(columns) >= 0.12 * 200 * (drawn - 1) and np.ptp(picture.shape[:2]) < picture.shape[1] / 2
    assert max(picture.shape) < 4000


def test_the_diagonal_is_blue_and_mistakes_are_red(tmp_path):
    path = write_confusion_figure(told(("a", "b"), [(0, 0), (1, 0)]), tmp_path / "confusion.png")
    with Image.open(path) as opened:
        colours = opened.convert("RGB").getcolors(1 << 24)
    largest = sorted(colour for _, colour in sorted(colours, reverse=True)[:3])
    np.testing.assert_allclose(largest, [(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0xFF, 0xFF, 0xFF)], atol=1)


def test_where_no_picture_can_be_written_is_known_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for path, words in (
        ("x.pdf", "x.pdf: expected a file that ends in .png or .svg"), ("file/x.png", "file: cannot be made"),
        ("folder.png", "folder.png: is a folder"),
    ):
        with pytest.raises(InputError, match=words):
            check_target(tmp_path / path)
    check_target(tmp_path / "new" / "x.svg")
    assert (tmp_path / "new").is_dir()
