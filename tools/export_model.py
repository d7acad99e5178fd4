"""Export a trained model for deployment:  python tools/export_model.py -c output/quickstart/config.yaml [-w best]

Writes a `paddle.jit` model, image float32 [N, C, H, W] -> probabilities [N, classes], and preparation.json with the
class names and what turns a picture into that image. Load it with paddle.jit.load or paddle.inference. A detector takes
one image of any size and gives boxes [D, 4] in its pixels, scores [D], classes [D] and masks [D, S, S].
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
from engine.tasks.export import export
from engine.terminal import printable


def main() -> None:
    arguments = parse_arguments()
    config = load_run_config(arguments.config, arguments.override)
    environment.start(config.device)
    model, preparation = load_trained(config, arguments.weights)
    target = Path(arguments.save_dir or config.folder / "export")
    difference = export(model, task_of(config.model.name), preparation, target)
    where = printable(target / "inference.*")
    print(f"exported to {where}; loaded again, its output differs by at most {difference:.1e}")


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__, weights=True)
    parser.add_argument("--save-dir", type=typed_path, metavar="DIR", help="where to (the run's folder, export/)")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
