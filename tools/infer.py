"""Name what is on pictures:  python tools/infer.py -c output/quickstart/config.yaml PICTURE_OR_FOLDER ... [--json]

Folders are searched to any depth for files with the endings of pictures, hidden ones apart; of a network over clips for
videos, and folders of pictures. What cannot be read does not stop the others: it is named at the end, with status 1.
With --draw DIR what a detector finds is drawn into copies of the pictures, and DIR/answers.json says the same.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from data import MAX_PIXELS
from engine import environment
from engine.build import load_trained
from engine.command import command, config_parser, typed_path, typed_views
from engine.errors import InputError
from engine.run.folder import load_run_config
from engine.tasks import task_of
from engine.tasks.drawn_answers import check_folder, draw_answers
from engine.terminal import json_text, one_line

OF_DATA = ("max_pixels", "test_clips", "test_crops")  # settings that hold for other files too


def main() -> int:
    arguments = parse_arguments()
    if arguments.top is not None and arguments.top < 1:
        raise InputError(f"--top {arguments.top}: expected 1 or more")
    if arguments.least is not None and not 0 <= arguments.least <= 1:
        raise InputError(f"--least {arguments.least:g}: expected a score from 0 to 1")
    config = load_run_config(arguments.config, arguments.override)
    environment.start(config.device)
    task = task_of(config.model.name)
    draw = arguments.draw and task.drawing()
    pictures = task.find(arguments.pictures)
    folder = arguments.draw and check_folder(arguments.draw, pictures)
    model, preparation = load_trained(config, arguments.weights)
    predictions = []
    if arguments.views and len(preparation.image_shape) == 3:
        raise InputError("--views: this network looks at pictures, not at videos")
    settings = {name: getattr(config.data, name) for name in OF_DATA if hasattr(config.data, name)}
    settings |= {**arguments.views, "top": arguments.top, "least": arguments.least}
    answers = task.answers(model, preparation, pictures, **settings)
    bound = settings.get("max_pixels", MAX_PIXELS)
    for prediction in draw_answers(answers, draw, folder, bound) if folder else answers:
        predictions.append(prediction)
        if not arguments.json and "error" not in prediction:
            print(task.in_words(prediction))
    if arguments.json:
        print(json_text(predictions, indent=2))
    broken = [one_line(prediction["error"]) for prediction in predictions if "error" in prediction]
    if broken:
        said = f"error: {len(broken)} of {len(predictions)} {task.noun}s cannot be read:"
        print(said, *broken, sep="\n  ", file=sys.stderr)
    return 1 if broken else 0


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__, weights=True)
    parser.add_argument(
        "pictures", nargs="+", type=typed_path, metavar="PICTURE", help="picture files, or folders of them"
    )
    parser.add_argument(
        "--views", type=typed_views, default={}, metavar="10x3", help="of videos: average so many clips x crops of each"
    )
    parser.add_argument("--top", type=int, metavar="N", help="how many guesses a picture (3 classes, all objects)")
    parser.add_argument("--least", type=float, metavar="P", help="only what is that sure (classes 0, objects 0.5)")
    parser.add_argument("--draw", type=typed_path, metavar="DIR", help="draw what was found into copies there")
    parser.add_argument("--json", action="store_true", help='print a JSON list; a broken picture has an "error"')
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
