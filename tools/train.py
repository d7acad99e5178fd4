"""Train what a config describes:  python tools/train.py -c configs/quickstart.yaml [-o key=value ...] [-r auto|PATH]"""

import argparse
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.build import (
    build_data,
    build_loaders,
    build_model,
    check_device,
    check_model,
    load_pretrained,
    make_learner,
)
from engine.command import command, config_parser, typed_path
from engine.run.data_identity import data_identity, in_words
from engine.run.folder import load_run_config, make_folder
from engine.run.record import RunRecord
from engine.run.result import result_text, write_result
from engine.run.resume import find_source, restore
from engine.run.saving import Keeping
from engine.show_offsets.figures import sample_offsets
from engine.tasks import task_of
from engine.train.keeper import Keeper
from engine.train.loop import train
from engine.train.validation import evaluate_epoch


def main() -> None:
    arguments = parse_arguments()
    config = load_run_config(arguments.config, arguments.override)
    rank, ranks = environment.start(config.device, config.deterministic)
    check_device(config)
    train_set, validation_set = build_data(config)
    train_loader, validation_loader = build_loaders(config, train_set, validation_set, rank, ranks)
    identity = data_identity(train_set, validation_set)
    source, changes = find_source(arguments.resume, config, identity)
    model, task = build_model(config, train_set), task_of(config.model.name)
    check_model(config, model, train_set.image_shape, ranks)
    begins_from = load_pretrained(model, config) if config.pretrained and not source else "from the seed"
    learner = make_learner(config, model, train_loader.steps_per_epoch)
    progress = restore(source, config, learner, train_loader.steps_per_epoch)
    if rank == 0:
        make_folder(config, train_set.preparation, identity, finished=progress.epoch == config.schedule.epochs)
    record, shown = RunRecord(config.folder, rank, progress.position), config.record
    if progress.position is None:
        record.begin(config, task.measures)
    start = f"starting {begins_from}; {in_words(train_set, validation_set)}"
    resumed = f"continuing at step {progress.step}, epoch {progress.epoch + 1}"
    record.log_lines([resumed if progress.step else start, *changes])
    keeping = Keeping(config.schedule.epochs, **config.checkpoint.model_dump())
    with closing(record), Keeper(config.folder, learner, progress, record, keeping, train_loader.images) as keeper:
        evaluate = partial(
            evaluate_epoch, learner, task, train_loader, validation_loader, progress, record, look=keeper.look,
            samples=shown.sample_images, precise_images=config.bn_precise_images, expect=config.expect,
            draw=shown.offsets and partial(sample_offsets, model, validation_loader, shown.offsets, keeper.asked),
        )
        train(learner, train_loader, progress, record, keeper, evaluate, every_epochs=config.evaluate_every_epochs,
              every_steps=shown.every_steps, histograms=shown.histograms)
    if rank == 0:
        result = write_result(config, progress.train_seconds, model, train_set.image_shape, task.measures)
        print(result_text(config, result, task.measures, check=arguments.check))
        sys.exit(1 if arguments.check and not result.get("as_expected", True) else 0)


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("-r", "--resume", type=typed_path, metavar="auto|NAME|PATH", help="where to go on from")
    parser.add_argument("--check", action="store_true", help="fail where the result is not what the config expects")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
