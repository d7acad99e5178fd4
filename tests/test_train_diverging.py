"""Numbers that are not finite, wherever they come up: no result, no best, and what is saved is from before them."""

import json

import numpy as np
import paddle
import pytest
from conftest import run_tool, train_here

from data import Preparation
from engine.config import load_config
from engine.errors import Diverged, InputError
from engine.evaluation import evaluate
from engine.run import checkpoint
from engine.run.finite import not_finite
from engine.tasks import task_of
from engine.tasks.export import export
from models import Classifier, resnet

ONE_STEP = ["schedule.epochs=1", "schedule.warmup_epochs=0", "model.norm=bn", "batch.images_per_worker=12"]


def assert_sound(folder):
    """What is kept is finite, and of no evaluation or result of what was not."""
    for ending in (".pdparams", ".pdopt"):
        for path in folder.glob(f"*{ending}"):
            assert not_finite(checkpoint.read(path)) is None, path
    assert not [*folder.glob("previous.*"), *folder.glob("*.new"), *folder.glob("*.part")]
    assert not (folder / "result.json").exists()
    assert '"loss": null' not in (folder / "metrics.jsonl").read_text()


def test_an_evaluation_that_is_not_finite_is_no_result(tiny, tmp_path):
    """Batch statistics hide weights of 1e18 in training; the running ones do not."""
    with pytest.raises(Diverged, match="in evaluation is (nan|inf); no checkpoint had been saved before it"):
        train_here("-c", tiny, "-o", *ONE_STEP, "optimizer.base_lr=1e18")
    folder = tmp_path / "output" / "tiny"
    assert not [*folder.glob("*.pd*")]
    assert_sound(folder)
    assert '"kind": "eval"' not in (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("average", ["null", "0.9"])
def test_the_checkpoint_before_such_an_evaluation_stays(tiny, tmp_path, average):
    folder, options = tmp_path / "output" / "tiny", [f"ema_decay={average}", *ONE_STEP[1:]]
    train_here("-c", tiny, "-o", *ONE_STEP, f"ema_decay={average}")
    result = json.loads((folder / "result.json").read_text())
    before = {path.name: path.read_bytes() for path in folder.glob("*.pd*")}
    with pytest.raises(Diverged, match="the last checkpoint is from before it, of step 1"):
        train_here("-c", tiny, "-r", "auto", "-o", *options, "schedule.epochs=2", "optimizer.base_lr=1e18")
    assert {path.name: path.read_bytes() for path in folder.glob("*.pd*")} == before
    assert_sound(folder)
    train_here("-c", tiny, "-r", "auto", "-o", *options, "schedule.epochs=2")
    assert json.loads((folder / "result.json").read_text())["epochs"] == 2 > result["epochs"]


def test_a_kill_in_such_an_evaluation_changes_nothing(tiny, tmp_path, monkeypatch):
    folder, options = tmp_path / "output" / "tiny", [*ONE_STEP[1:], "schedule.epochs=2"]
    train_here("-c", tiny, "-o", *ONE_STEP)
    before = (folder / "latest.pdparams").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("engine.train.validation.evaluate", lambda *arguments, **more: raise_(KeyboardInterrupt))
        train_here("-c", tiny, "-r", "auto", "-o", *options, "optimizer.base_lr=1e18")
    assert (folder / "latest.pdparams").read_bytes() != before  # saved before the evaluation, which is outstanding
    with pytest.raises(Diverged, match="from before it, of step 1"):
        train_here("-c", tiny, "-r", "auto", "-o", *options, "optimizer.base_lr=1e18")
    assert (folder / "latest.pdparams").read_bytes() == before


def raise_(error):
    raise error


@pytest.mark.parametrize("what", ["parameter", "statistics", "average", "momentum"])
def test_what_is_not_finite_is_not_saved(tiny, tmp_path, monkeypatch, what):
    """The loss need not show it: the last step's weights, statistics that training does not use."""
    from engine.train import loop

    step = loop.train_step

    def spoiled(learner, batch, number, **more):
        outputs = step(learner, batch, number, **more)
        if number == 8:
            tensors = {
                "parameter": learner.model.fc.bias,
                "statistics": next(buffer for name, buffer in learner.model.named_buffers() if "variance" in name),
                "average": learner.ema.average["fc.bias"],
                "momentum": next(iter(learner.optimizer.state_dict().values())),
            }
            tensors[what].set_value(paddle.full_like(tensors[what], np.inf))
        return outputs

    monkeypatch.setattr(loop, "train_step", spoiled)
    with pytest.raises(Diverged, match="the last checkpoint is from before it, of step 6"):
        train_here("-c", tiny, "-o", "model.norm=bn", "ema_decay=0.5", "record.every_steps=6")
    assert_sound(tmp_path / "output" / "tiny")


def test_evaluating_weights_that_are_not_finite_is_one_line(trained, tmp_path):
    state = checkpoint.read(trained / "best.pdparams")
    state["fc.bias"][:] = np.nan
    paddle.save(state, str(tmp_path / "bad.pdparams"))
    done = run_tool("eval.py", "-c", trained / "config.yaml", "-w", tmp_path / "bad.pdparams")
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and not done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_export_refuses_weights_that_are_not_finite(tmp_path):
    model = Classifier(resnet(depth=18, width=4, stem="small", in_channels=1, norm_groups=2), 3)
    model.fc.weight.set_value(paddle.full_like(model.fc.weight, np.nan))
    with pytest.raises(InputError, match="fc.weight"):
        export(model, task_of("resnet"), Preparation(("a", "b", "c"), (1, 16, 20), (0.5,), (0.5,)), tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_one_bad_image_in_many_is_noticed(tiny):
    """The sum of the losses is what is looked at: whichever batch it comes from."""
    from engine.build import build_data, build_validation_loader

    config = load_config(tiny)
    loader = build_validation_loader(config, build_data(config)[1])

    class Model(paddle.nn.Layer):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            logits = paddle.zeros([len(batch["image"]), 3])
            return logits * np.nan if self.calls == 2 else logits

    with pytest.raises(Diverged, match="12 images in evaluation is nan"):
        evaluate(Model(), loader, task_of("resnet"))
