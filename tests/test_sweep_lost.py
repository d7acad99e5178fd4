"""A cluster that loses a node, its driver or its memory: what its sweep is worth then. Ray, with nodes on this machine.

    SLOW_TESTS=1 python -m pytest tests/test_sweep_lost.py
"""

# ruff: noqa: F811  fixtures
import os
import signal
import subprocess
import sys

import pytest
from conftest import FAKE, ROOT, is_one_line, run_tool, start_tool, write_sweep
from test_sweep_cluster import quick_mark, record, slow, start_nodes, wait_until  # noqa: F401

from engine.environment import cores
from engine.sweep.cluster import Cluster, connect
from engine.sweep.definition import load_sweep
from engine.sweep.folder import state
from engine.sweep.pool import Pool

REAL = {"axes": "{norm: [bn, gn]}", "more": "schedule: {name: cosine, epochs: 40}\n"}  # a sweep that trains
NAMES = ("metrics.jsonl", *(f"{stem}{ending}" for stem in ("latest", "best") for ending in (".pdparams", ".pdopt")))


def bits(sweep):
    """What must not depend on where its runs were trained."""
    return {(run.name, name): (run.config.folder / name).read_bytes() for run in sweep.runs for name in NAMES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bits of that sweep on this machine, with a thread each as on nodes of one core."""
    path = write_sweep(tmp_path_factory.mktemp("undisturbed"), **REAL)
    done = run_tool("sweep.py", "-c", path, "--jobs", str(cores()))
    assert done.returncode == 0, done.stdout + done.stderr
    return bits(load_sweep(path))


def swept(sweep, nodes, *, collect, least):
    """The jobs of a sweep on the cluster, of whose nodes one is lost: its run, once it has so many lines; and those.

    Not the node that this process has joined the cluster by: that would be the loss of a driver.
    """
    connect(nodes.address)
    own = sys.modules["ray"].get_runtime_context().get_node_id()
    doomed = next(each for each in nodes.worker_nodes if each.node_id != own)
    executor, seen = Cluster(sweep, None, collect=collect), {}

    def lose():
        on_it = [job for job in pool.jobs if job.started and job.started.node_id == doomed.node_id]
        if on_it and not seen and len(record(on_it[0].run).splitlines()) >= least:
            seen["run"], seen["lines"] = on_it[0], len(record(on_it[0].run).splitlines())
            nodes.remove_node(doomed, allow_graceful=False)

    with executor.entered(sweep):
        pool = Pool(sweep.runs, executor)
        pool.work(lambda job: None, lose)
    return pool.jobs, seen["run"], seen["lines"]


def starts(run):
    return (run.config.folder / "console.log").read_text().splitlines()


@slow
@pytest.mark.parametrize("collect", [False, True])
def test_a_lost_node_loses_no_finished_run_and_its_run_goes_on_elsewhere(
    tmp_path, fake, quick_mark, start_nodes, collect
):
    sweep = load_sweep(write_sweep(tmp_path, "{seed: [0, 1, 2, 3]}"))
    fake("steps=100,seconds=0.2")
    jobs, lost, lines = swept(sweep, start_nodes(3), collect=collect, least=5)
    assert [job.state for job in jobs] == ["finished"] * 4
    assert lost.losses == 1 and lost.tries == 1 and "is gone" in lost.moves[0]
    assert [len(record(job.run).splitlines()) for job in jobs] == [100] * 4
    assert int(starts(lost.run)[-1].split()[-1]) >= lines - 1  # from its last checkpoint
    assert len({record(job.run) for job in jobs}) == 1


@slow
@pytest.mark.parametrize("collect", [False, True])
def test_a_training_whose_node_is_lost_ends_with_the_same_bits(
    tmp_path, quick_mark, start_nodes, undisturbed, collect
):
    sweep = load_sweep(write_sweep(tmp_path, **REAL))
    jobs, lost, _ = swept(sweep, start_nodes(3), collect=collect, least=30)
    assert [(job.state, job.tries) for job in jobs] == [("finished", 1)] * 2 and lost.losses == 1
    assert any("continuing at step" in line for line in starts(lost.run))
    assert [name for name, content in bits(sweep).items() if content != undisturbed[name]] == []


@slow
def test_a_training_whose_driver_is_killed_ends_with_the_same_bits(tmp_path, start_nodes, undisturbed):
    path = write_sweep(tmp_path, **REAL)
    sweep, command = load_sweep(path), ("-c", path, "--executor", "ray", "--address", start_nodes(2).address)
    first = start_tool("sweep.py", *command)
    wait_until(lambda: all(len(record(run).splitlines()) > 30 for run in sweep.runs))
    first.kill()
    first.communicate()
    assert "stopped" in [state(run) for run in sweep.runs]
    again = run_tool("sweep.py", *command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [name for name, content in bits(sweep).items() if content != undisturbed[name]] == []


@slow
def test_a_driver_that_is_killed_and_started_again_goes_on(tmp_path, start_nodes):
    nodes = start_nodes(3)
    path = write_sweep(tmp_path, "{seed: [0, 1, 2, 3]}")
    command = [
        sys.executable, "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = {str(ROOT / 'tools' / 'sweep.py')!r}\n"
        "from pathlib import Path; import runpy; from engine.sweep import cluster\n"
        f"cluster.TRAIN = Path({str(FAKE)!r}); cluster.PASSED_ON = ('FAKE',)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')",
        "-c", str(path), "--executor", "ray", "--address", nodes.address,
    ]
    environment = {**os.environ, "FAKE": "steps=150,seconds=0.2"}
    runs = load_sweep(path).runs
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: sum(len(record(run).splitlines()) > 3 for run in runs) >= 3, 120)
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode == 2 and is_one_line(second.stderr) and f"process {first.pid} is at work" in second.stderr
    first.send_signal(signal.SIGKILL)
    first.communicate()
    begun = {run.name: len(record(run).splitlines()) for run in runs if state(run) == "stopped"}
    assert begun
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert [state(run) for run in runs] == ["finished"] * 4, again.stdout + again.stderr
    assert len({record(run) for run in runs}) == 1 and len(record(runs[0]).splitlines()) == 150
    for run in runs:  # none began anew, and none that was finished was touched
        assert int(starts(run)[-1].split()[-1]) >= begun.get(run.name, 0) - 1
        assert run.name in begun or len(starts(run)) == 1


@slow
def test_a_run_for_which_its_node_has_no_memory_fails_in_a_line(tmp_path, fake, quick_mark, start_nodes):
    with open("/proc/meminfo", encoding="utf-8") as file:
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    used, total = kilobytes["MemTotal"] - kilobytes["MemAvailable"], kilobytes["MemTotal"]
    full = {"memory_usage_threshold": (used + 1.5 * 2**20) / total, "memory_monitor_refresh_ms": 200}
    nodes = start_nodes(1, _system_config=full)
    sweep = load_sweep(write_sweep(tmp_path, "{seed: [0]}"))
    fake("steps=600,seconds=0.1,megabytes=100")  # each step's
    connect(nodes.address)
    executor = Cluster(sweep, None, collect=False)
    with executor.entered(sweep):
        pool = Pool(sweep.runs, executor)
        pool.work(lambda job: None, lambda: None)
    (job,) = pool.jobs
    assert job.state == "failed" and job.tries == 2
    assert "ran out of memory, and Ray ended it" in job.last_lines.splitlines()[-1]
