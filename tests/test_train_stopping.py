"""A run that is asked to stop does so at once, wherever it is, and loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module

import pytest
from conftest import ROOT, TINY, picture, train_here
from test_train_resume import assert_same, final_state, scalars

from data import DataError
from engine.errors import Stopped
from engine.train.stopping import signals_caught

OPTIONS = [
    "-o", "schedule.epochs=2", "model.norm=bn", "model.bn_running_statistics=precise", "bn_precise_images=12",
    "model.deformable_stages=[c5]", "record.offsets=2", "record.every_steps=4", "ema_decay=0.9",
]


@pytest.fixture(autouse=True)
def hangups_end_a_process():
    """As a terminal starts it: a run that was hung up lets further hangups pass, to the end of its process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(TINY + f"output: {folder}\n")
    train_here("-c", folder / "tiny.yaml", *OPTIONS)
    return folder / "tiny"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "place", ["engine.train.running_statistics._vectors", "engine.tasks.classification.F.cross_entropy",
              "engine.show_offsets.figures.look"]
)
def test_a_signal_in_an_evaluation_is_obeyed_and_nothing_is_lost(whole, tiny, tmp_path, monkeypatch, place, number):
    """In the precise statistics, in the evaluation proper and in the pictures: the first epoch's, and with it saved."""
    module, _, name = place.rpartition(".")
    owner = import_module("engine.tasks.classification").F if module.endswith(".F") else import_module(module)
    original, calls = getattr(owner, name), []

    def signalled(*arguments, **more):
        calls.append(name)
        if len(calls) == 1:
            os.kill(os.getpid(), number)
        return original(*arguments, **more)

    folder = tmp_path / "output" / "tiny"
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="at step 6; saved, continue with") as stopped:
        if name == "cross_entropy":  # the model's loss in training is another
            train_step = import_module("engine.train.loop").train_step

            def quiet(*arguments, **more):
                with monkeypatch.context() as inner:
                    inner.setattr(owner, name, original)
                    return train_step(*arguments, **more)

            patch.setattr("engine.train.loop.train_step", quiet)
        patch.setattr(owner, name, signalled)
        train_here("-c", tiny, *OPTIONS)
    assert stopped.value.status == 128 + number and len(calls) <= 40
    states = final_state(folder)[".pdstates"]
    assert (states["epoch"], states["step"], states["best"]) == (0, 6, None)
    train_here("-c", tiny, *OPTIONS, "-r", "auto")
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same(final_state(whole), final_state(folder))
    assert scalars(folder) == scalars(whole)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_an_evaluation_that_is_killed_costs_no_step(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "engine.train.validation.evaluate", lambda *arguments, **more: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        train_here("-c", tiny)
    assert final_state(tmp_path / "output" / "tiny")[".pdstates"]["step"] == 6


def test_a_hangup_that_is_ignored_stays_ignored_and_others_are_many():
    with signals_caught() as stop:
        for _ in range(3):  # of a shell, its terminal and whoever else
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal == signal.SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_caught() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.asked


def pictures(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(30):
            picture(12, 12, shift=index).save(tmp_path / "data" / name / f"{index}.png")
    return f"data={{name: image_folder, root: {tmp_path / 'data'}, image_size: 12, resize_short: 12}}"


def children(pid):
    text = open(f"/proc/{pid}/task/{pid}/children").read()
    return [int(child) for child in text.split()]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="/proc tells")
def test_a_reading_process_that_is_killed_ends_the_run_in_one_line_saved(tiny, tmp_path, monkeypatch):
    from engine.train import loop

    step, killed, others = loop.train_step, [], children(os.getpid())

    def killing(learner, batch, number, **more):
        if number >= 2:  # again at each step: one that has read its last batch is not missed
            killed.extend([child for child in children(os.getpid()) if child not in others][-1:])
            os.kill(killed[-1], signal.SIGKILL)
        return step(learner, batch, number, **more)

    data = pictures(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(DataError, match="was ended by SIGKILL, as the sys") as died:
        patch.setattr(loop, "train_step", killing)
        train_here("-c", tiny, "-o", data, "reading.processes=2", "schedule.epochs=40")
    assert any(f"pid {pid}" in str(died.value) for pid in killed)
    assert 3 <= final_state(tmp_path / "output" / "tiny")[".pdstates"]["step"] <= 2 + len(killed) + 4


def test_an_image_that_breaks_meanwhile_ends_the_run_saved(tiny, tmp_path):
    data = pictures(tmp_path)

    def break_one():
        while not (tmp_path / "output" / "tiny" / "epoch_2.pdstates").exists():
            time.sleep(0.01)
        for name in range(30):
            (tmp_path / "data" / "cat" / f"{name}.png").write_bytes(b"no picture")

    thread = threading.Thread(target=break_one)
    thread.start()
    with pytest.raises(DataError, match="cannot be read as an image"):
        train_here("-c", tiny, "-o", data, "reading.processes=0", "schedule.epochs=500", "checkpoint.every_epochs=2")
    thread.join()
    states = final_state(tmp_path / "output" / "tiny")[".pdstates"]
    last = (tmp_path / "output" / "tiny" / "metrics.jsonl").read_text().splitlines()
    assert states["step"] >= 12 and last


def test_an_image_that_is_broken_from_the_start_leaves_a_run_that_can_go_on(tiny, tmp_path):
    data, broken = pictures(tmp_path), tmp_path / "data" / "cat" / "3.png"
    sound = broken.read_bytes()
    broken.write_bytes(b"no picture")
    options = ["-c", tiny, "-o", data, "reading.processes=0", "batch.workers=24", "schedule.epochs=1"]
    with pytest.raises(DataError, match="3.png: cannot be read as an image"):
        train_here(*options)
    broken.write_bytes(sound)
    train_here(*options, "-r", "auto")
    assert (tmp_path / "output" / "tiny" / "result.json").exists()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
def test_a_signal_to_all_its_processes_saves(tiny, tmp_path):
    """As a closed terminal, `timeout` and Slurm send it: the reading processes get it too."""
    data, log = pictures(tmp_path), tmp_path / "output" / "tiny" / "train.log"
    options = [data, "reading.processes=2", "schedule.epochs=900"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools" / "train.py", "-c", tiny, "-o", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    while not (log.exists() and log.read_text().count("[Train]") >= 3) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP and "Traceback" not in stderr, stderr
    assert "stopped by SIGHUP at step" in stderr and "saved" in stderr
    assert final_state(tmp_path / "output" / "tiny")[".pdstates"]["step"] > 0


def test_over_several_devices_the_end_of_a_launcher_is_told_thread_by_thread(monkeypatch):
    monkeypatch.setattr("paddle.distributed.get_world_size", lambda: 2)
    ended = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    try:
        with signals_caught() as stop:
            for at_once, told in ((True, []), (True, []), (False, [signal.SIGTERM])):
                monkeypatch.setattr("engine.train.stopping.ECHO_SECONDS", 3600 if at_once else -1)
                signal.raise_signal(signal.SIGTERM)
                assert stop.asked and ended == told
    finally:
        signal.signal(signal.SIGTERM, before)
