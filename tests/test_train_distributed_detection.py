"""Two processes on CPUs (gloo) detect as one device with all the workers."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_tasks_detection_journey import LOSSES, TINY
from test_train_distributed import launch

from data import garment_scenes
from engine.tasks.detection.coco_files import write_coco

pytest.importorskip("pycocotools")
pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="the launcher would take the GPUs")

SCRIPT = """
import json, sys
sys.path.insert(0, {root!r})
from engine import environment
import numpy as np, paddle
from engine.build import build_data, build_loaders, build_model, make_learner
from engine.config import load_config
from engine.evaluation import evaluate
from engine.tasks import task_of
config = load_config({config!r}, ["ema_decay=null", "model.zero_init_last_norm=false", "data.validation_images=7",
                                   "model.roi_pooling=modulated"])
rank, ranks = environment.start("cpu")
train_set, validation_set = build_data(config)
train_loader, validation_loader = build_loaders(config, train_set, validation_set, rank, ranks)
batch = next(train_loader.epoch(0))
model = build_model(config, train_set)
learner = make_learner(config, model, 1)
scores, _ = evaluate(model, validation_loader, task_of("mask_rcnn"))
numbers = {{"images": scores.images, **scores.numbers()}}
model.train()
outputs = learner.network({{name: paddle.to_tensor(value) for name, value in batch.items()}})
outputs["loss"].backward()
losses = paddle.to_tensor([float(value) for value in outputs.values()], "float64")
if ranks > 1:
    paddle.distributed.all_reduce(losses)
if rank == 0:
    told = {{"numbers": numbers, **dict(zip(outputs, (losses / ranks).tolist()))}}
    open({folder!r} + f"/{{ranks}}.json", "w").write(json.dumps(told))
    np.savez({folder!r} + f"/{{ranks}}.npz", **{{n: p.grad.numpy() for n, p in model.named_parameters()}})
"""

STEP = """
import json, sys
sys.path.insert(0, {root!r})
from engine import environment
import numpy as np, paddle
from engine.build import build_data, build_loaders, build_model, make_learner
from engine.config import load_config
from engine.train.step import train_step
config = load_config({config!r}, ["ema_decay=null", "model.zero_init_last_norm=false", "model.norm=gn",
    "model.fpn_norm=gn", "model.box_head_norm=gn", "batch.images_per_worker=1", "batch.workers_per_pass=1"])
rank, ranks = environment.start("cpu")
train_set, validation_set = build_data(config)
loader, _ = build_loaders(config, train_set, validation_set, rank, ranks)
batch = next(loader.epoch(0))
learner = make_learner(config, build_model(config, train_set), 1)
before = {{name: value.numpy() for name, value in learner.model.named_parameters()}}
learner.model.train()
outputs, _ = train_step(learner, batch, 0)
losses = paddle.to_tensor([float(value) for value in outputs.values()], "float64")
if ranks > 1:
    paddle.distributed.all_reduce(losses)
if rank == 0:
    open({folder!r} + f"/{{ranks}}.json", "w").write(json.dumps(dict(zip(outputs, (losses / ranks).tolist()))))
    moved = {{name: value.numpy() - before[name] for name, value in learner.model.named_parameters()}}
    np.savez({folder!r} + f"/{{ranks}}.npz", **moved)
"""
WIDENED = """
data: {{name: coco, root: {folder}/set, train: annotations/instances_train.json, resize_short: 64, resize_long: 192,
        validation: annotations/instances_val.json}}
output: {folder}
"""


def test_two_processes_are_one(tmp_path):
    """Losses and gradients of a step of two workers, and the scores of seven images, of which one process has four."""
    config, script = tmp_path / "tiny.yaml", tmp_path / "step.py"
    config.write_text(TINY + f"output: {tmp_path}\n")
    script.write_text(SCRIPT.format(root=str(ROOT), config=str(config), folder=str(tmp_path)))
    for devices in (1, 2):
        launch(devices, tmp_path, script)
    one, two = (json.loads((tmp_path / f"{devices}.json").read_text()) for devices in (1, 2))
    assert one["numbers"]["images"] == 7 and one["numbers"]["box_ap_small"] is not None
    for name, value in one["numbers"].items():
        assert two["numbers"][name] == (value if value is None else pytest.approx(value, abs=1e-6)), name
    assert_alike(tmp_path, one, two)


def assert_alike(folder, one, two, least=1e-3):
    """The losses, and the arrays of which none is smaller than `least`."""
    for name in ("loss", *LOSSES):
        assert two[name] == pytest.approx(one[name], rel=1e-5), name
    ours, theirs = (np.load(folder / f"{devices}.npz") for devices in (1, 2))
    assert set(ours) == set(theirs)
    for name in ours:
        scale = max(least, np.abs(ours[name]).max())
        np.testing.assert_allclose(theirs[name] / scale, ours[name] / scale, atol=1e-4, err_msg=name)


def widened(folder):
    """A set in COCO's form whose training pictures are all of another width."""
    write_coco(garment_scenes(2, 2, image_size=64, most_garments=3), folder)
    file = folder / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for image in document["images"]:
        more = 40 * image["id"]
        path = folder / "train" / image["file_name"]
        with Image.open(path) as narrow:
            wide = Image.new("RGB", (64 + more, 64))
            wide.paste(narrow)
        wide.save(path)
        image["width"] += more
        for each in document["annotations"]:
            if each["image_id"] == image["id"]:
                counts = each["segmentation"]["counts"]
                counts += [0] * (len(counts) % 2) + [64 * more]
                each["segmentation"]["size"] = [64, 64 + more]
    file.write_text(json.dumps(document))


def test_a_worker_a_pass_is_a_worker_a_process_though_pictures_have_many_sizes(tmp_path):
    """Each pads its own, as Detectron's GPUs do."""
    widened(tmp_path / "set")
    config, script = tmp_path / "tiny.yaml", tmp_path / "step.py"
    lines = [line for line in TINY.splitlines() if not line.startswith("data:")]
    config.write_text("\n".join([*lines, WIDENED.format(folder=tmp_path)]))
    script.write_text(STEP.format(root=str(ROOT), config=str(config), folder=str(tmp_path)))
    for devices in (1, 2):
        launch(devices, tmp_path, script)
    one, two = (json.loads((tmp_path / f"{devices}.json").read_text()) for devices in (1, 2))
    assert_alike(tmp_path, one, two, least=1e-6)
