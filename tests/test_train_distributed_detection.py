"""Two processes on CPUs (gloo) detect as one device with all the workers."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT
from test_tasks_detection_journey import LOSSES, TINY
from test_train_distributed import launch

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
    for name in ("loss", *LOSSES):
        assert two[name] == pytest.approx(one[name], rel=1e-5), name
    ours, theirs = (np.load(tmp_path / f"{devices}.npz") for devices in (1, 2))
    assert set(ours) == set(theirs)
    for name in ours:
        scale = max(1e-3, np.abs(ours[name]).max())
        np.testing.assert_allclose(theirs[name] / scale, ours[name] / scale, atol=1e-4, err_msg=name)
