"""Every norm that there is through the training step: passes of whole workers, averages, a resume to the same bits."""

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from paddle.utils import unique_name
from test_build import assert_close, first_batch, learner_of
from test_train_resume import assert_same

from engine.config import load_config
from engine.run.progress import Progress
from engine.run.resume import restore
from engine.run.saving import save
from engine.train.step import train_step
from models.norm import Norm

NORMS = {norm: [f"model.norm={norm}"] for norm in get_args(Norm) if norm not in ("frozen_bn", "sync_bn")}
NORMS["brn, relaxing"] = ["model.norm=brn", "model.brn_relax_steps=[0, 2, 3]", "model.bn_running_statistics=mean"]
for word in ("gn", "bn"):
    NORMS[f"{word} + ws"] = [
        f"model.norm={word}", "model.weight_standardization=true", "model.deformable_stages=[c5]",
    ]
every_norm = pytest.mark.parametrize("options", NORMS.values(), ids=NORMS)
RECORD = SimpleNamespace(active=True, position=lambda: None)


def steps(learner, batch, wanted):
    return [float(train_step(learner, batch, step)[0]["loss"]) for step in wanted]


def arrays(learner):
    states = (learner.model.state_dict(), *([learner.ema.average] if learner.ema else []))
    return [{name: value.numpy().copy() for name, value in state.items()} for state in states]


@every_norm
def test_a_resumed_training_has_the_same_bits(tiny, tmp_path, options):
    options = [*options, "ema_decay=0.9", "batch.workers_per_pass=2"]
    config = load_config(tiny, options)
    batch = first_batch(config)
    with unique_name.guard():  # as in a process of its own: an optimizer's states are kept by name
        whole = learner_of(config, 6)
        begin = arrays(whole)[0]
        losses = steps(whole, batch, (0, 1))
        save(tmp_path, whole, Progress(step=2, steps_per_epoch=6), RECORD)
        losses += steps(whole, batch, (2, 3))
    assert len(set(losses)) == 4 and all(map(np.isfinite, losses))
    assert not [name for name, value in arrays(whole)[0].items() if (value == begin[name]).all()]
    with unique_name.guard():
        resumed = learner_of(config, 6)
        restore(tmp_path / "latest", config, resumed, 6)
        assert steps(resumed, batch, (2, 3)) == losses[2:]
    for ours, theirs in zip(arrays(resumed), arrays(whole), strict=True):
        assert_same(ours, theirs)


@every_norm
def test_passes_of_whole_workers_are_one_pass(tiny, options):
    """Over three steps: what one leaves in running statistics may be part of the next."""
    options = [*options, "optimizer.base_lr=0.01"]  # so small that rounding does not grow
    outcomes = []
    for more in ([], ["batch.workers_per_pass=1"]):
        config = load_config(tiny, [*options, *more])
        learner = learner_of(config)
        outcomes.append((steps(learner, first_batch(config), (0, 1, 2)), arrays(learner)[0]))
    (losses, state), (other_losses, other_state) = outcomes
    assert other_losses == pytest.approx(losses, rel=1e-4)
    assert_close(state, other_state, 1e-3)
