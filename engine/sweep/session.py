"""What one start of tools/sweep.py does with the folder of its sweep, from the first look at it to the last result."""

from collections.abc import Mapping

from engine.sweep.definition import Run, Sweep
from engine.sweep.folder import open_sweep_folder, write_results
from engine.sweep.plan import Plan, identities_of
from engine.sweep.pool import Executor, Job, Pool
from engine.sweep.view import SweepView


def work_off(sweep: Sweep, runs: list[Run], plans: Mapping[str, Plan], executor: Executor) -> list[Job]:
    """Run what is left of these runs, shown on the screen and kept in results.csv; the runs with their ends.

    Raises InputError where the folder is not this sweep's or another runner has it, and Stopped as `Pool.work`.
    """
    with executor.entered(sweep):
        found = open_sweep_folder(sweep, identities_of(sweep, plans), driven=executor.alone)
        longest_first = sorted(runs, key=lambda run: -plans[run.name].work)  # so that all end together
        pool = Pool(longest_first, executor)

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
    return pool.jobs
