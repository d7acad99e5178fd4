"""How a sweep is shown: its plan, a live table on a terminal, plain lines elsewhere and in sweep.log."""

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from engine.files import ordinary
from engine.report.words import duration, heading, number_of
from engine.sweep.definition import Run, Sweep
from engine.sweep.folder import how_far
from engine.sweep.plan import Plan
from engine.sweep.pool import Job
from engine.terminal import printable

WIDE = 200  # columns where there is no terminal to fold lines
ORDER = ("running", "elsewhere", "failed", "finished", "stopped", "waiting")


def console() -> Console:
    """Of standard output."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def show_plan(
    sweep: Sweep, runs: Sequence[Run], plans: Mapping[str, Plan], states: Mapping[str, str], processes: int
) -> None:
    """Print the runs with their derived values, and how long they take."""
    table = _table(
        "run", "state", "images per worker", "workers", "images per step", "rate", "epochs", "steps", "about"
    )
    for run in runs:
        batch, plan = run.config.batch, plans[run.name]
        table.add_row(
            escape(run.name), states[run.name], str(batch.images_per_worker), str(batch.workers),
            str(batch.images_per_step), f"{run.config.lr:.6g}", str(run.config.schedule.epochs), str(plan.steps),
            duration(plan.seconds),
        )
    left = sum(
        plans[run.name].seconds * (1 - how_far(run)["step"] / plans[run.name].steps * (states[run.name] == "stopped"))
        for run in runs if states[run.name] != "finished"
    )
    screen = console()
    screen.print(table)
    screen.print(
        f"{len(runs)} runs in {printable(sweep.folder)}, {processes} at a time; what is left takes about "
        f"{duration(left / processes)} (a few steps were timed here)", soft_wrap=True, highlight=False, markup=False,
    )


def _table(first, *others):
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name == "state" else "right")
    return table


class SweepView:
    """Shows jobs as they go on. Use it as a context; `look` may be called as often as one likes."""

    EVERY_SECONDS = 1.0

    def __init__(self, sweep: Sweep, jobs: list[Job], plans: Mapping[str, Plan]):
        self.sweep, self.jobs, self.plans = sweep, jobs, plans
        self.console, self.began, self.looked = console(), time.monotonic(), 0.0
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if sys.stdout.isatty() else None
        self.reached = {job.run.name: how_far(job.run) for job in jobs}
        self.at_begin = self._work_done()
        self.shown, self.moves = {}, {}

    def __enter__(self) -> "SweepView":
        if self.live:
            self.live.__enter__()
        path = self.sweep.folder / "sweep.log"
        self._log = open(path, "a", encoding="utf-8", opener=ordinary)  # noqa: SIM115
        return self

    def __exit__(self, *error: object) -> None:
        self._log.close()
        if self.live:
            self.live.__exit__(*error)

    def line(self, text: str) -> None:
        """A line for sweep.log, and for the screen above the table or instead of it."""
        text = printable(text)  # it may tell of folders that somebody else has put there
        print(time.strftime("[%Y-%m-%d %H:%M:%S]"), text, file=self._log, flush=True)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def look(self) -> None:
        """Say what has changed, and draw the table anew."""
        now = time.monotonic()
        if now - self.looked < self.EVERY_SECONDS:
            return
        self.looked = now
        for job in self.jobs:
            if job.state in ("running", "elsewhere"):
                self._look_at(job)
            self._say_moves(job)
            if self.shown.get(job.run.name) != (job.state, job.tries) and job.state in ("running", "elsewhere"):
                again = ", once more" if job.tries > 1 else ""
                self.line({"running": f"running   {job.run.name}{again}", "elsewhere": f"elsewhere {job.run.name}: "
                           "another process trains it; waiting for that"}[job.state])
            self.shown[job.run.name] = (job.state, job.tries)
        if self.live:
            self.live.update(self._draw(), refresh=True)

    def done(self, job: Job) -> None:
        """Say that a run has come to its end."""
        self._say_moves(job)
        self._look_at(job)
        headline = job.run.measures[0]
        value = self.reached[job.run.name][headline.name]
        shown = f", {headline.words} {headline.text(value)}" if job.state == "finished" and value is not None else ""
        self.line(f"{job.state:<9} {job.run.name}{shown} ({self.summary()})")

    def _say_moves(self, job):
        for why in job.moves[self.moves.get(job.run.name, 0):]:
            self.line(f"moved     {job.run.name}: {why}; goes on elsewhere from its last checkpoint")
        self.moves[job.run.name] = len(job.moves)

    def _look_at(self, job):
        known = {key: value for key, value in how_far(job.run).items() if value is not None}
        self.reached[job.run.name].update(known)  # the last evaluation may be too far up in the file by now

    def summary(self) -> str:
        """How many runs are done, and how long the rest takes."""
        done = sum(job.state in ("finished", "failed") for job in self.jobs)
        left = self.seconds_left()
        done_of = f"{done} of {len(self.jobs)}"
        return done_of if left is None or done == len(self.jobs) else f"{done_of}, about {duration(left)} left"

    def seconds_left(self) -> float | None:
        """By the work done since the beginning and that to come; None where there is no telling yet."""
        done = self._work_done()
        total = sum(self.plans[job.run.name].work for job in self.jobs if job.state != "failed")
        seconds = time.monotonic() - self.began
        return max(0.0, total - done) * seconds / (done - self.at_begin) if done > self.at_begin else None

    def _work_done(self):
        return sum(self._share(job) * self.plans[job.run.name].work for job in self.jobs if job.state != "failed")

    def _share(self, job):
        return 1.0 if job.state == "finished" else self.reached[job.run.name]["step"] / self.plans[job.run.name].steps

    def _draw(self):
        headline = self.sweep.measures[0]
        table = _table("run", "state", "epoch", heading(headline), "done %")
        room = max(3, self.console.height - 6)
        jobs = sorted(self.jobs, key=lambda job: ORDER.index(job.state))
        for job in jobs[:room]:
            at = self.reached[job.run.name]
            table.add_row(
                escape(job.run.name), job.state, f"{at['epoch'] or '-'}/{job.run.config.schedule.epochs}",
                "-" if at[headline.name] is None else number_of(headline, at[headline.name]),
                f"{100 * self._share(job):.0f}",
            )
        if len(jobs) > room:
            table.add_row(f"and {len(jobs) - room} more", "", "", "", "")
        return Group(table, self.summary())
