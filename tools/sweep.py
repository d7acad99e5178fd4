"""Run a sweep:  python tools/sweep.py -c configs/sweeps/figure1.yaml [--dry-run] [--only norm=gn] [-o key=value ...]

A run that is finished is skipped, one that was cut off continues; the same command goes on with the sweep at any time.
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
from engine.sweep.folder import check_sweep_folder, material_changes, open_sweep_folder, state, write_results
from engine.sweep.plan import identities_of, make_plans
from engine.sweep.pool import Job, Pool, make_slots
from engine.sweep.view import SweepView, show_plan
from engine.terminal import printable


def main() -> None:
    arguments = parse_arguments()
    sweep = load_sweep(arguments.config, arguments.override)
    runs = sweep.only(arguments.only)
    environment.start(runs[0].config.device)
    slots = make_slots(sweep, arguments.jobs, arguments.devices)
    plans = make_plans(sweep, runs, timed=arguments.dry_run)
    if arguments.dry_run:
        check_sweep_folder(sweep)
        changed = [run.name for run in runs if material_changes(run, plans[run.name].identity)]
        states = {run.name: "changed" if run.name in changed else state(run) for run in runs}
        show_plan(sweep, runs, plans, states, len(slots))
        return
    found = open_sweep_folder(sweep, identities_of(sweep, plans))
    pool = Pool(sorted(runs, key=lambda run: -plans[run.name].work), slots)  # the longest first: all end together

    def done(job: Job) -> None:
        view.done(job)
        write_results(sweep, pool.session())

    with SweepView(sweep, pool.jobs, plans) as view:
        for line in found:
            view.line(line)
        write_results(sweep, pool.session())
        try:
            pool.work(done, view.look)
        finally:
            write_results(sweep, pool.session())
    print(results_text(sweep.folder))
    if any(state(run) == "finished" for run in sweep.runs):
        print("\n".join(map(printable, write_report(sweep.folder))))
    failed = [job for job in pool.jobs if job.state == "failed"]
    for job in failed:
        print(f"\nfailed: {job.run.name}; its last lines:", *map(printable, job.last_lines.splitlines()), sep="\n")
    sys.exit(1 if failed else 0)


def parse_arguments() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="list the runs with their derived values and times")
    parser.add_argument("--only", nargs="+", action="extend", default=[], metavar="axis=value", help="some of the runs")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: a run for each GPU, or core)")
    parser.add_argument("--devices", type=lambda text: text.split(","), metavar="0,1", help="the GPUs to use")
    return parser.parse_args()


if __name__ == "__main__":
    command(main)
