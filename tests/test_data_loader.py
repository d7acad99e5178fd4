"""The loader: order from (seed, epoch), start in the middle, ranks, worker processes, shared memory."""

import gc
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from data import DATASETS, DataError, Loader, length
from data.loader import _Steps


class Numbers:
    """Sample i is the number i: what the loader asked for can be read from what it gives."""

    sample_bytes = 12
    skipped = 0

    def __init__(self, count, in_memory=True):
        self.count, self.in_memory = count, in_memory

    def __len__(self):
        return self.count

    def batch(self, indices, *, seed, epoch):
        return {"image": np.float32(indices).reshape(-1, 1, 1, 1), "label": np.array(indices, np.int64)}


def labels(loader, epoch, start_step=0):
    return [batch["label"].tolist() for batch in loader.epoch(epoch, start_step)]


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 256, (24, 20 + i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def image_sets(root, **settings):
    return DATASETS["image_folder"](root=str(root), image_size=16, resize_short=18, **settings)


def test_training_order_depends_on_seed_and_epoch_and_on_nothing_else():
    loader = Loader(Numbers(23), 4, seed=1, train=True)
    first = labels(loader, epoch=0)
    assert loader.steps_per_epoch == len(first) == 5 and all(len(step) == 4 for step in first)
    assert len(set(sum(first, []))) == 20
    np.random.seed(99)
    assert labels(Loader(Numbers(23), 4, seed=1, train=True), epoch=0) == first
    assert labels(loader, epoch=1) != first
    assert labels(Loader(Numbers(23), 4, seed=2, train=True), epoch=0) != first
    # (seed, epoch) is a pair, not a sum, and every epoch leaves other images out
    assert labels(Loader(Numbers(23), 4, seed=0, train=True), epoch=1) != first
    assert len({frozenset(sum(labels(loader, epoch), [])) for epoch in range(5)}) > 1


def test_start_in_the_middle_gives_the_tail_without_the_head():
    dataset = Numbers(20)
    loader = Loader(dataset, 3, seed=0, train=True)
    whole = labels(loader, epoch=4)
    asked = []
    dataset.batch = lambda indices, seed, epoch: asked.append(indices) or Numbers.batch(None, indices, seed=0, epoch=0)
    for start in range(7):
        asked.clear()
        assert labels(loader, epoch=4, start_step=start) == whole[start:]
        assert len(asked) == 6 - start


def test_validation_is_every_image_once_in_order():
    loader = Loader(Numbers(10), 4, seed=5, train=False)
    assert loader.steps_per_epoch == 3
    assert labels(loader, epoch=7) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("train", [True, False])
def test_shares_of_the_ranks_together_are_the_whole(train):
    whole = labels(Loader(Numbers(25), 8, seed=3, train=train), epoch=2)
    shares = [labels(Loader(Numbers(25), 8, seed=3, train=train, rank=r, ranks=4), epoch=2) for r in range(4)]
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == whole
    sizes = [len(share[-1]) for share in shares]
    assert sizes == ([2, 2, 2, 2] if train else [1, 0, 0, 0])


def test_too_few_images_and_unequal_shares_are_named():
    with pytest.raises(DataError, match="8 images per step, but the set has 7"):
        Loader(Numbers(7), 8, seed=0, train=True)
    with pytest.raises(DataError, match="8 images per step cannot be shared equally by 3"):
        Loader(Numbers(70), 8, seed=0, train=True, ranks=3)


def test_bits_are_the_same_for_every_number_of_processes_and_globals_are_left_alone(images):
    train, _ = image_sets(images)
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
    runs = [list(Loader(train, 4, seed=2, train=True, processes=p).epoch(1)) for p in (0, 1, 2)]
    assert (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]) == before
    tail = list(Loader(train, 4, seed=2, train=True, processes=2).epoch(1, start_step=1))
    assert [len(run) for run in runs] == [2, 2, 2] and len(tail) == 1
    for run in (*runs[1:], [runs[0][0], *tail]):
        for batch, expected in zip(run, runs[0], strict=True):
            assert isinstance(batch["image"], np.ndarray) and set(batch) == {"image", "label"}
            assert batch["image"].dtype == np.float32 and batch["label"].dtype == np.int64
            np.testing.assert_array_equal(batch["image"], expected["image"])
            np.testing.assert_array_equal(batch["label"], expected["label"])
    assert not np.array_equal(runs[0][0]["image"], runs[0][1]["image"])


def test_empty_share_comes_through_worker_processes():
    loader = Loader(Numbers(9, in_memory=False), 4, seed=0, train=False, rank=3, ranks=4, processes=2)
    batches = list(loader.epoch(0))
    assert [batch["label"].tolist() for batch in batches] == [[3], [7], []]
    assert batches[-1]["image"].shape == (0, 1, 1, 1) and batches[-1]["label"].dtype == np.int64


@pytest.mark.parametrize("processes", [0, 2])
def test_corrupt_image_has_one_message_and_one_count_for_every_number_of_processes(images, processes):
    path = images / "val" / "cat" / "3.png"
    path.write_bytes(b"no image")
    _, validation = image_sets(images)
    with pytest.raises(DataError) as error:
        list(Loader(validation, 4, seed=0, train=False, processes=processes).epoch(0))
    assert str(error.value).startswith(f"{path}: cannot be read as an image") and "\n" not in str(error.value)
    _, validation = image_sets(images, on_corrupt_image="skip")
    loader = Loader(validation, 4, seed=0, train=False, processes=processes)
    assert labels(loader, 0) == [[0, 0, 0], [0, 1, 1, 1], [1, 1]]
    assert loader.dataset.skipped == 1


def test_a_bug_in_a_worker_process_keeps_its_traceback():
    dataset = Numbers(8, in_memory=False)
    dataset.batch = lambda indices, seed, epoch: {}["the bug"]
    with pytest.raises(RuntimeError, match="Traceback.*\n.*(.*\n)*.*KeyError: 'the bug'"):
        list(Loader(dataset, 4, seed=0, train=True, processes=1).epoch(0))


def children():
    """Ids of this process's living children, with the names that tell Paddle's workers from others."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if parent == str(os.getpid()) and state != "Z":
            found.add(pid)
    return found


class Boxes:
    """Ragged lists: image i has i % 4 boxes, and a mask for each, padded to the most that an image of the batch has."""

    in_memory, skipped, sample_bytes = False, 0, 4 * 4 * 3 + 8 + 6 * 3 + 3

    def __len__(self):
        return 12

    def batch(self, indices, *, seed, epoch):
        count = np.array(indices, np.int64) % 4
        real = np.arange(count.max(initial=0)) < count[:, None]
        boxes = np.where(real[..., None], np.float32(indices)[:, None, None] + np.arange(4, dtype=np.float32), 0)
        masks = np.broadcast_to(real[..., None, None], (*real.shape, 2, 3))
        return {"boxes": boxes, "boxes_num": count, "masks": np.uint8(masks), "real": real}


@pytest.mark.parametrize("shared_memory", [True, False])
def test_ragged_lists_padded_to_a_number_come_as_they_are_made(monkeypatch, shared_memory):
    monkeypatch.setattr(Loader, "_shared_memory_suffices", lambda self: shared_memory)
    for images in (1, 4, 5):  # one by one: not one image of every fourth step has a box
        runs = [list(Loader(Boxes(), images, seed=2, train=False, processes=p).epoch(0)) for p in (0, 2)]
        assert len(runs[0]) == len(runs[1]) == -(-12 // images)
        for ours, theirs in zip(*runs, strict=True):
            assert ours.keys() == theirs.keys() and length(ours) == length(theirs)
            for name, values in ours.items():
                assert values.dtype == theirs[name].dtype
                np.testing.assert_array_equal(values, theirs[name])
    empty = list(Loader(Boxes(), 5, seed=0, train=False, rank=3, ranks=4, processes=2).epoch(0))[-1]
    assert length(empty) == 0 and empty["boxes"].shape == (0, 0, 4) and empty["boxes_num"].dtype == np.int64


def test_a_step_of_ragged_lists_is_cut_into_passes_by_slices():
    """As training cuts one: every value is [N, ...], so each part has the boxes of its own images."""
    (step,) = Loader(Boxes(), 12, seed=4, train=True).epoch(0)
    boxes = [image[:count] for image, count in zip(step["boxes"], step["boxes_num"], strict=True)]
    whole = sorted(box[0] for own in boxes for box in own)
    assert whole == [1, 2, 2, 3, 3, 3, 5, 6, 6, 7, 7, 7, 9, 10, 10, 11, 11, 11]
    passes = [{name: value[start : start + 4] for name, value in step.items()} for start in range(0, length(step), 4)]
    assert [length(part) for part in passes] == [4, 4, 4]
    parts = [image[:count] for part in passes for image, count in zip(part["boxes"], part["boxes_num"], strict=True)]
    assert sorted(box[0] for boxes in parts for box in boxes) == whole
    with pytest.raises(ValueError, match="'boxes': 18, 'boxes_num': 12"):
        length({"boxes": np.zeros((18, 4)), "boxes_num": step["boxes_num"]})


@pytest.mark.parametrize("free, wanted", [(5 * 3 * 77 - 1, False), (5 * 3 * 77, True)])
def test_shared_memory_is_asked_for_what_samples_take(monkeypatch, free, wanted):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(free))
    loader = Loader(Boxes(), 3, seed=0, train=False, processes=2)  # 2 * 2 batches ahead, one in hand
    assert loader._shared_memory_suffices() == wanted


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_worker_processes_end_with_an_abandoned_iterator():
    before = children()
    iterator = Loader(Numbers(400, in_memory=False), 4, seed=0, train=True, processes=2).epoch(0)
    next(iterator)
    assert len(children() - before) == 2
    del iterator
    gc.collect()
    deadline = time.monotonic() + 10
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children() - before


@pytest.mark.parametrize("usage", ["small", "missing"])
def test_small_shared_memory_is_noticed_and_done_without(images, monkeypatch, caplog, usage):
    train, _ = image_sets(images)
    loader = Loader(train, 8, seed=2, train=True, processes=1)
    expected = list(loader.epoch(0))
    assert not caplog.records

    def disk_usage(path):
        assert path == "/dev/shm"
        if usage == "missing":
            raise FileNotFoundError(path)
        return namedtuple("usage", "total used free")(2**20, 2**20 - 2**16, 2**16)

    seen = []
    import paddle

    real = paddle.io.DataLoader
    monkeypatch.setattr(paddle.io, "DataLoader", lambda *a, **k: seen.append(k["use_shared_memory"]) or real(*a, **k))
    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with caplog.at_level(logging.WARNING, logger="data"):
        for _ in range(2):
            for batch, other in zip(loader.epoch(0), expected, strict=True):
                np.testing.assert_array_equal(batch["image"], other["image"])
    assert seen == [False, False]
    warnings = [record.getMessage() for record in caplog.records if record.name == "data"]
    assert len(warnings) == 1 and warnings[0].startswith("/dev/shm has 0 MB free, 1 worker processes want 1 MB")


def test_a_worker_process_without_memory_is_bad_luck_and_no_bug(monkeypatch):
    dataset = Numbers(8, in_memory=False)
    monkeypatch.setattr(dataset, "batch", lambda *_, **__: (_ for _ in ()).throw(MemoryError), raising=False)
    message = _Steps(Loader(dataset, 4, seed=0, train=True, processes=1), 0, 0)[0]
    assert "has no memory left; fewer processes" in message["error"] and not message["bug"]


def test_without_room_for_semaphores_no_worker_process_is_started(images, monkeypatch, caplog):
    train, _ = image_sets(images)
    loader = Loader(train, 4, seed=2, train=True, processes=1)
    expected = list(loader.epoch(0))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(2**12))
    monkeypatch.setattr(Loader, "_from_processes", None)
    with caplog.at_level(logging.WARNING, logger="data"):
        for _ in range(2):
            for batch, other in zip(loader.epoch(0), expected, strict=True):
                np.testing.assert_array_equal(batch["image"], other["image"])
    (record,) = [record for record in caplog.records if record.name == "data"]
    assert record.getMessage().startswith("/dev/shm is full: no worker process can be started")


def test_worker_processes_leave_alone_what_they_inherited(tmp_path):
    """Such as an earlier epoch's iterator, whose queue waits for threads that a forked process has not."""

    class Inherited:
        def __init__(self):
            self.own = self  # only the garbage collector will find it
            self.born_in = os.getpid()

        def __del__(self):
            if os.getpid() != self.born_in:
                (tmp_path / "collected").touch()

    dataset = Numbers(8, in_memory=False)
    prepare = dataset.batch
    dataset.batch = lambda indices, **rest: (gc.collect(), prepare(indices, **rest))[1]
    gc.disable()  # or it would be gone before the worker is there
    try:
        Inherited()
        assert len(list(Loader(dataset, 4, seed=0, train=True, processes=1).epoch(0))) == 2
    finally:
        gc.enable()
    assert not (tmp_path / "collected").exists()


PREPARES_AND_WAITS = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from test_data_loader import Numbers
from data import Loader
batches = Loader(Numbers(400, in_memory=False), 4, seed=0, train=True, processes=2).epoch(0)
next(batches)
time.sleep(1)  # by now the workers have done what they were given, and wait
print("ready", flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_worker_processes_end_when_the_run_is_killed():
    script = PREPARES_AND_WAITS.format(root=str(ROOT), tests=str(ROOT / "tests"))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) >= 2
    process.kill()
    try:
        process.communicate(timeout=60)  # ends when nobody holds its output any more: the workers inherited it
    finally:
        for worker in filter(lambda worker: Path(f"/proc/{worker}").exists(), workers):
            os.kill(int(worker), signal.SIGKILL)
