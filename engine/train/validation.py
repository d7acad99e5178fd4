"""The evaluation at the end of an epoch: scores, sample images, and whether it is the best."""

import contextlib
from collections.abc import Callable, Mapping

from data import DataError, Loader
from engine.evaluation import evaluate, numbers_text
from engine.run.progress import Progress
from engine.run.record import RunRecord
from engine.run.result import as_expected
from engine.tasks import Task
from engine.train.running_statistics import make_precise
from engine.train.step import Learner
from models.norm import batch_norms


def evaluate_epoch(
    learner: Learner, task: Task, train_loader: Loader, loader: Loader, progress: Progress, record: RunRecord, *,
    samples: int, precise_images: int, look: Callable[[], None], draw: Callable[[], tuple] | None = None,
    expect: Mapping[str, float] | None = None,
) -> None:
    """Evaluate the weights as they are, averaged where they are, over `loader`'s images, and record it all.

    samples: how many images the dashboard gets with their answers. precise_images: training images behind precise
    running statistics, where the model has them. `draw`, where there is one, gives what `record.offsets` takes. `look`
    is called at each batch and may end it all: then, and where Diverged is raised, nothing is recorded.
    Raises InputError where `expect`, as a config says it, names no number of this evaluation.
    """
    headline = task.measures[0]
    with learner.ema.applied(learner.model) if learner.ema else contextlib.nullcontext():
        if any(layer.precise for layer in batch_norms(learner.model)):
            images_per_pass = loader.images // loader.ranks
            make_precise(
                learner.model, learner.ema, train_loader, progress.epoch, images=precise_images,
                images_per_pass=images_per_pass, look=look,
            )
        scores, kept = evaluate(learner.model, loader, task, samples=samples, look=look)
        offsets = draw() if draw and record.active else None
        look()
    numbers, epoch = scores.numbers(), progress.epoch + 1
    if numbers[headline.name] is None:
        raise DataError(f"evaluation: the images that could be read show nothing to judge {headline.words} by")
    as_expected(expect or {}, numbers)
    if offsets:
        record.offsets(*offsets, progress.step)
    record.metrics("eval", epoch=epoch, step=progress.step, **numbers)
    record.pictures(task.pictures(kept, loader.dataset), progress.step)
    if kept and record.active and (picture := task.found_below(kept, loader.dataset)) is not None:
        record.keep(picture)
    value = numbers[headline.name]
    if progress.best is None or headline.better(value, progress.best[headline.name]):
        progress.best = {headline.name: value, "epoch": epoch, "step": progress.step}
    shown = numbers_text(numbers)
    record.log(f"[Eval][Epoch {epoch}] {shown}, best {headline.name}: {progress.best[headline.name]:.5f}")
