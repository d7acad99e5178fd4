"""The ImageNet configs, run on a folder that looks like ImageNet, only smaller."""

import json

import numpy as np
import pytest
from conftest import ROOT, run_tool
from PIL import Image

from engine.run.result import read_metrics

SMALL = ["batch.images_per_worker=1", "batch.workers=2", "data.image_size=64", "data.resize_short=72", "device=cpu",
         "schedule.epochs=1", "record.every_steps=1", "reading.processes=2"]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    chance = np.random.default_rng(0)
    for split, images in (("train", 3), ("val", 2)):
        for name in ("n01440764", "n01443537"):
            (root / split / name).mkdir(parents=True)
            for index in range(images):
                picture = Image.fromarray(chance.integers(0, 256, (90, 120, 3), np.uint8))
                picture.save(root / split / name / f"{name}_{index}.JPEG")
    labels = {"n01440764": 0, "n01443537": 1}
    lines = [f"train/{name}/{name}_{index}.JPEG {labels[name]}" for name in labels for index in range(3)]
    (root / "train_list.txt").write_text("\n".join(lines))
    (root / "val_list.txt").write_text("\n".join(line.replace("train", "val") for line in lines if "_2." not in line))
    return root


@pytest.mark.ci
@pytest.mark.parametrize("name", ["resnet50_bn", "resnet50_gn", "resnet50_gn_dcn"])
def test_a_few_steps(imagenet, tmp_path, name):
    config = ROOT / "configs" / "imagenet" / f"{name}.yaml"
    lists = ["data.train=train_list.txt", "data.validation=val_list.txt"] if name == "resnet50_bn" else []
    done = run_tool("train.py", "-c", config, "-o", f"data.root={imagenet}", f"output={tmp_path}", *SMALL, *lists)
    assert done.returncode == 0, done.stderr
    windows = read_metrics(tmp_path / name, "train")
    assert [window["step"] for window in windows] == [1, 2, 3]
    assert windows[0]["lr"] == 0.1 * 2 / 256
    result = json.loads((tmp_path / name / "result.json").read_text())
    # 25,557,032 with 1000 classes; two classes here, and the offset branches of 13 deformable convolutions
    plain = 25_557_032 - 998 * 2049
    branches = sum(count * (channels * 9 * 27 + 27) for count, channels in ((4, 128), (6, 256), (3, 512)))
    assert result["parameters"] == plain + (branches if "dcn" in name else 0)


@pytest.mark.ci
@pytest.mark.parametrize("name", ["imagenet_figure1", "imagenet_figure1_one_gpu"])
def test_the_sweeps(imagenet, tmp_path, name, run_here):
    """The plan of all runs, on a list with as many images as the largest step; then the smallest runs of each norm."""
    config = ROOT / "configs" / "sweeps" / f"{name}.yaml"
    lines = (imagenet / "train_list.txt").read_text().splitlines()
    (imagenet / "long_list.txt").write_text("\n".join(lines[i % 6] for i in range(257)))
    (imagenet / "short_list.txt").write_text("\n".join(lines[i % 6] for i in range(16)))
    options = [f"data.root={imagenet}", f"output={tmp_path}", "data.validation=val_list.txt", "device=cpu",
               "data.image_size=32", "data.resize_short=36", "model.width=8", "model.norm_groups=8"]
    done = run_here("sweep.py", "-c", config, "--dry-run", "-o", *options, "data.train=long_list.txt")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("norm=")]
    assert [(row[2], row[3], row[4], row[5], row[7]) for row in rows[:5]] == [
        ("32", "8", "256", "0.1", "100"), ("16", "8", "128", "0.05", "200"), ("8", "8", "64", "0.025", "400"),
        ("4", "8", "32", "0.0125", "800"), ("2", "8", "16", "0.00625", "1600"),
    ]
    devices = 1 if "one" in name else 2
    options += ["data.train=short_list.txt", "schedule.epochs=2", "record.every_steps=1", "reading.processes=0",
                f"sweep.devices_per_run={devices}"]
    done = run_tool("sweep.py", "-c", config, "--only", "images_per_worker=2", "-o", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    for norm in ("bn", "gn"):
        folder = tmp_path / name / f"norm={norm},images_per_worker=2,seed=0"
        assert [window["step"] for window in read_metrics(folder, "train")] == [1, 2]
        assert json.loads((folder / "env.json").read_text())["devices"] == devices


def test_a_corrupt_image_stops_with_its_path_or_is_skipped(imagenet, tmp_path):
    config = ROOT / "configs" / "imagenet" / "resnet50_gn.yaml"
    broken = imagenet / "train" / "n01443537" / "n01443537_1.JPEG"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    try:
        thin = ["model.width=8", "model.norm_groups=8", "model.depth=18"]
        options = [f"data.root={imagenet}", f"output={tmp_path}", *SMALL, *thin]
        done = run_tool("train.py", "-c", config, "-o", *options)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert f"error: {broken}: cannot be read as an image" in done.stderr
        done = run_tool("train.py", "-c", config, "-o", *options, "data.on_corrupt_image=skip", "name=skipping")
        assert done.returncode == 0, done.stderr
        assert f"skipped {broken}" in done.stderr
        assert "corrupt samples skipped since this start: 1" in (tmp_path / "skipping" / "train.log").read_text()
    finally:
        broken.write_bytes(whole)
