"""Another's weights as this project's:  python tools/convert_weights.py FILE -o OUT.pdparams

FILE is a ResNet's or VGG's: PyTorch's .pth or .safetensors, Detectron's .pkl, tensorpack's .npz, Paddle's .pdparams;
what it holds decides, not its name. Prints what it is and what was done to it. Nothing in FILE is executed.
`pretrained=FILE` takes the same files as they are: this is for whoever wants to keep, or to look at, the result.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.command import Parser, command, typed_path
from engine.terminal import printable
from engine.weights.conversion import convert


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("file", type=typed_path, metavar="FILE", help="weights of another program")
    parser.add_argument("-o", "--output", type=typed_path, required=True, metavar="OUT.pdparams", help="where to")
    parser.add_argument("--stride-in", choices=("3x3", "1x1"), help="which convolutions stride, if FILE does not tell")
    arguments = parser.parse_args()
    environment.start("cpu")
    for line in convert(arguments.file, Path(arguments.output), arguments.stride_in):
        print(printable(line))


if __name__ == "__main__":
    command(main)
