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
        results = Results(sweep, pool)

        def done(job: Job) -> None:
            view.done(job)
            results.write()

        with SweepView(sweep, pool.jobs, plans) as view:
            for line in found:
                view.line(line)
            results.write()
            try:
                pool.work(done, view.look)
            finally:
                results.write()
    return pool.jobs


class Results:
    """Keeps results.csv and sessions.jsonl at what has become of the runs.

    Who has the folder alone reads again only what has changed: at each of a thousand ends the folders of a thousand
    runs would be three million looks at a disk that many share.
    """

    def __init__(self, sweep: Sweep, pool: Pool):
        self.sweep, self.pool, self.rows, self.seen = sweep, pool, {}, {}

    def write(self) -> None:
        states = {job.run.name: (job.state, job.tries) for job in self.pool.jobs}
        changed = {name for name, now in states.items() if self.seen.get(name) != now}
        self.seen = states
        self.rows = {
            name: row for name, row in self.rows.items() if self.pool.executor.alone and name not in changed
        }
        write_results(self.sweep, self.pool.session(), self.rows)
