"""Name what is on pictures:  python tools/infer.py -c output/quickstart/config.yaml PICTURE_OR_FOLDER ... [--json]"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.command import command, config_parser
from engine.config import load_config
from engine.errors import InputError
from engine.folder import run_folder
from engine.predict import find_pictures, predict
from engine.trained import load_trained


def main():
    arguments = parse_arguments()
    if arguments.top < 1:
        raise InputError(f"--top {arguments.top}: expected 1 or more")
    config = load_config(arguments.config, arguments.override)
    environment.start(config.device)
    pictures = find_pictures(arguments.pictures)
    folder = run_folder(arguments.config, config, arguments.override)
    model, preparation = load_trained(config, folder, arguments.weights)
    predictions = predict(model, preparation, pictures, top=arguments.top)
    if arguments.json:
        print(json.dumps(list(predictions), indent=2, ensure_ascii=False))
        return
    for prediction in predictions:
        shown = ", ".join(f"{guess['class']} {100 * guess['probability']:.1f} %" for guess in prediction["top"])
        print(f"{prediction['file']}: {shown}")


def parse_arguments():
    parser = config_parser(__doc__, weights=True)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture files, or folders of them")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="how many classes to name (3)")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
