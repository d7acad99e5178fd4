"""What the runs of a sweep would be, before any of them is started: are they possible, how long are they?"""

import contextlib
import json
import math
import time
from dataclasses import dataclass

import paddle

from data import DataError, length
from engine.build import (
    build_data,
    build_loaders,
    build_model,
    build_schedule,
    check_device,
    check_model,
    load_pretrained,
    make_learner,
)
from engine.config import Config
from engine.environment import on_gpu
from engine.errors import InputError
from engine.run import checkpoint
from engine.run.data_identity import DataIdentity, data_identity
from engine.run.result import check_expected
from engine.sweep.definition import Run, Sweep
from engine.train.step import train_step
from models.norm import share_statistics

MEASURED_NUMBERS = 2_000_000  # of the samples of a measured step: 13 images of 224 x 224 in colour
IMAGES_OF_A_STEP = 8  # images that take as long as what a step takes beside its images, on two CPU cores
PRETRAINED = ("pretrained", "pretrained_norms", "pretrained_stride_in")  # whether the weights fit depends on
FORWARD_SHARE = 1 / 3  # of the time of a training step: what an image takes in evaluation


@dataclass(frozen=True)
class Plan:
    """One run's lengths, and what it is trained on."""

    steps: int
    images: int  # that are trained on, each as often as it comes
    identity: DataIdentity  # of its data, as they are now
    seconds: float | None = None  # about, of training and evaluation

    @property
    def work(self) -> int:
        """How long it takes, in images: good enough to compare runs, and to say what is left."""
        return self.images + IMAGES_OF_A_STEP * self.steps


def make_plans(sweep: Sweep, runs: list[Run], *, timed: bool = False, here: bool = True) -> dict[str, Plan]:
    """run's name -> Plan. Raises InputError or DataError for a run that cannot be.

    timed: also measure a few training steps of each kind of run on this machine, with the threads of this process.
    here: the runs are for this machine, which must be able to do what they want of it.
    """
    for run in runs:
        with _naming(run):
            check_expected(run.config.expect, run.measures)
            if here:
                check_device(run.config)
    device = paddle.get_device()
    if not timed:
        paddle.set_device("cpu")  # the GPUs are for the runs
    try:
        return _plans(sweep, runs, timed)
    finally:
        paddle.set_device(device)


def _plans(sweep, runs, timed):
    plans, sets, identities, speeds, fitted = {}, {}, {}, {}, set()
    for run in runs:
        config, dump = run.config, run.config.model_dump(mode="json")
        data = json.dumps(dump["data"])
        responses = dump["record"]["responses"]
        kind = json.dumps([dump["model"], dump["batch"], responses, [dump[key] for key in PRETRAINED], data])
        with _naming(run):
            if data not in sets:
                sets[data] = build_data(config)
                identities[data] = data_identity(*sets[data])
            train_loader, validation_loader = build_loaders(config, *sets[data], ranks=sweep.section.devices_per_run)
            build_schedule(config, train_loader.steps_per_epoch)
            if kind not in speeds:
                model = build_model(config, train_loader.dataset)
                check_model(config, model, train_loader.dataset.image_shape, sweep.section.devices_per_run)
                speeds[kind] = _seconds_per_image(config, model, train_loader) if timed else None
            if config.pretrained and kind not in fitted and not checkpoint.exists(config.folder / "latest"):
                load_pretrained(build_model(config, train_loader.dataset), config)
                fitted.add(kind)
        epochs = config.schedule.epochs
        steps = train_loader.steps_per_epoch * epochs
        evaluations = math.ceil(epochs / config.evaluate_every_epochs)
        images, evaluated = steps * config.batch.images_per_step, evaluations * len(validation_loader.dataset)
        images_of_a_device = (images + FORWARD_SHARE * evaluated) / sweep.section.devices_per_run
        seconds = speeds[kind] * images_of_a_device if timed else None
        plans[run.name] = Plan(steps, images, identities[data], seconds)
    return plans


def identities_of(sweep: Sweep, plans: dict[str, Plan]) -> dict[str, DataIdentity]:
    """run's name -> what its data are now, of all runs whose data are those of a run with a plan."""
    known = {run.config.data: plans[run.name].identity for run in sweep.runs if run.name in plans}
    return {run.name: known[run.config.data] for run in sweep.runs if run.config.data in known}


@contextlib.contextmanager
def _naming(run):
    """Say of which run the bad input is."""
    try:
        yield
    except (InputError, DataError) as error:
        raise InputError(f"{run.name}: {error}") from None


def _seconds_per_image(config: Config, model, loader):
    """Of training steps like this config's; of fewer images where one would take long.

    On a CPU it is the processor's time, which other programs do not lengthen.
    """
    clock = time.perf_counter if on_gpu() else time.process_time
    batch = next(loader.epoch(0))
    numbers = sum(value[0].size for value in batch.values())
    images = max(1, min(length(batch), MEASURED_NUMBERS // numbers))
    each = config.batch.images_per_worker
    if images > each:
        images -= images % each
    else:
        each = images
    batch = {name: value[:images] for name, value in batch.items()}
    share_statistics(model, each)
    learner = make_learner(config, model, loader.steps_per_epoch)
    learner.images_per_pass, learner.schedule = None, lambda step: 0.0
    model.train()
    seconds = []
    for step in range(4):
        began = clock()
        outputs, _ = train_step(learner, batch, step)
        float(outputs["loss"])  # waits for a GPU
        seconds.append(clock() - began)
    return min(seconds[1:]) / images
