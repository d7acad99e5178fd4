"""Nothing is lost: a run that is killed at any step and continued ends with the same bytes as one that was not."""

import json
import os
import random
import signal
import time
from types import SimpleNamespace

import pytest
from conftest import run_tool, start_tool
from visualdl import LogReader

from data import DataError
from engine.build import build_data, build_model, make_learner
from engine.config import load_config
from engine.errors import InputError
from engine.run import checkpoint, locks
from engine.run.folder import make_folder
from engine.run.record import VISUALDL_FILE
from engine.run.resume import restore
from engine.run.saving import save

# Everything that carries state: momentum, running statistics of workers, averaged weights, clipping, passes,
# augmentation, a window and an evaluation that the kills fall between; and a checkpoint after almost every step.
OPTIONS = [
    "-o", "schedule.epochs=3", "model.norm=bn", "model.bn_running_statistics=mean", "ema_decay=0.9",
    "optimizer.clip_norm=1",
    "batch.workers_per_pass=2", "record.every_steps=3", "record.responses=c5.1.conv2", "evaluate_every_epochs=2",
    "data={name: fashion_mnist, train_images: 60, validation_images: 20}",
]


def steps_logged(folder):
    log = folder / "train.log"
    return log.read_text().count("[Train]") if log.exists() else 0


def scalars(folder):
    (file,) = (folder / "vdl").iterdir()
    reader = LogReader(file_path=str(file))
    tags = [tag for tag in reader.get_tags()["scalar"] if "per_second" not in tag]
    return {tag: [(point.id, point.value) for point in reader.get_data("scalar", tag)] for tag in sorted(tags)}


def final_state(folder):
    return checkpoint.load(folder / "latest")


def assert_same(left, right, at=""):
    """Equal bit for bit, but for what a clock says and where VisualDL's file ends."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), at
        for key in left.keys() - {"train_seconds", "saved_at", "visualdl"}:
            assert_same(left[key], right[key], f"{at}/{key}")
    elif hasattr(left, "tobytes"):
        assert left.dtype == right.dtype and left.tobytes() == right.tobytes(), at
    else:
        assert left == right, at


def test_killed_at_random_steps_and_resumed_gives_the_same_bits(tiny, tmp_path):
    whole = tmp_path / "output" / "whole"
    done = run_tool("train.py", "-c", tiny, *OPTIONS, "name=whole")
    assert done.returncode == 0, done.stderr

    killed = tmp_path / "output" / "killed"
    chance = random.Random()  # other moments in every run of the test: all of them must do
    kills = 0
    for _ in range(4):
        process = start_tool(
            "train.py", "-c", tiny, *OPTIONS, "name=killed", "checkpoint.every_minutes=0.0003", "-r", "auto"
        )
        target, deadline = steps_logged(killed) + chance.randint(1, 2), time.monotonic() + 120
        while steps_logged(killed) < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    done = run_tool("train.py", "-c", tiny, *OPTIONS, "name=killed", "-r", "auto")
    assert done.returncode == 0, done.stderr
    assert "continuing at step" in (killed / "train.log").read_text()

    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same(final_state(whole), final_state(killed))
    assert_same(checkpoint.load(whole / "best"), checkpoint.load(killed / "best"))
    assert scalars(killed) == scalars(whole)  # one file, no point twice, none missing
    again = run_tool("train.py", "-c", tiny, *OPTIONS, "name=killed", "-r", "auto")
    assert again.returncode == 0 and "top-1 error" in again.stdout  # a finished run says so once more


def test_a_checkpoint_before_the_first_step_holds_what_was_restored(trained, tmp_path):
    """As when a run was stopped after the last step of an epoch, and again after that epoch's evaluation."""
    config = load_config(trained / "config.yaml", [f"output={tmp_path}"])
    model = build_model(config, build_data(config)[0])
    learner = make_learner(config, model, 6)
    progress = restore(str(trained / "epoch_2"), config, learner, 6)
    save(tmp_path, learner, progress, SimpleNamespace(active=True, position=lambda: None))
    restored = checkpoint.load(trained / "epoch_2")[".pdopt"]
    assert len(restored) > 10
    assert_same(checkpoint.load(tmp_path / "latest")[".pdopt"], restored)


def test_sigterm_saves_and_exits(tiny, tmp_path):
    folder = tmp_path / "output" / "tiny"
    process = start_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500")
    while steps_logged(folder) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in stderr
    assert "stopped by SIGTERM at step" in stderr
    states = checkpoint.load(folder / "latest")[".pdstates"]
    assert f"at step {states['step']};" in stderr


def test_two_processes_do_not_train_in_one_folder(tiny, tmp_path):
    folder = tmp_path / "output" / "tiny"
    first = start_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500")
    while steps_logged(folder) < 2 and first.poll() is None:
        time.sleep(0.01)
    second = run_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500", "-r", "auto")
    assert second.returncode == 2 and f"{folder}: another process is training in it" in second.stderr
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 143
    third = start_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500", "-r", "auto")  # free again
    steps = steps_logged(folder)
    while steps_logged(folder) <= steps and third.poll() is None:
        time.sleep(0.01)
    assert third.poll() is None
    third.kill()
    third.communicate()


def test_a_run_that_was_begun_meanwhile_is_not_written_over(tiny):
    """As by a process that found no run there, and was slow to begin its own."""
    config = load_config(tiny)
    config.folder.mkdir(parents=True)
    (config.folder / "config.yaml").write_text("another's")
    with pytest.raises(InputError, match="already holds a run; continue it with -r auto"):
        make_folder(config, None, None, finished=False)
    locks._claimed.pop(config.folder).close()
    assert [(path.name, path.read_text()) for path in config.folder.glob("*.yaml")] == [("config.yaml", "another's")]


def test_ctrl_c_saves_too(tiny, tmp_path):
    process = start_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500")
    while steps_logged(tmp_path / "output" / "tiny") < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped by SIGINT at step" in stderr and "Traceback" not in stderr


def test_going_back_to_an_older_checkpoint_gives_the_same_run(tiny, tmp_path):
    options = ["-o", "schedule.epochs=4", "checkpoint.keep=4"]
    assert run_tool("train.py", "-c", tiny, *options).returncode == 0
    folder = tmp_path / "output" / "tiny"
    metrics, state = (folder / "metrics.jsonl").read_bytes(), final_state(folder)
    done = run_tool("train.py", "-c", tiny, *options, "-r", folder / "epoch_2.pdparams")
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.jsonl").read_bytes() == metrics
    assert_same(state, final_state(folder))
    assert checkpoint.epochs_kept(folder) == [1, 2, 3, 4]


def test_resuming_elsewhere_starts_new_records_and_spares_those_that_are_there(tiny, trained, tmp_path):
    done = run_tool("train.py", "-c", tiny, "-r", trained / "epoch_2", "-o", "schedule.epochs=3", "name=other")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "output" / "other" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3 + 1 + 1  # of the third epoch alone
    assert b"other (begun " in (tmp_path / "output" / "other" / "vdl" / VISUALDL_FILE).read_bytes()  # a run of its own
    before = (tmp_path / "output" / "other" / "metrics.jsonl").read_bytes()
    for options, words in (
        (["-r", trained / "epoch_2", "-o", "name=other"], "already holds a run of its own"),
        (["-r", trained / "latest", "-o", "schedule.epochs=3", "name=third"], "has all 3 epochs already"),
        (["-r", trained / "latest", "-o", "data.train_images=32", "name=third"], "its epochs have 6 steps"),
        (["-r", trained / "latest", "-o", "optimizer.name=adam", "schedule.epochs=9", "name=x"], "is Momentum"),
    ):
        done = run_tool("train.py", "-c", tiny, *options)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "output" / "other" / "metrics.jsonl").read_bytes() == before


def test_the_best_is_kept_whatever_the_epochs_that_are_saved(tiny, tmp_path):
    options = ["schedule.epochs=5", "checkpoint.every_epochs=4", "optimizer.base_lr=0.02"]
    assert run_tool("train.py", "-c", tiny, "-o", *options).returncode == 0
    folder = tmp_path / "output" / "tiny"
    states = checkpoint.load(folder / "best")[".pdstates"]
    result = json.loads((folder / "result.json").read_text())
    assert states["best"]["epoch"] == result["best_epoch"] == states["epoch"]
    assert checkpoint.epochs_kept(folder) == [4, 5]


def test_records_that_are_lost_are_noticed(tiny, tmp_path):
    process = start_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500")
    folder = tmp_path / "output" / "tiny"
    while not (folder / "epoch_1.pdstates").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (folder / "metrics.jsonl").unlink()
    done = run_tool("train.py", "-c", tiny, "-o", "schedule.epochs=500", "-r", "auto")
    assert done.returncode == 2 and "metrics.jsonl: has 0 bytes" in done.stderr


def contents(step):
    return {".pdparams": {"w": step}, ".pdopt": {"v": step}, ".pdstates": {"step": step}}


def loaded(stem):
    found = checkpoint.load(stem)
    return found[".pdparams"]["w"], found[".pdopt"]["v"], found[".pdstates"]["step"]


def dies_at(fatal, monkeypatch, action):
    """Run `action`, killed at its `fatal`-th rename; whether it came so far."""
    count, replace = 0, os.replace

    def dying(source, target):
        nonlocal count
        count += 1
        if count == fatal:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        try:
            action()
        except KeyboardInterrupt:
            return True
    return False


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fatal", range(1, 8))
def test_a_kill_at_any_rename_of_a_save_leaves_a_whole_checkpoint(tmp_path, monkeypatch, fatal):
    stem = tmp_path / "latest"
    checkpoint.save(stem, contents(1))
    died = dies_at(fatal, monkeypatch, lambda: checkpoint.save(stem, contents(2)))
    left = names(tmp_path)
    step = 1 if died and fatal <= 3 else 2  # three files are written, the third commits
    assert loaded(stem) == (step, step, step)
    assert names(tmp_path) == left  # a reader changes nothing: the writer may be alive
    checkpoint.recover(stem)
    assert loaded(stem) == (step, step, step)
    assert names(tmp_path) == ["latest.pdopt", "latest.pdparams", "latest.pdstates"]


@pytest.mark.parametrize("fatal", range(1, 5))
def test_a_kill_at_any_rename_of_a_copy_leaves_a_whole_checkpoint(tmp_path, monkeypatch, fatal):
    checkpoint.save(tmp_path / "best", contents(1))
    checkpoint.save(tmp_path / "latest", contents(2))
    dies_at(fatal, monkeypatch, lambda: checkpoint.copy(tmp_path / "latest", tmp_path / "best"))
    assert loaded(tmp_path / "best") in ((1, 1, 1), (2, 2, 2))
    checkpoint.copy(tmp_path / "latest", tmp_path / "best")
    checkpoint.copy(tmp_path / "latest", tmp_path / "best")  # once more: the same files under both names
    assert loaded(tmp_path / "best") == (2, 2, 2)
    assert len(names(tmp_path)) == 6


def test_a_save_or_copy_leaves_no_file_of_the_checkpoint_before(tmp_path):
    checkpoint.save(tmp_path / "latest", {**contents(1), ".pdema": {"w": 1}})
    checkpoint.copy(tmp_path / "latest", tmp_path / "best")
    checkpoint.save(tmp_path / "latest", contents(2))
    assert not (tmp_path / "latest.pdema").exists() and (tmp_path / "best.pdema").exists()
    checkpoint.copy(tmp_path / "latest", tmp_path / "best")
    assert not (tmp_path / "best.pdema").exists()


def test_copies_stay_when_the_original_is_written_anew_and_old_epochs_go(tmp_path):
    for epoch in (1, 2, 10):
        checkpoint.save(tmp_path / "latest", contents(epoch))
        checkpoint.copy(tmp_path / "latest", tmp_path / f"epoch_{epoch}")
    checkpoint.remove(tmp_path / "epoch_1")
    assert checkpoint.epochs_kept(tmp_path) == [2, 10]
    assert loaded(tmp_path / "epoch_2.pdparams") == (2, 2, 2) and loaded(tmp_path / "epoch_10") == (10, 10, 10)
    with pytest.raises(InputError, match="epoch_1: no checkpoint there"):
        checkpoint.load(tmp_path / "epoch_1")


def test_damaged_and_malicious_files_are_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps({"w": Evil()}))
    with pytest.raises(DataError, match="evil.pdparams: is no pickle of plain arrays: asks for .*system"):
        checkpoint.read_weights(tmp_path / "evil")
    assert not (tmp_path / "executed").exists()
    checkpoint.save(tmp_path / "cut", contents(1))
    whole = (tmp_path / "cut.pdparams").read_bytes()
    (tmp_path / "cut.pdparams").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut.pdparams: is no pickle of plain arrays"):
        checkpoint.load(tmp_path / "cut")
