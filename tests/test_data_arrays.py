"""Sets in memory: idx files, the embedded Fashion-MNIST, balanced parts, augmentation by table, the synthetic set."""

import dataclasses
import gzip
import json
import os

import numpy as np
import pytest
from PIL import Image

from data import DATASETS, DataError
from data.arrays import ArrayDataset, balanced_part
from data.idx import read_idx, write_idx
from data.normalise import normalise


def numbered(count=6, size=5):
    """Grey pictures whose every pixel differs, so that a wrong crop, flip or sample shows."""
    return np.arange(count * size * (size + 1), dtype=np.uint8).reshape(count, 1, size, size + 1)


def array_set(images, **settings):
    labels = np.arange(len(images)) % 3
    return ArrayDataset(images, labels, ("a", "b", "c"), source="here", mean=(0.5,), std=(0.25,), **settings)


def folder_of_idx(folder, train=20, validation=10):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", validation)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


def test_embedded_part_is_class_balanced_and_learnable():
    train, validation = DATASETS["fashion_mnist"]()
    assert (len(train), len(validation), train.image_shape) == (12000, 2000, (1, 28, 28))
    assert np.bincount(train.labels).tolist() == [1200] * 10
    assert np.bincount(validation.labels).tolist() == [200] * 10
    # Pictures and labels belong together: the nearest class mean alone is right two times in three.
    means = np.stack([train.images[train.labels == c].mean(axis=0).ravel() for c in range(10)])
    pictures = validation.images.reshape(len(validation), -1).astype(np.float64)
    distances = ((pictures[:, None] - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == validation.labels).mean() > 0.65


def test_validation_is_the_plain_picture_normalised():
    _, validation = DATASETS["fashion_mnist"]()
    batch = validation.batch(np.array([7, 3]), seed=1, epoch=2)
    assert batch["image"].dtype == np.float32 and batch["label"].dtype == np.int64
    expected = (validation.images[[7, 3]] / 255 - 0.2860) / 0.3530
    np.testing.assert_allclose(batch["image"], expected, rtol=1e-5, atol=1e-6)
    assert batch["label"].tolist() == validation.labels[[7, 3]].tolist()


def test_normalise_by_hand():
    pixels = np.array([0, 255, 51], np.uint8).reshape(3, 1, 1)
    result = normalise(pixels, (0.5, 0.25, 0.1), (0.5, 0.25, 0.2))
    np.testing.assert_allclose(result.ravel(), [-1, 3, 0.5], rtol=1e-6)


def test_prepare_is_what_validation_sees():
    _, validation = DATASETS["fashion_mnist"]()
    picture = Image.fromarray(validation.images[11, 0])
    expected = validation.batch(np.array([11]), seed=0, epoch=0)["image"][0]
    np.testing.assert_array_equal(validation.preparation(picture), expected)
    np.testing.assert_array_equal(validation.preparation(picture.convert("RGB")), expected)
    assert validation.preparation(Image.new("RGBA", (50, 90))).shape == (1, 28, 28)
    assert json.loads(json.dumps(dataclasses.asdict(validation.preparation)))["image_shape"] == [1, 28, 28]


def test_augmentation_is_a_function_of_seed_epoch_and_index():
    dataset = array_set(numbered(count=8), crop_padding=2, flip=True)
    whole = dataset.batch(np.arange(8), seed=3, epoch=5)["image"]
    again = array_set(numbered(count=8), crop_padding=2, flip=True)
    np.testing.assert_array_equal(again.batch(np.array([6, 2]), seed=3, epoch=5)["image"], whole[[6, 2]])
    assert not np.array_equal(dataset.batch(np.arange(8), seed=3, epoch=6)["image"], whole)
    assert not np.array_equal(dataset.batch(np.arange(8), seed=4, epoch=5)["image"], whole)
    np.testing.assert_array_equal(dataset.batch(np.arange(8), seed=3, epoch=5)["image"], whole)


def test_augmentation_crops_and_mirrors_and_uses_every_choice():
    picture = numbered(count=1, size=3) + 1  # 3 rows of 4 columns, no black pixel
    padded = np.pad(picture[0, 0], 1)
    windows = {(t, x): padded[t : t + 3, x : x + 4] for t in range(3) for x in range(3)}
    possible = {np.ascontiguousarray(w).tobytes(): (*key, 0) for key, w in windows.items()}
    possible |= {np.ascontiguousarray(w[:, ::-1]).tobytes(): (*key, 1) for key, w in windows.items()}
    dataset = array_set(np.repeat(picture, 400, axis=0), crop_padding=1, flip=True)
    pixels = np.rint((dataset.batch(np.arange(400), seed=0, epoch=0)["image"] * 0.25 + 0.5) * 255).astype(np.uint8)
    assert {possible[np.ascontiguousarray(p).tobytes()] for p in pixels[:, 0]} == set(possible.values())


def test_balanced_part_takes_the_first_of_each_class_in_order():
    labels = np.array([2, 0, 0, 1, 2, 1, 0, 2])
    assert balanced_part(labels, 4, 3, "n").tolist() == [0, 1, 2, 3]  # the first class has the odd one
    assert balanced_part(labels, 6, 3, "n").tolist() == [0, 1, 2, 3, 4, 5]
    for images in (0, 8):
        with pytest.raises(DataError, match=f"train_images: got {images}, wanted 1 to 6"):
            balanced_part(labels, images, 3, "train_images")


def test_part_of_the_embedded_part():
    train, validation = DATASETS["fashion_mnist"](train_images=500, validation_images=30)
    assert np.bincount(train.labels).tolist() == [50] * 10 and len(validation) == 30
    with pytest.raises(DataError, match="train_images"):
        DATASETS["fashion_mnist"](train_images=12001)


def test_some_classes_have_labels_in_the_order_they_are_named():
    whole, _ = DATASETS["fashion_mnist"]()
    train, validation = DATASETS["fashion_mnist"](classes=("Shirt", "Dress"), train_images=100)
    assert train.classes == train.preparation.classes == ("Shirt", "Dress")
    assert np.bincount(train.labels).tolist() == [50, 50] and np.bincount(validation.labels).tolist() == [200, 200]
    for label, own in ((0, 6), (1, 3)):
        np.testing.assert_array_equal(train.images[train.labels == label], whole.images[whole.labels == own][:50])
    with pytest.raises(DataError, match="train_images: got 2402, wanted 1 to 2400 .2 classes"):
        DATASETS["fashion_mnist"](classes=("Shirt", "Dress"), train_images=2402)


def test_a_grey_set_for_a_network_of_colour_and_another_size():
    plain, _ = DATASETS["fashion_mnist"](train_images=20)
    train, validation = DATASETS["fashion_mnist"](train_images=20, validation_images=10, channels=3, image_size=42)
    assert train.image_shape == validation.image_shape == (3, 42, 42)
    assert (train.images == train.images[:, :1]).all() and train.preparation.mean == (0.2860,) * 3
    for index in (0, 19):
        scaled = Image.fromarray(plain.images[index, 0]).resize((42, 42), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(train.images[index, 2], np.asarray(scaled))
    stored = Image.fromarray(DATASETS["fashion_mnist"]()[1].images[0, 0])  # as a user has it, for infer
    np.testing.assert_array_equal(validation.preparation(stored), validation.batch([0], seed=0, epoch=0)["image"][0])


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"classes": ("Shirt", "Tie")}, "classes: Tie is none of T-shirt/top, Trouser,"),
        ({"classes": ("Bag", "Bag")}, "classes: Bag is there twice"),
        ({"classes": ()}, "classes: empty"),
        ({"image_size": 27}, "fashion_mnist: image_size is 27, wanted 28 or more pixels"),
    ],
    ids=str,
)
def test_bad_settings_of_fashion_mnist_are_one_clear_line(setting, complaint):
    with pytest.raises(DataError) as error:
        DATASETS["fashion_mnist"](**setting)
    assert str(error.value).startswith(complaint) and "\n" not in str(error.value)


def test_full_set_from_a_folder_packed_or_not(tmp_path):
    train, validation = DATASETS["fashion_mnist"](root=str(folder_of_idx(tmp_path)))
    assert (len(train), len(validation)) == (20, 10)
    packed = tmp_path / "t10k-images-idx3-ubyte.gz"
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    _, unpacked = DATASETS["fashion_mnist"](root=str(tmp_path))
    np.testing.assert_array_equal(unpacked.images, validation.images)


def test_full_finds_the_fetched_set_first_and_debians_next(tmp_path, monkeypatch):
    debian, downloads = tmp_path / "debian", tmp_path / "downloads"
    monkeypatch.setattr("data.idx.DEBIAN", debian)
    monkeypatch.setattr("data.idx.DOWNLOADS", downloads)
    with pytest.raises(DataError, match=r"data.root 'full'.*debian.*tools/fetch_data.py fashion_mnist"):
        DATASETS["fashion_mnist"](root="full")
    debian.mkdir()
    folder_of_idx(debian, train=20)
    assert len(DATASETS["fashion_mnist"](root="full")[0]) == 20
    (downloads / "fashion_mnist").mkdir(parents=True)  # an empty or half-filled folder hides nothing
    assert len(DATASETS["fashion_mnist"](root="full")[0]) == 20
    folder_of_idx(downloads / "fashion_mnist", train=30)
    assert len(DATASETS["fashion_mnist"](root="full")[0]) == 30


def test_missing_files_are_named_with_the_command_that_fetches_them(tmp_path):
    with pytest.raises(DataError, match="nowhere.*tools/fetch_data.py"):
        DATASETS["fashion_mnist"](root=str(tmp_path / "nowhere"))
    (folder_of_idx(tmp_path) / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte.*tools/fetch_data.py"):
        DATASETS["fashion_mnist"](root=str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda packed: packed[: len(packed) // 2], "cannot be read"),
        (lambda packed: gzip.decompress(packed)[:-1], "holds 15679 bytes of data, wanted 15680"),
        (lambda packed: gzip.decompress(packed) + b"x", "holds at least 15681 bytes of data, wanted 15680"),
        (lambda packed: b"\0\0\x08\x01" + gzip.decompress(packed)[4:], "begins with 00000801, wanted 00000803"),
        (lambda packed: b"\0\0\x08\x03\0\0", "begins with 00000803"),
        (lambda packed: b"", "begins with nothing"),
    ],
)
def test_damaged_idx_is_named(tmp_path, damage, complaint):
    path = folder_of_idx(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=complaint) as error:
        DATASETS["fashion_mnist"](root=str(tmp_path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_idx_round_trip_and_fixed_bytes(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", dimensions=3), array)


def test_counts_and_labels_that_contradict_are_named(tmp_path):
    path = folder_of_idx(tmp_path) / "t10k-labels-idx1-ubyte.gz"
    write_idx(path, np.zeros(9, np.uint8))
    with pytest.raises(DataError, match="10 images but 9 labels"):
        DATASETS["fashion_mnist"](root=str(tmp_path))
    write_idx(path, np.array([0, 1, 2, 10, 4, 5, 6, 7, 8, 9], np.uint8))
    with pytest.raises(DataError, match="label 10 of image 3 is outside 0..9"):
        DATASETS["fashion_mnist"](root=str(tmp_path))


def test_synthetic_set_is_the_same_each_time_and_learnable():
    train, validation = DATASETS["synthetic"](classes=4, train_images=120, validation_images=60, image_size=16)
    again, _ = DATASETS["synthetic"](classes=4, train_images=120, validation_images=60, image_size=16)
    np.testing.assert_array_equal(train.images, again.images)
    assert not np.array_equal(train.images[:60], validation.images)
    assert train.image_shape == (3, 16, 16) and np.bincount(train.labels).tolist() == [30] * 4

    def spectrum(dataset):  # does not see the phase, which is random
        return abs(np.fft.fft2(dataset.images.mean(axis=1) - 128.0)).reshape(len(dataset), -1)

    means = np.stack([spectrum(train)[train.labels == c].mean(axis=0) for c in range(4)])
    distances = ((spectrum(validation)[:, None] - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == validation.labels).mean() > 0.8
    with pytest.raises(DataError, match="channels is 2, wanted 1 or 3"):
        DATASETS["synthetic"](channels=2)


@pytest.mark.parametrize("sizes, complaint", [
    ((2**32 - 1,) * 3, "its header says .*; wanted 1,073,741,824 at most"),
    ((20, 28, 28), "holds at least 15681 bytes of data, wanted 15680"),
])
def test_an_idx_file_without_end_is_not_unpacked_to_its_end(tmp_path, monkeypatch, sizes, complaint):
    read = []
    whole = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: read.append(size) or whole(self, size))
    path = folder_of_idx(tmp_path) / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"\0\0\x08\x03" + np.array(sizes, ">u4").tobytes())
        for _ in range(50):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match=complaint):
        DATASETS["fashion_mnist"](root=str(tmp_path))
    assert 0 < sum(read) < 16_000 and min(read) > 0


def test_a_pipe_in_the_place_of_an_idx_file_is_none(tmp_path):
    path = folder_of_idx(tmp_path) / "train-images-idx3-ubyte.gz"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="holds neither train-images-idx3-ubyte nor"):
        DATASETS["fashion_mnist"](root=str(tmp_path))
    with pytest.raises(DataError, match="is a pipe, wanted an ordinary file"):
        read_idx(path, dimensions=3)
