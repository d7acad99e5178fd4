"""Run a sweep:  python tools/sweep.py -c configs/sweeps/figure1.yaml [--dry-run] [--only norm=gn] [-o key=value ...]

A run that is finished is skipped, one that was cut off continues; the same command goes on with the sweep at any time.
With --executor ray the runs are spread over the nodes of a Ray cluster.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a fresh clone, nothing is installed
os.environ["OMP_NUM_THREADS"] = "1"  # of this process, which hardly computes; each run is given its own number

from engine import environment
from engine.command import command, config_parser
from engine.report.page import results_text, write_report
from engine.sweep.definition import load_sweep
from engine.sweep.executors import EXECUTORS, open_executor
from engine.sweep.folder import check_sweep_folder, material_changes, state
from engine.sweep.plan import make_plans
from engine.sweep.session import work_off
from engine.sweep.view import show_plan
from engine.terminal import printable


def main() -> None:
    arguments = parse_arguments()
    sweep = load_sweep(arguments.config, arguments.override)
    runs = sweep.only(arguments.only)
    here = arguments.executor == "local"
    environment.start(runs[0].config.device if here else "cpu")
    executor = open_executor(arguments.executor, sweep, jobs=arguments.jobs, devices=arguments.devices,
                             address=arguments.address, collect=arguments.collect)
    plans = make_plans(sweep, runs, timed=arguments.dry_run, here=here)
    if arguments.dry_run:
        check_sweep_folder(sweep)
        changed = [run.name for run in runs if material_changes(run, plans[run.name].identity)]
        states = {run.name: "changed" if run.name in changed else state(run) for run in runs}
        show_plan(sweep, runs, plans, states, executor.places)
        return
    jobs = work_off(sweep, runs, plans, executor)
    print(results_text(sweep.folder))
    if any(state(run) == "finished" for run in sweep.runs):
        print("\n".join(map(printable, write_report(sweep.folder))))
    failed = [job for job in jobs if job.state == "failed"]
    for job in failed:
        print(f"\nfailed: {job.run.name}; its last lines:", *map(printable, job.last_lines.splitlines()), sep="\n")
    sys.exit(1 if failed else 0)


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="list the runs with their derived values and times")
    parser.add_argument("--only", nargs="+", action="extend", default=[], metavar="axis=value", help="some of the runs")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: a run for each GPU, or core)")
    parser.add_argument("--devices", type=lambda text: text.split(","), metavar="0,1", help="the GPUs to use")
    parser.add_argument("--executor", choices=EXECUTORS, default="local", help="where the runs are processed")
    parser.add_argument("--address", metavar="auto|HOST:PORT", help="the Ray cluster (default: the one of this node)")
    parser.add_argument("--collect", action="store_true", help="bring the runs home: the nodes do not see the folder")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
