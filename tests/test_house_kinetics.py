"""The Kinetics configs: what they derive, and a few steps on a folder that looks like Kinetics, only smaller."""

import json

import numpy as np
import paddle
import pytest
from conftest import ROOT, train_here
from PIL import Image

from engine.config import load_config
from engine.run.result import read_metrics
from engine.sweep.definition import load_sweep
from models import i3d

CONFIGS = ROOT / "configs" / "video"
# frames, stride, clips per worker, rate, what a training clip has in c5
RECIPES = {
    "kinetics_32x2": (32, 2, 8, 0.01, (4, 7, 7)), "kinetics_64x1": (64, 1, 4, 0.005, (8, 7, 7)),
    "kinetics_8x8": (8, 8, 8, 0.01, (4, 7, 7)),
}


@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_papers(name, norm):
    frames, stride, clips, lr, window = RECIPES[name]
    config = load_config(CONFIGS / f"{name}_{norm}.yaml", ["data.root=nowhere"])
    data, model = config.data, config.model
    shown = (model.norm, data.frames, data.stride, data.image_size, data.short_side)
    assert shown == (norm, frames, stride, 224, (256, 320))
    assert (config.batch.images_per_worker, config.batch.workers, config.lr) == (clips, 8, lr)
    assert (model.dropout, model.bn_running_statistics == "precise") == (0.5, norm == "bn")
    assert not config.optimizer.decay_norm_and_bias and config.schedule.milestones == (41, 82)
    with paddle.no_grad():
        network = i3d(width=2, norm_groups=2, stem_time_stride=model.stem_time_stride)
        assert tuple(network(paddle.zeros([1, 3, frames, 224, 224]))["c5"].shape[2:]) == window == model.pool_window


def test_half_the_clips_have_half_the_rate_and_the_same_epochs():
    config = load_config(CONFIGS / "kinetics_32x2_gn.yaml", ["data.root=nowhere", "batch.images_per_worker=4"])
    assert (config.lr, config.schedule.epochs, config.batch.images_per_step) == (0.005, 109, 32)
    sweep = load_sweep(ROOT / "configs" / "sweeps" / "kinetics_table8.yaml", ["data.root=nowhere"])
    rates = {
        (run.config.model.norm, run.config.data.frames, run.config.batch.images_per_worker): run.config.lr
        for run in sweep.runs
    }
    shapes = ((32, 8), (32, 4), (64, 4))
    assert rates == {(norm, frames, clips): 0.01 * clips / 8 for norm in ("bn", "gn") for frames, clips in shapes}
    longer = load_config(CONFIGS / "kinetics_64x1_gn.yaml", ["data.root=nowhere"])
    windows = {run.config.model.pool_window for run in sweep.runs if run.config.data.frames == 64}
    assert windows == {longer.model.pool_window}


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    """Folders of pictures in folders of classes, and a list of those of training."""
    root, chance, lines = tmp_path_factory.mktemp("kinetics"), np.random.default_rng(0), []
    for part, videos in (("train", 3), ("val", 2)):
        for label, name in enumerate(("abseiling", "air_drumming")):
            for video in range(videos):
                folder = root / part / name / f"id{video}_000001_000011"
                folder.mkdir(parents=True)
                for number in range(1, 13):
                    picture = Image.fromarray(chance.integers(0, 256, (40, 56, 3), np.uint8))
                    picture.save(folder / f"img_{number:05}.jpg")
                lines += [f"{name}/{folder.name} 12 {label}"] if part == "train" else []
    (root / "train_list.txt").write_text("\n".join(lines))
    (root / "val_list.txt").write_text("\n".join(line for line in lines if "id2" not in line))
    return root


@pytest.mark.parametrize("name", ["kinetics_32x2_gn", "kinetics_8x8_bn"])
def test_a_few_steps(kinetics, tmp_path, name):
    small = [
        "batch.images_per_worker=1", "batch.workers=2", "data.frames=8", "data.stride=1", "data.image_size=32",
        "data.short_side=[36,40]", "data.resize_short=36", "data.test_size=36", "model.width=4", "model.norm_groups=2",
        "model.depth=26", "device=cpu", "schedule.epochs=1", "record.every_steps=1", "reading.processes=0",
        "bn_precise_images=4", "data.test_clips=2",
    ]
    lists = [
        "data.train=train_list.txt", "data.validation=val_list.txt", "data.train_videos=train",
        "data.validation_videos=val",
    ]
    lists = lists if name.endswith("bn") else []
    train_here("-c", CONFIGS / f"{name}.yaml", "-o", f"data.root={kinetics}", f"output={tmp_path}", *small, *lists)
    windows = read_metrics(tmp_path / name, "train")
    assert [window["step"] for window in windows] == [1, 2, 3] and windows[0]["lr"] == 0.01 * 2 / 64
    assert json.loads((tmp_path / name / "result.json").read_text())["norm"] == name[-2:]
