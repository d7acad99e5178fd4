"""CIFAR archives: read right, packed and unpacked, damaged and malicious."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from data import DATASETS, DataError
from data.cifar import CIFAR10, CIFAR100, read_pickle


def write_archive(folder, layout, classes, per_file=20, **replaced):
    """A small archive in the published layout; `replaced` puts other bytes in the place of a file."""
    rng = np.random.default_rng(0)
    files = {}
    for name in (*layout.train, *layout.test):
        labels = [i % classes for i in range(per_file)]
        rows = rng.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({b"data": rows, layout.labels: labels}, protocol=2)
    files[layout.meta] = pickle.dumps({layout.classes: [f"class {i}".encode() for i in range(classes)]}, protocol=2)
    files.update(replaced)
    (folder / layout.unpacked).mkdir(parents=True)
    with tarfile.open(folder / layout.packed, "w:gz") as archive:
        for name, content in files.items():
            (folder / layout.unpacked / name).write_bytes(content)
            member = tarfile.TarInfo(f"{layout.unpacked}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


@pytest.mark.parametrize(("layout", "classes", "train_files"), [(CIFAR10, 10, 5), (CIFAR100, 100, 1)])
def test_archive_folder_and_parent_give_the_same(tmp_path, layout, classes, train_files):
    write_archive(tmp_path, layout, classes, per_file=100)
    builder = DATASETS[layout.name]
    train, validation = builder(root=str(tmp_path / layout.packed))
    assert (len(train), len(validation), train.image_shape) == (100 * train_files, 100, (3, 32, 32))
    assert train.classes[:2] == ("class 0", "class 1") and len(train.classes) == classes
    first = pickle.loads((tmp_path / layout.unpacked / layout.train[0]).read_bytes())
    np.testing.assert_array_equal(train.images[3].ravel(), first[b"data"][3])  # red, then green, then blue
    assert train.labels[:100].tolist() == first[layout.labels]
    for root in (tmp_path, tmp_path / layout.unpacked):
        other, _ = builder(root=str(root))
        np.testing.assert_array_equal(other.images, train.images)


def test_the_published_kind_of_pickle_from_python_2_is_read():
    # What Python 2 wrote: protocol 2, strings that are bytes, NumPy's old module name.
    content = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x06\x01\x02\x03\x04\x05\x06tbU\x06labels]K\x07au."
    )
    result = read_pickle(content, "here")
    assert result[b"labels"] == [7]
    np.testing.assert_array_equal(result[b"data"], np.array([[1, 2, 3], [4, 5, 6]], np.uint8))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_of_this_numpy_are_read(protocol):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    if protocol == 5:  # protocol 5 rebuilds arrays from buffers by another function, which no archive uses
        with pytest.raises(DataError, match="_frombuffer, which is refused"):
            read_pickle(pickle.dumps(array, protocol), "here")
        return
    result = read_pickle(pickle.dumps({b"data": array, "text": b"\xff"}, protocol), "here")
    np.testing.assert_array_equal(result[b"data"], array)
    assert result.get("text", result.get(b"text")) == b"\xff"


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_malicious_pickle_is_refused_and_not_executed(tmp_path):
    victim = tmp_path / "victim"
    for number, call in enumerate((Malicious(os.mkdir, str(victim)), Malicious(eval, f"open({str(victim)!r}, 'w')"))):
        content = pickle.dumps({b"data": call, b"labels": []}, protocol=2)
        root = write_archive(tmp_path / str(number), CIFAR10, 10, data_batch_3=content)
        with pytest.raises(DataError, match=r"cifar-10-python.tar.gz/data_batch_3: .* which is refused"):
            DATASETS["cifar10"](root=str(root / CIFAR10.packed))
        assert not victim.exists()
        pickle.loads(content)  # it does bite where it is read as usual: the test can fail
        assert victim.exists()
        victim.rmdir() if victim.is_dir() else victim.unlink()


def test_truncated_archive_is_named(tmp_path):
    path = write_archive(tmp_path, CIFAR10, 10) / CIFAR10.packed
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cifar-10-python.tar.gz: is truncated or no tar.gz"):
        DATASETS["cifar10"](root=str(path))
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="is truncated or no tar.gz"):
        DATASETS["cifar10"](root=str(path))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (pickle.dumps({b"data": 1, b"labels": []}, 2), "no array 'data'"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": np.array(1)}, 2), "no list 'labels'"),
        (pickle.dumps([1], 2), "no array"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, 2), r"data is uint8 \(2, 3072\)"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["a"]}, 2), "else than whole numbers"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [2**70]}, 2), "else than whole numbers"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, 2), "label 10 of image 0 is outside"),
        (b"\x80\x02}q", "no pickle of plain arrays"),
    ],
)
def test_wrong_contents_are_named(tmp_path, content, complaint):
    write_archive(tmp_path, CIFAR10, 10, test_batch=content)
    with pytest.raises(DataError, match=complaint) as error:
        DATASETS["cifar10"](root=str(tmp_path / CIFAR10.unpacked))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("names", [[1], [b"\xff"], ["\ud800"]])
def test_class_names_that_are_none_are_named(tmp_path, names):
    write_archive(tmp_path, CIFAR10, 10, **{"batches.meta": pickle.dumps({b"label_names": names}, 2)})
    with pytest.raises(DataError, match="batches.meta: label_names holds something else than names"):
        DATASETS["cifar10"](root=str(tmp_path))


def test_a_pipe_and_a_file_without_measure_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is neither a file nor a folder"):
        DATASETS["cifar10"](root=str(tmp_path / "pipe"))
    path = write_archive(tmp_path, CIFAR10, 10) / CIFAR10.packed
    monkeypatch.setattr("data.cifar.LARGEST", 1000)
    with pytest.raises(DataError, match="has more than 1,000 bytes unpacked"):
        DATASETS["cifar10"](root=str(path))


def test_missing_archive_or_file_is_named_with_the_command(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="nowhere.*tools/fetch_data.py cifar100"):
        DATASETS["cifar100"](root=str(tmp_path / "nowhere"))
    monkeypatch.setattr("data.cifar.DOWNLOADS", tmp_path / "downloads")
    with pytest.raises(DataError, match="downloads.cifar10: no such.*tools/fetch_data.py cifar10"):
        DATASETS["cifar10"]()
    with pytest.raises(DataError, match="lacks data_batch_1"):
        DATASETS["cifar10"](root=str(tmp_path))


def test_an_archive_without_end_is_left_at_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("data.cifar.LARGEST", 1 << 20)
    write_archive(tmp_path, CIFAR10, 10, test_batch=bytes(1 << 21))
    with pytest.raises(DataError, match="cifar-10-python.tar.gz: has more than 1,048,576 bytes unpacked"):
        DATASETS["cifar10"](root=str(tmp_path / CIFAR10.packed))
    with pytest.raises(DataError, match="test_batch: has more than the 1,048,576 bytes"):
        DATASETS["cifar10"](root=str(tmp_path / CIFAR10.unpacked))


def test_a_pipe_in_the_place_of_a_file_is_named(tmp_path):
    path = write_archive(tmp_path, CIFAR10, 10) / CIFAR10.unpacked / "test_batch"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="test_batch: is a pipe, wanted an ordinary file"):
        DATASETS["cifar10"](root=str(path.parent))


@pytest.mark.parametrize("name, content, complaint", [
    ("batches.meta", {"label_names": ["cat\n\nno problems found"] * 10}, "the class name 'cat.* cannot be shown"),
    ("test_batch", {"data": np.zeros((1, 3072), np.uint8), "labels": [2**63]}, "than whole numbers"),
])
def test_names_and_labels_that_none_can_have_are_named(tmp_path, name, content, complaint):
    write_archive(tmp_path, CIFAR10, 10, **{name: pickle.dumps(content, protocol=2)})
    with pytest.raises(DataError, match=complaint):
        DATASETS["cifar10"](root=str(tmp_path))
