"""Fetch a full data set: python tools/fetch_data.py fashion_mnist | cifar10 | cifar100 [--to FOLDER]

The files land in data/downloads/NAME, where `data.root: full` (Fashion-MNIST) or no root at all (CIFAR) finds them.
Each is checked by SHA-256 before it gets its name; one that is there is kept. Exit status 2 with one line where there
is no network or a checksum is wrong.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root, so that a fresh clone runs uninstalled

from data.errors import DataError, printable
from data.sources import DOWNLOADS, SOURCES, fetch
from data.user_path import user_path


class Parser(argparse.ArgumentParser):
    """Wrong arguments are bad input too, as engine.command's says, which would load Paddle."""

    def error(self, message: str) -> NoReturn:
        raise DataError(message)


def main() -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SOURCES)
    parser.add_argument("--to", type=user_path, help="folder to put the files in (default: data/downloads/NAME)")
    try:
        arguments = parser.parse_args()
        for address, sha256 in SOURCES[arguments.name]:
            path = fetch(address, sha256, arguments.to or DOWNLOADS / arguments.name)
            print(printable(f"{path}: {path.stat().st_size:,} bytes, checksum right"), flush=True)
    except DataError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
