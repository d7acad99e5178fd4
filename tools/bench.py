"""Time ops or a training step beside their peers:  python tools/bench.py ops|boxes|step|detection|video [--json FILE]

All that is compared is measured in this run, in turns. PyTorch and torchvision take part where they can be imported.
OMP_NUM_THREADS=n chooses the threads.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed

from engine import environment
from engine.bench import boxes, detection, ops, step, video
from engine.bench.view import section_text
from engine.command import Parser, command, typed_path
from engine.errors import InputError
from engine.files import check_file_target, write_text

BENCHES = {"ops": ops, "boxes": boxes, "step": step, "detection": detection, "video": video}


def main() -> None:
    arguments = parse_arguments()
    bench = BENCHES[arguments.what]
    report = {**environment.describe(), "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}
    report |= {"quick": arguments.quick, "sections": []}
    print(f"{report['device_name']}, {environment.cores()} cores, commit {report['commit']}, {report['date']}\n")
    for section in bench.measure(arguments.only or bench.NAMES, arguments.quick):
        print(section_text(section), flush=True)
        report["sections"].append(section)
    if arguments.json:
        write_text(Path(arguments.json), json.dumps(report, indent=2) + "\n")
        print(f"all figures: {arguments.json}")


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("what", choices=BENCHES, help="what is timed")
    parser.add_argument("--json", type=typed_path, metavar="FILE", help="write all figures there")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="A,B", help="a part: " + "; ".join(
        f"{what}: {','.join(bench.NAMES)}" for what, bench in BENCHES.items()
    ))
    parser.add_argument("--quick", action="store_true", help="tiny shapes, few repeats: does it run, not how fast")
    arguments = parser.parse_args()
    names = BENCHES[arguments.what].NAMES
    for name in arguments.only or []:
        if name not in names:
            raise InputError(f"--only {name}: expected some of {','.join(names)}")
    if arguments.json:
        check_file_target(arguments.json, "--json")
    return arguments


if __name__ == "__main__":
    command(main)
