"""See what deformable convolutions look at, and where the bins of deformable RoI pooling lie on what a detector finds.

    python tools/show_offsets.py -c output/dcn/config.yaml --image PICTURE_OR_FOLDER ... [--position y,x ...]
    python tools/show_offsets.py -c output/dcn/config.yaml --sample 0 7        the first and the eighth validation image
    python tools/show_offsets.py -c output/dcn/config.yaml --effective-dilation
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from data import MAX_PIXELS, read_picture
from engine import environment
from engine.build import build_data, build_validation_loader, load_trained
from engine.command import command, config_parser, typed_path
from engine.drawing import plain_table
from engine.errors import InputError
from engine.run.folder import load_run_config
from engine.show_offsets.dilation import (
    ON_BLACK,
    dilation_caption,
    dilation_table,
    dilations,
    on_black,
    write_dilations,
)
from engine.show_offsets.figures import write_offset_figures
from engine.show_offsets.sampling import choose_layers, parse_position
from engine.tasks import task_of
from engine.terminal import printable


def main() -> None:
    arguments = parse_arguments()
    config = load_run_config(arguments.config, arguments.override)
    environment.start(config.device)
    model, preparation = load_trained(config, arguments.weights)
    layers = choose_layers(model, arguments.layers)
    output = Path(arguments.output or config.folder / "offsets")
    positions = [parse_position(text) for text in arguments.position]
    files = task_of(config.model.name).find(arguments.image)
    bound = getattr(config.data, "max_pixels", MAX_PIXELS)
    images = [(file.name, preparation(read_picture(file, bound))) for file in files]
    if arguments.sample or arguments.effective_dilation:
        _, validation_set = build_data(config)
        if validation_set.preparation != preparation:
            raise InputError("data: its classes, image size or normalisation are not those of the model's training")
    for number in arguments.sample:
        if not 0 <= number < len(validation_set):
            raise InputError(f"--sample {number}: outside the validation set, 0 to {len(validation_set) - 1}")
        batch = validation_set.batch([number], seed=config.seed, epoch=0)  # empty where it is corrupt and may be
        images += [(f"validation image {number}", image) for image in batch["image"]]
    for file in write_offset_figures(model, preparation, images, layers, positions, output):
        print(printable(file))
    if arguments.effective_dilation:
        foreground = partial(on_black, preparation=preparation) if config.data.name in ON_BLACK else None
        found = dilations(model, build_validation_loader(config, validation_set), foreground=foreground)
        print(plain_table(dilation_table(found)), dilation_caption(found), sep="\n")
        print(*map(printable, write_dilations(found, output)), sep="\n")


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__, weights=True)
    parser.add_argument("--image", nargs="+", type=typed_path, default=[], metavar="FILE", help="or folders of them")
    parser.add_argument("--sample", nargs="+", type=int, default=[], metavar="N", help="numbers of validation images")
    parser.add_argument("--position", nargs="+", default=[], metavar="y,x", help="of the last layer's output")
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="up to three, or c5: the last of c5")
    parser.add_argument("--effective-dilation", action="store_true", help="a table over the validation set")
    parser.add_argument("--output", type=typed_path, metavar="DIR", help="where to (the run's folder, then offsets/)")
    arguments = parser.parse_args()
    if not (arguments.image or arguments.sample or arguments.effective_dilation):
        parser.error("nothing to show; give --image FILE, --sample N or --effective-dilation")
    return arguments


if __name__ == "__main__":
    command(main)
