"""New pictures with labels for a model that is there: its classes found by their names."""

import os
import unicodedata

import numpy as np
import pytest
from conftest import denormalised, picture

from data import DataError, Preparation, labelled_pictures
from data.transforms import MEAN, STD

PETS = ("owl", "cat", "T-shirt/top", "café")


def prepared(classes=PETS):
    return Preparation(classes, (3, 16, 16), MEAN, STD, 16)


def pictures(root, *names, shift=0):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(20, 18, shift).save(root / name)
    return root


def test_all_pictures_with_the_labels_of_their_names(tmp_path):
    pictures(tmp_path, "cat/1.png", "cat/deep/er/0.jpg", "cat/.hidden.png", ".git/x.png", shift=200)
    pictures(tmp_path, "owl/0.PNG")
    dataset = labelled_pictures(tmp_path, prepared())
    assert [os.path.relpath(os.fsdecode(path), tmp_path) for path in dataset.paths] == [
        "cat/1.png", "cat/deep/er/0.jpg", "owl/0.PNG",
    ]
    assert dataset.labels.tolist() == [1, 1, 0] and dataset.classes == PETS
    images = dataset.batch(np.arange(3), seed=0, epoch=0)["image"]
    assert images.shape == (3, 3, 16, 16)
    np.testing.assert_allclose(255 * denormalised(images[0])[2], 200, atol=0.01)


def test_names_that_a_folder_cannot_have_or_that_a_system_spells_in_its_own_way(tmp_path):
    decomposed = unicodedata.normalize("NFD", "café")
    assert decomposed != "café"
    pictures(tmp_path, "T-shirt_top/0.png", f"{decomposed}/0.png")
    assert sorted(labelled_pictures(tmp_path, prepared()).labels.tolist()) == [2, 3]
    (tmp_path / "other").mkdir()
    pictures(tmp_path / "other", "a_b/0.png")
    assert labelled_pictures(tmp_path / "other", prepared(("a/b", "a_b"))).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("files", "root", "words"),
    [
        (["cat/0.png", "Owl/0.png"], "", "'Owl' is no class of the model; did you mean owl? It knows owl, cat, T-"),
        (["zebra/0.png"], "", "'zebra' is no class of the model; it knows owl, cat, T-shirt/top, café"),
        (["val/cat/0.png", "train/owl/0.png"], "", "its folder train is no class of the model, but holds such; try "),
        (["cat/0.png"], "cat", "cat: holds no folders; wanted one for each class; try "),
        (["0.png"], "", "holds no folders; wanted one for each class"),
        (["cat/0.txt"], "", "its class folders hold no pictures"),
        (["cat/0.png"], "dog", "dog: no such folder"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, files, root, words):
    for file in files:
        pictures(tmp_path, "x.png")
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / file)
    with pytest.raises(DataError) as error:
        labelled_pictures(tmp_path / root, prepared())
    assert words in str(error.value) and str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


def test_the_classes_of_a_large_model_are_not_all_listed(tmp_path):
    pictures(tmp_path, "x/0.png")
    with pytest.raises(DataError, match="class 18, class 19 and 980 more$"):
        labelled_pictures(tmp_path, prepared(tuple(f"class {number}" for number in range(1000))))


def test_a_name_of_two_classes_says_nothing(tmp_path):
    pictures(tmp_path, "crane/0.png")
    with pytest.raises(DataError, match="'crane' is the name of several classes"):
        labelled_pictures(tmp_path, prepared(("crane", "owl", "crane")))
    (tmp_path / "list.txt").write_text("crane/0.png 2\n")
    assert labelled_pictures(tmp_path / "list.txt", prepared(("crane", "owl", "crane"))).labels.tolist() == [2]


def test_lists_have_the_labels_of_their_own_names_or_the_model_s(tmp_path):
    pictures(tmp_path, "a.png", "b c.png")
    (tmp_path / "list.txt").write_text("a.png 0\nb c.png 1\n")
    assert labelled_pictures(tmp_path / "list.txt", prepared()).labels.tolist() == [0, 1]
    (tmp_path / "classes.txt").write_text("cat\ncafé\nunknown but unused\n")
    assert labelled_pictures(tmp_path / "list.txt", prepared()).labels.tolist() == [1, 3]
    (tmp_path / "list.txt").write_text("a.png 2\n")
    with pytest.raises(DataError, match="list.txt: 'unknown but unused' is no class of the model"):
        labelled_pictures(tmp_path / "list.txt", prepared())


def test_what_is_left_unused_is_told(tmp_path, caplog):
    pictures(tmp_path, "cat/0.png", "beside.png", "cat/.1.png")
    (tmp_path / "owl").mkdir()
    (tmp_path / "beside.png").rename(tmp_path / "owl" / "0.heic")
    pictures(tmp_path, "beside.png")
    labelled_pictures(tmp_path, prepared())
    assert "nothing in owl" in caplog.text
    assert "not taken: 1 picture beside the class folders, 1 picture hidden, 1 picture of the" in caplog.text
