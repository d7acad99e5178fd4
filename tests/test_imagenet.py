"""The ImageNet configs, run on a folder that looks like ImageNet, only smaller."""

import json

import numpy as np
import pytest
from conftest import ROOT, run_tool
from PIL import Image

from engine.result import read_metrics

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
        assert "1 corrupt images skipped so far" in (tmp_path / "skipping" / "train.log").read_text()
    finally:
        broken.write_bytes(whole)
