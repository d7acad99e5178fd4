"""Train what a config describes:  python tools/train.py -c configs/quickstart.yaml [-o key=value ...] [-r auto|PATH]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.build import (
    build_data,
    build_loaders,
    build_model,
    build_optimizer,
    build_schedule,
    check_device,
    load_pretrained,
)
from engine.command import command, config_parser, typed_path
from engine.config import load_config
from engine.run.data_identity import data_identity
from engine.run.folder import check_folder, check_source, in_folder, make_folder, run_folder
from engine.run.record import RunRecord
from engine.run.result import result_text, write_result
from engine.run.resume import find_checkpoint, restore
from engine.train.loop import make_learner, train


def main():
    arguments = parse_arguments()
    config = load_config(arguments.config, arguments.override)
    config = in_folder(config, run_folder(arguments.config, config, arguments.override))
    rank, ranks = environment.start(config.device, config.deterministic)
    check_device(config, ranks)
    train_set, validation_set = build_data(config)
    train_loader, validation_loader = build_loaders(config, train_set, validation_set, rank, ranks)
    steps_per_epoch = train_loader.steps_per_epoch
    identity, changes = data_identity(train_set, validation_set), []
    if rank == 0:  # alone: another process may come here when the folder is already made
        changes = check_folder(config, identity, resume=bool(arguments.resume))
    source = find_checkpoint(arguments.resume, config)
    if rank == 0 and source:
        changes += check_source(source, config, identity)
    model = build_model(config, train_set)
    begins_from = load_pretrained(model, config.pretrained) if config.pretrained and not source else "from the seed"
    learner = make_learner(config, model, build_optimizer(config, model), build_schedule(config, steps_per_epoch))
    progress = restore(source, config, learner, steps_per_epoch)
    if rank == 0:
        make_folder(config, train_set.preparation, identity, finished=progress.epoch == config.schedule.epochs)
    record = RunRecord(config.folder, rank, progress.position)
    if progress.step == 0:
        sizes = f"{len(train_set):,} training and {len(validation_set):,} validation images"
        record.begin(config, f"starting {begins_from}; {sizes} of {len(train_set.classes)} classes")
    else:
        for line in [f"continuing at step {progress.step}, epoch {progress.epoch + 1}", *changes]:
            record.log(line)
    try:
        train(config, learner, train_loader, validation_loader, progress, record)
    finally:
        record.close()
    if rank == 0:
        result = write_result(config, progress.train_seconds, model, train_set.preparation.image_shape)
        print(result_text(config, result, check=arguments.check))
        sys.exit(1 if arguments.check and not result.get("as_expected", True) else 0)


def parse_arguments():
    parser = config_parser(__doc__)
    parser.add_argument(
        "-r", "--resume", type=typed_path, metavar="auto|NAME|PATH",
        help="go on from the run's newest checkpoint (auto), from best or epoch_N of it, or from another run's folder",
    )
    parser.add_argument("--check", action="store_true", help="fail where the result is not what the config expects")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
