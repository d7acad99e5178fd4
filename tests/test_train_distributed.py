"""Two processes on CPUs (gloo) are one device with all the workers."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT

from engine.build import build_data, build_model
from engine.config import load_config
from engine.run.checkpoint import read_weights
from engine.run.result import read_metrics

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="the launcher would take the GPUs")

OPTIONS = [
    "schedule.epochs=2", "batch.images_per_worker=2", "batch.workers=8", "data.train_images=48", "checkpoint.keep=0",
    "model.zero_init_last_norm=false",
    # Small: sums in another order differ in the last bit, until one ReLU of a hundred thousand falls on the other side
    # of 0. It hits a seed in five or so, with Paddle's kernels as with ours, and large steps would carry it further.
    "optimizer.base_lr=0.001",
]


def launch(devices, folder, script, *arguments):
    logs = folder / f"launch_{devices}"
    # The number of threads is the project's own choice here, and Paddle's launcher fails where no GPU is to be seen.
    left_out = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [
            sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(devices), "--log_dir", logs,
            script, *arguments,
        ],
        capture_output=True, text=True, timeout=300, env=environment, cwd=folder,
    )
    assert done.returncode == 0, done.stdout + "".join(path.read_text() for path in logs.glob("workerlog*"))


@pytest.mark.parametrize(("norm", "statistics"), [("bn", "mean"), ("bn", "precise"), ("gn", "mean"), ("brn", "first")])
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
