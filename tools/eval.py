"""Evaluate a trained model:  python tools/eval.py -c output/quickstart/config.yaml [-w best] [-o key=value ...]"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.build import build_data, build_validation_loader
from engine.command import command, config_parser
from engine.config import load_config
from engine.errors import InputError
from engine.evaluate import evaluate
from engine.folder import run_folder
from engine.trained import load_trained


def main():
    arguments = parse_arguments()
    config = load_config(arguments.config, arguments.override)
    rank, ranks = environment.start(config.device, config.deterministic)
    folder = run_folder(arguments.config, config, arguments.override)
    model, preparation = load_trained(config, folder, arguments.weights)
    _, validation_set = build_data(config)
    if validation_set.preparation != preparation:
        raise InputError("data: its classes, image size or normalisation are not those that the model was trained with")
    loader = build_validation_loader(config, validation_set, rank, ranks)
    errors, _ = evaluate(model, loader)
    if rank == 0:
        if arguments.json:
            print(json.dumps({"images": len(validation_set), **errors}))
        else:
            shown = ", ".join(f"{name}: {value:.5f}" for name, value in errors.items())
            print(f"[Eval] {shown} ({len(validation_set)} images)")


def parse_arguments():
    parser = config_parser(__doc__, weights=True)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
