"""Look at the data before training on them:  python tools/check_data.py -c configs/my_images.yaml -o data.root=FOLDER

Counts per class, broken files, pictures that are there twice, sizes, mean and deviation, and a sheet of augmented
samples. Works for the data of every config. Ends with status 1 where something should be mended first.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine.build import build_data, build_model
from engine.check_data.findings import findings
from engine.check_data.report import describe_data, has_problems, report_text, survey_sets, write_data_report
from engine.check_data.samples import write_data_sheet
from engine.command import command, config_parser, typed_path
from engine.config import load_config
from engine.errors import InputError
from engine.run.folder import run_folder
from engine.tasks import task_of
from engine.terminal import json_text, printable

LONGEST = 30  # lines of a list on the screen


def main() -> int:
    arguments = parse_arguments()
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit {arguments.limit}: expected 1 or more")
    config = load_config(arguments.config, arguments.override)
    folder = Path(arguments.output or run_folder(arguments.config, config, arguments.override) / "data")
    datasets = build_data(config)
    task = task_of(config.model.name)
    surveys = survey_sets(datasets, arguments.limit, task.noun)
    of_task = task.findings(datasets, surveys, partial(build_model, config, datasets[0]))
    found = findings(
        datasets, surveys, images_per_step=config.batch.images_per_step, task_findings=of_task, noun=task.noun,
        on_corrupt_image=getattr(config.data, "on_corrupt_image", "stop"),  # only files break
        on_corrupt_video=getattr(config.data, "on_corrupt_video", None),
    )
    classes = task.class_counts(datasets)
    report = describe_data(config.name, config.data.name, datasets, surveys, found, classes, task.noun)
    files = write_data_report(report, folder)
    if len(surveys[0].indices):
        sheet = task.sheet(datasets[0])
        files.append(write_data_sheet(datasets[0], surveys[0].indices, config.seed, folder / "samples.png", sheet))
    if arguments.json:
        print(json_text(report, indent=2))
    else:
        print(report_text(report, LONGEST, files[0]), "", *map(printable, files), sep="\n")
    return 1 if has_problems(report) else 0


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument(
        "--output", type=typed_path, metavar="DIR", help="where report and sheet go (the run's folder, then data/)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="open N pictures of each part, evenly spaced (all)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
