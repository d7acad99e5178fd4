"""Export a trained model for elsewhere:  python tools/export_model.py -c output/quickstart/config.yaml [-w best]

--format paddle   inference.*, a `paddle.jit` model for paddle.jit.load or paddle.inference
--format onnx     model.onnx, for onnxruntime and others, compared with the model where onnxruntime is installed
--format torch    model.safetensors, the weights by torchvision's and timm's names, for load_state_dict

The first two take image float32 [N, C, H, W] and give probabilities [N, classes]; a detector, as paddle only, takes one
image of any size and gives boxes [D, 4] in its pixels, scores [D], classes [D] and masks [D, S, S]. Beside each lies
preparation.json with the class names and what turns a picture into that image. onnx and torch want
requirements-export.txt installed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.build import load_trained
from engine.command import command, config_parser, typed_path
from engine.run.folder import load_run_config
from engine.tasks import task_of
from engine.tasks.export import FORMATS
from engine.terminal import printable


def main() -> None:
    arguments = parse_arguments()
    config = load_run_config(arguments.config, arguments.override)
    # What onnxruntime gives is compared with what a CPU gives: some GPUs round products to ten bits.
    environment.start(config.device if arguments.format == "paddle" else "cpu")
    model, preparation = load_trained(config, arguments.weights)
    target = Path(arguments.save_dir or config.folder / "export")
    files, write = FORMATS[arguments.format]
    said = write(model, task_of(config.model.name), preparation, target, config.model.model_dump())
    print(f"exported to {printable(target / files)}; {said}")


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__, weights=True)
    parser.add_argument("--format", choices=list(FORMATS), default="paddle", help="for what (paddle)")
    parser.add_argument("--save-dir", type=typed_path, metavar="DIR", help="where to (the run's folder, export/)")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
