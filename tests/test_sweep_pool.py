"""What a sweep runs, skips, resumes and runs anew, and what ends it."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT, is_one_line, run_tool, start_tool, write_sweep

from engine.config import load_config
from engine.environment import cores
from engine.errors import InputError, Stopped
from engine.run.locks import claim, is_claimed
from engine.sweep import pool, processes
from engine.sweep.definition import load_sweep
from engine.sweep.folder import _matters, how_far, material_changes, state

TIMES = ("train_seconds",)


def results(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_times(folder):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in results(folder)]


# What is run


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a finished sweep of eight runs, to be copied before it is changed; and what the command said."""
    folder = tmp_path_factory.mktemp("swept")
    path = write_sweep(folder, more="  figures: [figure_1, figure_5, table_2]\n")
    done = run_tool("sweep.py", "-c", path, "--jobs", "2")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, done.stdout


def test_a_sweep_leaves_results_and_figures(swept):
    folder, said = swept[0] / "output" / "small", swept[1]
    rows = results(folder)
    assert [row["state"] for row in rows] == ["finished"] * 8
    for row in rows:
        result = json.loads((folder / row["run"] / "result.json").read_text())
        assert float(row["top1_error_median_last_5"]) == result["top1_error_median_last_5"]
        assert (row["norm"], row["seed"]) == (row["model.norm"], str(result["seed"]))
        assert (row["protocol"], row["workers"], row["steps"]) == ("paper", "4", str(result["steps"]))
        assert row["evaluation_statistics"] == ("first" if row["norm"] == "bn" else "")
    assert {row["images_per_step"]: row["lr"] for row in rows} == {"16": "0.2", "8": "0.1"}
    for name in ("figure_1.png", "figure_1.svg", "figure_5.png", "report.md", "report.html"):
        assert (folder / name).stat().st_size > 1000
        assert str(folder / name) in said
    (session,) = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert session["processes"] == 2 and session["seconds_of_runs"] > 0
    log = (folder / "sweep.log").read_text()
    assert "8 of 8" in log and "images_per_worker=2" in log.splitlines()[0]  # the longest runs first


def test_a_run_of_a_sweep_is_a_run_of_train(swept, tmp_path):
    """The same bytes as from tools/train.py by hand; and its own config.yaml names it."""
    folder = swept[0] / "output" / "small" / "norm=bn,images_per_worker=2,seed=1"
    options = ["model.norm=bn", "batch.images_per_worker=2", "seed=1", f"output={tmp_path}", "name=hand"]
    threads = str(max(1, cores() // 2))  # as many as each of two runs at a time has
    done = run_tool("train.py", "-c", swept[0] / "tiny.yaml", "-o", *options, OMP_NUM_THREADS=threads)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hand" / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert load_config(folder / "config.yaml").folder == folder


def copied(swept, tmp_path):
    """The finished sweep in a place of its own: its file and its folder."""
    shutil.copytree(swept[0], tmp_path / "copy")
    path = write_sweep(tmp_path / "copy", more="  figures: [figure_1, figure_5, table_2]\n")
    return path, tmp_path / "copy" / "output" / "small"


def test_only_what_changed_is_run_again(swept, tmp_path, run_here, fake):
    fake("steps=2")
    path, folder = copied(swept, tmp_path)
    before = {run: (folder / run / "result.json").stat().st_mtime_ns for run in os.listdir(folder) if "=" in run}
    path.write_text(path.read_text().replace("seed: [0, 1]", "seed: [1, 2]"))
    plan = run_here("sweep.py", "-c", path, "--dry-run", "-o", "optimizer.momentum=0.5")
    states = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("norm=")]
    assert states == ["changed", "waiting"] * 4
    done = run_here("sweep.py", "-c", path, "-o", "record.every_steps=3")  # which changes no result
    assert done.returncode == 0, done.stderr
    assert [row["run"] for row in results(folder)] == [
        f"norm={norm},images_per_worker={images},seed={seed}"
        for norm in ("bn", "gn") for images in (4, 2) for seed in (1, 2)
    ]
    assert done.stdout.count("finished  norm=") == 4
    new = [folder / row["run"] / "console.log" for row in results(folder) if row["seed"] == "2"]
    assert [log.read_text() for log in new] == ["from step 0\n"] * 4  # each once
    assert "norm=bn,images_per_worker=2,seed=0: no longer part of the sweep, left as it is" in done.stdout
    assert "seed" in done.stdout and "changed" in done.stdout
    for run, when in before.items():
        assert (folder / run / "result.json").stat().st_mtime_ns == when

    done = run_here("sweep.py", "-c", path, "-o", "record.every_steps=3", "optimizer.weight_decay=0.01",
                    "--only", "norm=gn", "images_per_worker=2", "seed=2")
    assert done.returncode == 0, done.stderr
    assert "optimizer.weight_decay: 0.0001 -> 0.01; runs anew" in done.stdout
    assert [row["state"] for row in results(folder)] == ["waiting"] * 7 + ["finished"]
    assert sorted(os.listdir(f"{folder}.changed")) == sorted(f"{row['run']}.1" for row in results(folder))


def test_a_folder_of_something_else_is_left_alone(swept, tmp_path, run_here):
    path, folder = copied(swept, tmp_path)
    other = write_sweep(tmp_path / "copy", name="other.yaml")
    (folder.parent / "mine").mkdir()
    (folder.parent / "mine" / "thesis.txt").write_text("all of it")
    for name, words in (
        ("small", "holds the sweep of small.yaml"), ("mine", "is no sweep's folder"),
        ("small/norm=gn,images_per_worker=2,seed=0", "is no sweep's folder"),
    ):
        listing = sorted(os.walk(folder.parent))
        done = run_here("sweep.py", "-c", other, "-o", f"name={name}")
        assert done.returncode == 2 and words in done.stderr and is_one_line(done.stderr)
        assert sorted(os.walk(folder.parent)) == listing


def test_data_may_lie_elsewhere(swept):
    sweep = load_sweep(swept[0] / "small.yaml")
    assert not any(material_changes(run) for run in sweep.runs)
    assert not _matters("data.root", "/a/imagenet", "/b/imagenet") and _matters("data.root", None, "/a")
    assert _matters("seed", 0, 1) and not _matters("record.every_steps", 1, 2)
    responses = "record.responses"  # without which there is no figure 6
    assert _matters(responses, None, "conv5_3") and not _matters(responses, "conv5_3", None)


def test_another_start_is_another_chance(tmp_path, run_here, fake):
    """For every run that failed, not only for as many as there are slots."""
    fake("exit=1")
    path = write_sweep(tmp_path, "{seed: [0, 1]}")
    logs = [run.config.folder / "console.log" for run in load_sweep(path).runs]
    for tries, more in ((2, []), (4, ["--jobs", "1"])):
        assert run_here("sweep.py", "-c", path, *more).returncode == 1
        assert [log.read_text().count("from step") for log in logs] == [tries, tries]


def test_gpus_are_shared_out(small, monkeypatch):
    """What each run sees of them. No GPU is needed to say so."""
    monkeypatch.setattr(processes, "on_gpu", lambda: True)
    monkeypatch.setattr(processes, "cores", lambda: 16)
    monkeypatch.setattr(processes.paddle.device.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def seen(*arguments, each=1):
        sweep = load_sweep(small, [f"sweep.devices_per_run={each}"])
        return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in processes.make_slots(sweep, *arguments)]

    assert seen(None, None) == ["0", "1", "2", "3"]
    assert seen(None, None, each=2) == ["0,1", "2,3"]
    assert seen(3, ["1"]) == ["1", "1", "1"] and len(seen(10**30, None)) == 8  # as many as there are runs
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    assert seen(None, None) == ["5", "7"] and seen(None, ["7"]) == ["7"]
    slot = processes.make_slots(load_sweep(small, ["sweep.devices_per_run=2"]), None, None)[0]
    assert slot.command[1:] == ("-m", "paddle.distributed.launch") and slot.environment["OMP_NUM_THREADS"] == "8"
    for arguments, each, words in [
        ((None, ["5", "5"]), 1, "names one twice"), ((None, ["0"]), 1, "Paddle sees 5, 7"),
        ((None, ["5"]), 2, "takes 2 GPUs"),
    ]:
        with pytest.raises(InputError, match=words):
            seen(*arguments, each=each)


def test_no_more_places_are_made_than_there_are_runs(small):
    """The threads of each are those that were asked for: who waits for whom changes no bits."""
    slots = processes.make_slots(load_sweep(small), 10**30, None)
    assert len(slots) == 8 and slots[0].environment == {"OMP_NUM_THREADS": "1"}


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with pool._signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_failing_run_is_tried_twice_and_named(tmp_path):
    path = write_sweep(tmp_path, "{base_lr: [0.1, 1e30]}")
    done = run_tool("sweep.py", "-c", path)
    assert done.returncode == 1
    for words in ("failed: base_lr=1e+30; its last lines", "error: the loss is", "it ended with status 1"):
        assert words in done.stdout
    assert done.stdout.count("running   base_lr=1e") == 2
    folder = tmp_path / "output" / "small"
    assert [row["state"] for row in results(folder)] == ["finished", "failed"]
    assert "base_lr=1e+30" in (folder / "report.md").read_text()


def test_dry_run_lists_what_would_be(small, tmp_path, run_here):
    done = run_here("sweep.py", "-c", small, "--dry-run", "--only", "norm=gn")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("norm=")]
    assert [line.split()[1:8] for line in lines] == [
        ["waiting", "4", "4", "16", "0.2", "2", "6"], ["waiting", "4", "4", "16", "0.2", "2", "6"],
        ["waiting", "2", "4", "8", "0.1", "2", "12"], ["waiting", "2", "4", "8", "0.1", "2", "12"],
    ]
    assert not (tmp_path / "output").exists()


def test_two_devices_a_run(tmp_path):
    """On CPUs too: two gloo processes, here for one run."""
    path = write_sweep(tmp_path, "{norm: [gn]}", "  devices_per_run: 2\n")
    done = run_tool("sweep.py", "-c", path, "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    environment = json.loads((tmp_path / "output" / "small" / "norm=gn" / "env.json").read_text())
    assert environment["devices"] == 2


# What ends it


@pytest.mark.ci
def test_killed_again_and_again_it_ends_with_the_same_results(swept, tmp_path):
    """SIGKILL ten times, at random moments: of a start, between two runs, and every other time in a training.

    The steps that are left decide how often that can be: a fast machine may end the sweep before the tenth kill.
    """
    path = write_sweep(tmp_path, more="  figures: [figure_1, figure_5, table_2]\n")
    runs = load_sweep(path).runs
    random.seed(5)
    kills_in_training = 0
    for number in range(10):
        process, before = start_tool("sweep.py", "-c", path, "--jobs", "2"), sum(how_far(run)["step"] for run in runs)
        in_training, wanted = not number % 2, random.randint(1, 4)
        until = time.monotonic() + (60 if in_training else random.uniform(0.5, 4))
        while time.monotonic() < until and process.poll() is None:
            if sum(how_far(run)["step"] for run in runs) >= before + (wanted if in_training else 1):
                kills_in_training += 1
                break
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=60)
    assert kills_in_training >= 2
    done = run_tool("sweep.py", "-c", path, "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed, folder = swept[0] / "output" / "small", tmp_path / "output" / "small"
    assert without_times(folder) == without_times(undisturbed)
    for row in results(folder):
        name = f"{row['run']}/metrics.jsonl"
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
    assert (folder / "figure_1.svg").read_bytes() == (undisturbed / "figure_1.svg").read_bytes()


def test_sigterm_saves_and_says_so(tmp_path):
    path = write_sweep(tmp_path, "{seed: [0, 1, 2]}")
    process = start_tool("sweep.py", "-c", path, "-o", "schedule.epochs=2000", "--jobs", "1")
    folder = tmp_path / "output" / "small" / "seed=0"
    deadline = time.monotonic() + 60
    while not (folder / "latest.pdparams").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "stopped by SIGTERM with its runs; the same command continues"
    assert not is_claimed(folder)
    (run, *_) = load_sweep(path, ["schedule.epochs=2000"]).runs
    assert state(run) == "stopped" and how_far(run)["step"] > 0
    assert [row["state"] for row in results(folder.parent)] == ["stopped", "waiting", "waiting"]


@pytest.mark.ci
def test_two_runners_share_a_sweep(swept, tmp_path):
    path = write_sweep(tmp_path, more="  figures: [figure_1, figure_5, table_2]\n")
    runners = [start_tool("sweep.py", "-c", path, "--jobs", "2") for _ in range(2)]
    said = [runner.communicate(timeout=300) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert without_times(tmp_path / "output" / "small") == without_times(swept[0] / "output" / "small")
    assert sum(out.count("running ") for out, _ in said) == 8  # each run once
    sessions = (tmp_path / "output" / "small" / "sessions.jsonl").read_text().splitlines()
    assert len(sessions) == 2


def test_a_runner_with_other_values_has_to_wait(tmp_path):
    path = write_sweep(tmp_path, "{seed: [0]}")
    first = start_tool("sweep.py", "-c", path, "-o", "schedule.epochs=2000", "--jobs", "1")
    folder = tmp_path / "output" / "small" / "seed=0"
    deadline = time.monotonic() + 60
    while not (folder / "config.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    second = run_tool("sweep.py", "-c", path, "-o", "schedule.epochs=3")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert second.returncode == 2 and "another tools/sweep.py is at work in it with other values" in second.stderr
    assert yaml.safe_load((folder / "config.yaml").read_text())["schedule"]["epochs"] == 2000


def test_a_claim_ends_with_its_process(tmp_path):
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        "from engine.run.locks import claim\nclaim(Path(sys.argv[1])); print('mine', flush=True); time.sleep(60)"
    )
    assert not is_claimed(tmp_path) and not is_claimed(tmp_path / "nothing")
    other = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "mine\n"
    assert is_claimed(tmp_path)
    with pytest.raises(InputError, match="another process is training in it"):
        claim(tmp_path)
    other.kill()
    other.wait()
    assert not is_claimed(tmp_path)
