"""Make faults on purpose, and print a table: what was done, how often, what was lost.

Nothing is lost where a run or a sweep ends, by the same command again, with the same bits as one that was left alone.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import faults.process as process
from faults.table import ROWS, make


def main() -> int:
    arguments = parse_arguments()
    process.adopt_orphans()
    place, lost = Path(arguments.keep or tempfile.mkdtemp(prefix="faults-")).resolve(), False
    print(f"{'what was done':<76} times  what was lost{'':<27} time", flush=True)
    try:
        for result in make(arguments.only or ROWS, place, arguments.seed, arguments.times):
            print(result, *(f"    {text}" for text in result.lost[1:]), sep="\n", flush=True)
            lost = lost or bool(result.lost)
    finally:
        for pid in process.descendants(os.getpid()):
            process.signalled(pid, 9)
        process.wait_for_orphans()
        if not arguments.keep:
            shutil.rmtree(place)
    return 1 if lost else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bash tests/faults.sh", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help=f"some rows: {', '.join(ROWS)}")
    parser.add_argument("--times", type=int, metavar="N", help="how often, of each row (default: as the rows say)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--keep", metavar="FOLDER", help="where the runs lie, and stay (default: a folder that goes)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
