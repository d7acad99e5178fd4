"""Fixtures: a tiny config, and the commands run as a user runs them."""

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweep_folders import make_sweep  # noqa: F401  a fixture

import engine  # noqa: F401  first of all: it sets the environment before Paddle is imported
from data.transforms import MEAN, STD
from engine.build import build_model
from engine.config import load_config
from engine.run import checkpoint, locks
from engine.run.folder import write_preparation
from engine.sweep import cluster, processes
from ops import native

ROOT = Path(__file__).resolve().parent.parent
FAKE = ROOT / "tests" / "fake_trainer.py"

TINY = """
name: tiny
device: cpu
model: {name: resnet, depth: 18, width: 8, stem: small, norm: gn, norm_groups: 4}
data: {name: synthetic, classes: 3, train_images: 48, validation_images: 12, image_size: 12, channels: 1}
batch: {images_per_worker: 2, workers: 4}
optimizer: {base_lr: 0.1, reference_images_per_step: 8}
schedule: {name: cosine, epochs: 2}
reading: {evaluation_images: 5}
record: {every_steps: 2, sample_images: 2, histograms: false}
"""

AXES = "{norm: [bn, gn], images_per_worker: [4, 2], seed: [0, 1]}"


def here(implementations):
    """The names of those implementations of an op that run on this machine."""
    serves = native.available() and native.paddle.get_device() == "cpu"
    return [name for name in implementations if name != "native" or serves]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """What a test printed goes to another process, which takes no file names of broken letters."""
    report = (yield).get_result()
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]


@pytest.fixture
def tiny(tmp_path):
    """The path of a config that trains in a second; its runs go below tmp_path/output."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY + f"output: {tmp_path / 'output'}\n")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a finished run of the tiny config, to be read only."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY + f"output: {folder}\n")
    done = run_tool("train.py", "-c", folder / "tiny.yaml", "-o", "schedule.epochs=3", "record.histograms=true")
    assert done.returncode == 0, done.stderr
    return folder / "tiny"


@pytest.fixture
def small(tmp_path):
    """The path of a sweep of eight runs of some seconds each, starting included."""
    return write_sweep(tmp_path, more="  figures: [figure_1, table_2]\n")


def write_sweep(folder, axes=AXES, more="", name="small.yaml"):
    """A sweep's YAML file over the tiny config, and its path; its folder will be folder/output/small."""
    (folder / "tiny.yaml").write_text(TINY.replace("name: tiny\n", "") + f"output: {folder / 'output'}\n")
    path = folder / name
    path.write_text(f"_BASE_: tiny.yaml\nsweep:\n  axes: {axes}\n{more}")
    return path


@pytest.fixture
def fake(monkeypatch):
    """Runs are processed by the stand-in; fake("steps=3,exit=1") tells it how."""
    for module in (cluster, processes):
        monkeypatch.setattr(module, "TRAIN", FAKE)
    monkeypatch.setattr(cluster, "PASSED_ON", ("FAKE",))
    return lambda told: monkeypatch.setenv("FAKE", told)


def picture(width, height, shift=0):
    """A PIL picture whose red grows with x and green with y: a crop's place and size can be read from its colours."""
    x = np.linspace(0, 255, width)[None].repeat(height, axis=0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    return Image.fromarray(np.stack([x, y, np.full_like(x, shift)], axis=2).astype(np.uint8))


def denormalised(image):
    """[3, H, W] as a network sees it -> values from 0 to 1."""
    return np.asarray(image) * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]


def is_one_line(stderr):
    """The error, after what Paddle's builds for GPUs say where there is none."""
    return stderr.splitlines()[-1].startswith("error: ") and stderr.count("error: ") == 1 and "Traceback" not in stderr


def start_tool(tool, *arguments, **environment):
    """A command of tools/ as a process of its own."""
    environment = {**os.environ, **environment}
    if shutil.which("nvidia-smi") is None:
        environment.pop("CUDA_VISIBLE_DEVICES", None)  # if it is empty, the launcher of Paddle 2.6 for GPUs fails
    return subprocess.Popen(
        [sys.executable, ROOT / "tools" / tool, *map(str, arguments)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )


def train_here(*arguments):
    """tools/train.py in this process, which is faster: what would end it in a line is raised."""
    specification = importlib.util.spec_from_file_location("train_tool", ROOT / "tools" / "train.py")
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    try:
        # An optimizer's states have names that count on from one optimizer of a process to the next.
        with pytest.MonkeyPatch.context() as patch, native.paddle.utils.unique_name.guard():
            patch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
            tool.main()
    except SystemExit as end:
        assert not end.code
    finally:
        while locks._claimed:
            locks._claimed.popitem()[1].close()


def run_tool(tool, *arguments, **environment):
    """Run a command of tools/ to its end: .returncode, .stdout, .stderr."""
    process = start_tool(tool, *arguments, **environment)
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def run_here(capfd, monkeypatch):
    """`run_tool` in this process, for commands that leave nothing behind in it: no start of Paddle to wait for."""

    def run(tool, *arguments):
        path = str(ROOT / "tools" / tool)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        monkeypatch.setattr(sys, "path", sys.path[:])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        stdout, stderr = capfd.readouterr()  # what libraries in C print too
        return subprocess.CompletedProcess(sys.argv, ended.value.code or 0, stdout, stderr)

    return run


def write_run(folder, preparation, data):
    """The folder of a run of the tiny config as if trained, with weights that tell pictures apart; its config."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(TINY)
    config = load_config(folder / "config.yaml", [f"data={data}", f"output={folder.parent}", f"name={folder.name}"])
    (folder / "config.yaml").write_text(config.to_yaml())
    write_preparation(folder, preparation)
    model = build_model(config, preparation)
    model.eval()
    noise = native.paddle.to_tensor(np.random.default_rng(0).normal(size=(16, *preparation.image_shape)), "float32")
    model.fc.weight.set_value(100 * model.fc.weight)
    model.fc.bias.set_value(-model({"image": noise}).mean(axis=0))
    checkpoint.save(folder / "best", {".pdparams": model.state_dict(), ".pdopt": {}, ".pdstates": {}})
    return folder / "config.yaml"
