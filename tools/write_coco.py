"""Write a config's pictures, boxes and masks as COCO has them:  python tools/write_coco.py -c CONFIG --output FOLDER

FOLDER gets annotations/instances_train.json and instances_val.json, train/ and val/. Other programs read these, and so
does data.name=coco with data.train=annotations/instances_train.json and data.validation=annotations/instances_val.json.
Works for every set to detect in: scenes that are composed, labelme's files, other COCO sets.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from data.detection.dataset import DetectionDataset
from engine.build import build_data
from engine.command import command, config_parser, typed_path
from engine.config import load_config
from engine.errors import InputError
from engine.tasks.detection.coco_files import write_coco
from engine.terminal import printable


def main() -> None:
    arguments = parse_arguments()
    config = load_config(arguments.config, arguments.override)
    datasets = build_data(config)
    if not isinstance(datasets[0], DetectionDataset):
        raise InputError(f"data.name: {config.data.name} has no boxes; expected a set such as garment_scenes or coco")
    print(*map(printable, write_coco(datasets, Path(arguments.output))), sep="\n")


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--output", type=typed_path, required=True, metavar="FOLDER", help="a new or an empty folder")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
