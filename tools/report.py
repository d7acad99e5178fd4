"""Draw a sweep's figures and write its report:  python tools/report.py -s output/figure1"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine.command import Parser, command, typed_path
from engine.report.page import results_text, write_report
from engine.terminal import printable


def main() -> None:
    folder = Path(parse_arguments().sweep)
    files = write_report(folder)
    print(results_text(folder))
    for path in files:
        print(printable(path))


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "-s", "--sweep", required=True, type=typed_path, metavar="FOLDER", help="that tools/sweep.py made"
    )
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
