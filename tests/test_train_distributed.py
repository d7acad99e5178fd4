"""Two processes on CPUs (gloo) are one device with all the workers, on one node or on two."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT, train_here

from engine.build import build_data, build_model
from engine.config import load_config
from engine.run.checkpoint import load_states, read_weights
from engine.run.result import read_metrics

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="the launcher would take the GPUs")

OPTIONS = [
    "schedule.epochs=2", "batch.images_per_worker=2", "batch.workers=8", "data.train_images=48", "checkpoint.keep=0",
    "model.zero_init_last_norm=false",
    # Small: sums in another order differ in the last bit, until one ReLU of a hundred thousand falls on the other side
    # of 0. It hits a seed in five or so, with Paddle's kernels as with ours, and large steps would carry it further.
    "optimizer.base_lr=0.001",
]


def start(logs, *arguments):
    """Paddle's launcher, with its options and then the script with its own."""
    # The number of threads is the project's own choice here, and Paddle's launcher fails where no GPU is to be seen.
    left_out = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.Popen(
        [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", logs, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=logs.parent,
    )


def all_said(launcher, logs):
    """What a launcher and its processes said, once it has ended."""
    said, _ = launcher.communicate(timeout=300)
    return said + "".join(path.read_text() for path in logs.glob("workerlog*"))


def launch(devices, folder, script, *arguments):
    logs = folder / f"launch_{devices}"
    launcher = start(logs, "--nproc_per_node", devices, script, *arguments)
    said = all_said(launcher, logs)
    assert launcher.returncode == 0, said


def launch_nodes(folder, *arguments):
    """Two launchers of one process each: what two machines would start. (launcher, its logs) of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for rank in (0, 1):
        logs = folder / f"node_{rank}_{port}"
        options = ["--nnodes", 2, "--master", f"127.0.0.1:{port}", "--rank", rank, "--nproc_per_node", 1]
        nodes.append((start(logs, *options, ROOT / "tools" / "train.py", *arguments), logs))
    return nodes


def children(process):
    """The process ids of those that a process has started."""
    return [int(number) for path in Path(f"/proc/{process.pid}/task").glob("*/children")
            for number in path.read_text().split()]


@pytest.mark.parametrize(("norm", "statistics"), [
    ("bn", "mean"), ("bn", "precise"), ("gn", "mean"), ("brn", "first"), ("frn", "mean"), ("evonorm_s0", "mean"),
])
def test_two_devices_of_four_workers_are_one_device_of_eight(tiny, tmp_path, norm, statistics):
    options = [*OPTIONS, f"model.norm={norm}", f"model.bn_running_statistics={statistics}", "bn_precise_images=20"]
    if statistics == "precise":  # here, for it has most to do with frozen parts
        config = load_config(tiny, options)
        paddle.save(build_model(config, build_data(config)[0]).state_dict(), str(tmp_path / "start.pdparams"))
        options += ["model.frozen=[stem, c2]", f"pretrained={tmp_path / 'start.pdparams'}"]
    for devices, name in ((1, "one"), (2, "two")):
        launch(devices, tmp_path, ROOT / "tools" / "train.py", "-c", tiny, "-o", *options, f"name={name}")
    one, two = tmp_path / "output" / "one", tmp_path / "output" / "two"
    windows = zip(read_metrics(one, "train"), read_metrics(two, "train"), strict=True)
    for number, (left, right) in enumerate(windows):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-3)
        if number == 0:  # the first steps: the gradients of the same weights
            assert right["gradient_norm"] == pytest.approx(left["gradient_norm"], rel=1e-3)
            assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
    evaluations = zip(read_metrics(one, "eval"), read_metrics(two, "eval"), strict=True)
    for left, right in evaluations:
        assert right["top1_error"] == left["top1_error"] and right["loss"] == pytest.approx(left["loss"], rel=1e-3)
    ours, theirs = read_weights(one / "latest"), read_weights(two / "latest")
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, atol=2e-3 * max(1e-2, np.abs(value).max()), err_msg=name)
    assert json.loads((two / "env.json").read_text())["devices"] == 2


def test_gradients_of_two_devices(tiny, tmp_path):
    """The gradients themselves, after one backward pass."""
    script = tmp_path / "gradients.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from engine import environment
import numpy as np, paddle
from engine.build import build_data, build_loaders, build_model, make_learner
from engine.config import load_config
config = load_config({str(tiny)!r}, {[*OPTIONS, "model.norm=bn"]!r})
rank, ranks = environment.start("cpu")
train_set, validation_set = build_data(config)
batch = next(build_loaders(config, train_set, validation_set, rank, ranks)[0].epoch(0))
model = build_model(config, train_set)
learner = make_learner(config, model, 1)
model.train()
outputs = learner.network({{name: paddle.to_tensor(value) for name, value in batch.items()}})
outputs["loss"].backward()
if rank == 0:
    np.savez({str(tmp_path)!r} + f"/{{ranks}}.npz", **{{n: p.grad.numpy() for n, p in model.named_parameters()}})
""")
    for devices in (1, 2):
        launch(devices, tmp_path, script)
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    assert set(one) == set(two)
    for name in one:
        scale = max(1e-3, np.abs(one[name]).max())
        np.testing.assert_allclose(two[name] / scale, one[name] / scale, atol=1e-5, err_msg=name)


def test_two_nodes_of_one_process_are_one_node_of_two(tiny, tmp_path):
    options = ["-c", tiny, "-o", *OPTIONS, "schedule.epochs=1", "model.norm=bn"]
    launch(2, tmp_path, ROOT / "tools" / "train.py", *options, "name=one")
    for launcher, logs in launch_nodes(tmp_path, *options, "name=two"):
        said = all_said(launcher, logs)
        assert launcher.returncode == 0, said
    one, two = tmp_path / "output" / "one", tmp_path / "output" / "two"
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    assert (one / "latest.pdparams").read_bytes() == (two / "latest.pdparams").read_bytes()


@pytest.fixture
def endless(tiny, tmp_path):
    """A run on two nodes that has a checkpoint and would go on for long; its command and its folder."""
    options = ["-c", tiny, "-r", "auto", "-o", *OPTIONS, "model.norm=bn"]
    nodes = launch_nodes(tmp_path, *options, "schedule.epochs=20000")
    folder, until = tmp_path / "output" / "tiny", time.monotonic() + 120
    while not (folder / "epoch_2.pdstates").exists() and not (folder / "latest.pdstates").exists():
        assert time.monotonic() < until and nodes[0][0].poll() is None, all_said(*nodes[0])
        time.sleep(0.1)
    yield nodes, options, folder
    for launcher, _ in nodes:
        launcher.kill()
        launcher.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells there which processes a launcher has started")
def test_a_lost_node_ends_the_run_in_a_line_and_it_goes_on_with_another_number_of_nodes(endless, tmp_path):
    (first, second), options, folder = endless
    for process in [second[0].pid, *children(second[0])]:  # as if its power had gone
        os.kill(process, signal.SIGKILL)
    said = all_said(*first)
    assert first[0].returncode == 1 and "Traceback" not in said
    (line,) = [line for line in (first[1] / "workerlog.0").read_text().splitlines() if line.startswith("error: ")]
    assert line.startswith("error: another process of this run is gone (") and "; go on with -r auto, on as" in line
    step = load_states(folder / "latest")["step"]
    assert f"the last checkpoint is from before it, of step {step};" in line

    losses, epochs = {}, load_states(folder / "latest")["epoch"] + 2
    for name in ("one", "two"):
        moved = tmp_path / "moved" / name
        shutil.copytree(folder, moved)
        more = ["-c", moved / "config.yaml", "-r", "auto", "-o", "checkpoint.keep=0", f"schedule.epochs={epochs}"]
        if name == "one":
            train_here(*more)
        else:
            launch(2, tmp_path, ROOT / "tools" / "train.py", *more)
        losses[name] = [record["loss"] for record in read_metrics(moved, "train") if record["step"] > step]
    assert len(losses["one"]) >= 2 and losses["one"] == pytest.approx(losses["two"], rel=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells a process there that its parent is gone")
def test_a_killed_launcher_leaves_nobody_training(endless):
    """Its process is told, and asks the other node's to stop: both are saved."""
    (first, second), _, folder = endless
    (orphan,) = children(second[0])
    second[0].kill()
    said = all_said(*first)
    assert "saved, continue with -r auto" in said and load_states(folder / "latest")["step"] > 0
    until = time.monotonic() + 60
    while Path(f"/proc/{orphan}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{orphan}").exists()
