"""A sweep of very many runs: what its driver does for each, and how often it touches a disk that many share.

    SLOW_TESTS=1 python -m pytest tests/test_sweep_many.py -s     # a thousand runs of a second each, on Ray; measured
"""

import builtins
import collections
import contextlib
import io
import json
import os
import time

import pytest
from conftest import write_sweep
from test_sweep_cluster import quick_mark, slow, start_nodes  # noqa: F401  fixtures

from engine.sweep.cluster import Cluster, connect
from engine.sweep.definition import load_sweep
from engine.sweep.plan import make_plans
from engine.sweep.pool import End
from engine.sweep.session import work_off

TOUCHES = [(os, name) for name in ("stat", "open", "replace", "rename", "unlink", "mkdir", "scandir", "listdir")]
TOUCHES += [(builtins, "open"), (io, "open")]
RESULT = {
    "name": "x", **dict.fromkeys(("top1_error_median_last_5", "top1_error_last", "top1_error_best"), 0.25),
    **dict.fromkeys(("workers", "images_per_worker", "images_per_step", "seed", "parameters", "steps", "epochs"), 4),
    "best_epoch": 2, "norm": "bn", "protocol": "paper", "lr": 0.1, "evaluation_statistics": "first",
    "multiply_adds": 5, "train_seconds": 1.5,
}


@pytest.fixture
def touches(monkeypatch):
    """Counts what this process asks of file systems."""
    counts = collections.Counter()

    def counted(name, function):
        def count(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return count

    for module, name in TOUCHES:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


class Instant:
    """An executor with a hundred places whose runs are finished at the next look."""

    alone, places, environment = True, 100, {"OMP_NUM_THREADS": "1"}

    def __init__(self):
        self.free = self.places

    @contextlib.contextmanager
    def entered(self, sweep):
        sweep.folder.mkdir(parents=True)
        yield

    def look(self, waiting):
        pass

    def has_room(self):
        return self.free > 0

    def start(self, run):
        self.free -= 1
        return run

    def poll(self, run):
        (run.config.folder / "result.json").write_text(json.dumps(RESULT))
        self.free += 1
        return End(0)

    def stop(self, runs):
        pass


def many(folder, runs):
    sweep = load_sweep(write_sweep(folder, f"{{seed: {list(range(runs))}}}"))
    return sweep, make_plans(sweep, sweep.runs)


def test_what_a_driver_asks_of_the_disk_grows_with_the_runs_and_not_with_their_square(tmp_path, touches):
    of_each = []
    for number in (20, 80):
        (tmp_path / str(number)).mkdir()
        sweep, plans = many(tmp_path / str(number), number)
        touches.clear()
        jobs = work_off(sweep, sweep.runs, plans, Instant())
        assert [job.state for job in jobs] == ["finished"] * number
        of_each.append(touches.total() / number)
    assert of_each[1] <= of_each[0] and of_each[1] < 60, of_each
    assert (sweep.folder / "results.csv").read_text().count(",finished,") == 80


@slow
def test_a_thousand_runs_of_a_second_each(tmp_path, fake, quick_mark, start_nodes, touches, capsys):  # noqa: F811
    number, nodes = 1000, start_nodes(2, num_cpus=10)
    sweep, plans = many(tmp_path, number)
    fake("steps=1,seconds=1")
    connect(nodes.address)
    executor = Cluster(sweep, None, collect=False)
    assert executor.places == 20
    touches.clear()
    began, computed = time.monotonic(), time.process_time()
    jobs = work_off(sweep, sweep.runs, plans, executor)
    seconds, computed = time.monotonic() - began, time.process_time() - computed
    assert [job.state for job in jobs] == ["finished"] * number
    with capsys.disabled():
        print(f"\n{number} runs of 1 s at {executor.places} places: {seconds:.0f} s in all, of them "
              f"{number / executor.places:.0f} s the runs'; for each run the driver computes "
              f"{1000 * computed / number:.0f} ms and touches the disk {touches.total() / number:.0f} times "
              f"{dict(touches)}; each place is without work for {executor.places * seconds / number - 1:.2f} s a run")
    assert computed / number < 0.2 and touches.total() / number < 100
