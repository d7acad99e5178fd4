"""Evaluate a trained model:  python tools/eval.py -c output/quickstart/config.yaml [-w best] [--data FOLDER]

On the validation images of its config, or on all pictures of another FOLDER/CLASS/*.jpg (an archive of it, or a list of
`path label`), prepared as in the run; its classes are found by their names. Prints the errors of a classifier, the
average precision of a detector, of all and by class.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from data import Dataset, Preparation
from engine import environment
from engine.build import build_data, build_labelled, build_validation_loader, load_trained, set_precise
from engine.command import command, config_parser, typed_path, typed_views
from engine.config import Config
from engine.drawing import check_target
from engine.errors import InputError
from engine.evaluation import evaluate, numbers_text
from engine.files import check_file_target
from engine.run.folder import load_run_config
from engine.tasks import task_of
from engine.terminal import json_text


def main() -> None:
    arguments = parse_arguments()
    picture = arguments.confusion and check_target(arguments.confusion)
    results = arguments.results and check_file_target(arguments.results, "--results")
    config = load_run_config(arguments.config, arguments.override)
    task_of(config.model.name).check_files(picture, results)
    rank, ranks = environment.start(config.device, config.deterministic)
    model, preparation = load_trained(config, arguments.weights)
    dataset = build_dataset(config, preparation, arguments.data, arguments.views)
    loader = build_validation_loader(config, dataset, rank, ranks)
    if arguments.precise:
        set_precise(config, model, rank, ranks)
    scores, _ = evaluate(model, loader, task_of(config.model.name))
    if rank != 0:
        return
    counts, numbers = {"images": scores.images, "skipped": len(dataset) - scores.images}, scores.numbers()
    if arguments.json:
        print(json_text({**counts, **numbers, **scores.details()}))
    else:
        images = f"{counts['images']} images" + f", {counts['skipped']} skipped" * bool(counts["skipped"])
        print(f"[Eval] {numbers_text(numbers)} ({images})", *scores.in_words(longest=20).splitlines(), sep="\n")
    if picture:
        scores.draw(picture)
    if results:
        scores.write(results)


def build_dataset(config: Config, preparation: Preparation, folder: str | None, views: dict[str, int]) -> Dataset:
    """What to evaluate on: a folder, or where there is none the validation images of the config."""
    if folder is not None:
        return build_labelled(config, preparation, folder, **views)
    _, dataset = build_data(config, **views)
    if dataset.preparation == preparation:
        return dataset
    raise InputError(
        f"data: other classes, image size{', frames, stride, fps' * (preparation.axes == 4)} or normalisation than the "
        f"model was trained with; --data FOLDER takes {task_of(config.model.name).noun}s as the model wants them"
    )


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__, weights=True)
    parser.add_argument("--data", type=typed_path, metavar="FOLDER", help="all pictures of class folders")
    parser.add_argument("--confusion", type=typed_path, metavar="FILE", help="draw which is taken for which: a .png")
    parser.add_argument("--results", type=typed_path, metavar="FILE", help="all answers in COCO's form: a .json a kind")
    parser.add_argument("--views", type=typed_views, default={}, metavar="10x3", help="of videos: clips x crops")
    parser.add_argument("--precise", action="store_true", help="BN: statistics of training images, not running ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object; confusion is [true][predicted]")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
