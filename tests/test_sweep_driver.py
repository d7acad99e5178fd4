"""The mark of the one runner that has a sweep's folder, which needs no file locks."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import write_sweep

from engine.errors import InputError
from engine.sweep import driver
from engine.sweep.definition import load_sweep
from engine.sweep.driver import DRIVER_FILE, Mark, driving, refuse_while_driven
from engine.sweep.folder import open_sweep_folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(driver, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(driver, "PATIENCE_SECONDS", 0.6)
    monkeypatch.setattr(driver, "SETTLE_SECONDS", 0.2)


def test_a_second_driver_is_refused_with_the_address_of_the_first(tmp_path):
    with driving(tmp_path, "node-1 (10.0.0.1), process 7"):
        with pytest.raises(InputError, match=r"node-1 \(10.0.0.1\), process 7 is at work in it"):
            with driving(tmp_path, "node-2"):
                pass
    assert not (tmp_path / DRIVER_FILE).exists()
    with driving(tmp_path, "node-2"):
        pass


def test_of_several_that_begin_at_once_one_drives(tmp_path):
    drives, refused = [], []

    def begin(number):
        try:
            with driving(tmp_path, f"node-{number}"):
                drives.append(number)
                time.sleep(1)
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drives) == 1 and len(refused) == 3
    assert all(f"node-{drives[0]}" in line for line in refused)


def test_a_driver_that_was_killed_is_followed(tmp_path):
    Mark(tmp_path, "node-1").beat()  # and no more
    began = time.monotonic()
    with driving(tmp_path, "node-2") as mark:
        assert time.monotonic() - began > driver.PATIENCE_SECONDS
        mark.check()


def test_a_driver_that_stood_still_learns_that_it_was_followed(tmp_path):
    mark = Mark(tmp_path, "node-1")
    mark.beat()
    with driving(tmp_path, "node-2"):
        with pytest.raises(InputError, match="meanwhile node-2 has taken over"):
            mark.check()


def test_a_driver_drives_on_when_its_disk_is_back(tmp_path, monkeypatch):
    """What a shared disk refuses for a moment says nothing about other drivers."""
    opened, refused = os.open, []

    def refuse(path, *more, **options):
        if refused and str(path).endswith(DRIVER_FILE):
            raise OSError(refused[0], os.strerror(refused[0]), str(path))
        return opened(path, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    for number in (errno.ESTALE, errno.EIO):
        with driving(tmp_path, "node-1") as mark:
            refused.append(number)
            mark.look()
            time.sleep(4 * driver.BEAT_SECONDS)
            refused.clear()
            before = (tmp_path / DRIVER_FILE).read_text()
            time.sleep(4 * driver.BEAT_SECONDS)
            assert (tmp_path / DRIVER_FILE).read_text() != before
        assert not (tmp_path / DRIVER_FILE).exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("kept")
    for path in ("/dev/null/x", tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(InputError, match="cannot be written"):
            with driving(Path(path), "node-1"):
                pass


def test_a_mark_of_anything_is_no_traceback(tmp_path):
    for content in (b"", b"\xff\xfe", b"x" * 10_000):
        (tmp_path / DRIVER_FILE).write_bytes(content)
        try:
            refuse_while_driven(tmp_path)
        except InputError as error:
            assert str(error).isprintable()


def test_local_runners_and_a_driver_keep_out_of_each_others_way(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, "{seed: [0]}"))
    sweep.folder.mkdir(parents=True)
    with driving(sweep.folder, "node-1"):
        with pytest.raises(InputError, match="node-1 is at work in it"):
            open_sweep_folder(sweep, {})
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'a+'); "
        "fcntl.lockf(f, fcntl.LOCK_SH); print(1, flush=True); input()"
    )
    runners = str(sweep.folder / ".runners")
    local = subprocess.Popen([sys.executable, "-c", holder, runners], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    local.stdout.readline()
    with pytest.raises(InputError, match="another tools/sweep.py is at work in it; let it finish"):
        open_sweep_folder(sweep, {}, driven=True)
    local.communicate(b"\n")
    open_sweep_folder(sweep, {}, driven=True)
