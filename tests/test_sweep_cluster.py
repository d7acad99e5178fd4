"""A sweep on a Ray cluster, of several nodes on this machine; and what such a sweep asks of any executor."""

import os
import time
from types import SimpleNamespace

import pytest
from conftest import run_tool, write_sweep

from engine.environment import cores
from engine.errors import InputError
from engine.sweep import cluster, driver
from engine.sweep.cluster import Cluster, Need, connect, need_of
from engine.sweep.definition import load_sweep
from engine.sweep.executors import open_executor
from engine.sweep.folder import state
from engine.sweep.processes import Processes, make_slots

slow = pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes a minute: set SLOW_TESTS=1")


@pytest.fixture(scope="module")
def start_nodes():
    """start_nodes(3, **of_each) makes a cluster of nodes with one core each, one at a time."""
    reason = "Ray is not installed (pip install -r requirements-cluster.txt): NO SWEEP ON A CLUSTER IS TESTED"
    pytest.importorskip("ray.cluster_utils", reason=reason)
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")  # else all others on this machine go first
    from ray.cluster_utils import Cluster as Nodes

    there = []

    def start(number, **of_each):
        small = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20, **of_each}
        while there:
            there.pop().shutdown()
        there.append(Nodes(initialize_head=True, head_node_args=small))
        del small["include_dashboard"]
        small.pop("_system_config", None)
        for _ in range(number - 1):
            there[0].add_node(**small)
        return there[0]

    yield start
    while there:
        there.pop().shutdown()


@pytest.fixture(scope="module")
def three_nodes(start_nodes):
    return start_nodes(3)


@pytest.fixture
def quick_mark(monkeypatch):
    monkeypatch.setattr(driver, "SETTLE_SECONDS", 0.1)


def wait_until(holds, seconds=120):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def record(run):
    path = run.config.folder / "metrics.jsonl"
    return path.read_text() if path.exists() else ""


# What needs no Ray


def test_options_that_do_not_fit_are_one_line(small, monkeypatch):
    sweep = load_sweep(small)

    def opened(kind="ray", **options):
        options = {"jobs": None, "devices": None, "address": None, "collect": False} | options
        return open_executor(kind, sweep, **options)

    for options, words in [
        ({"kind": "local", "address": "auto"}, "--address: is for --executor ray"),
        ({"kind": "local", "collect": True}, "--collect: is for --executor ray"),
        ({"devices": ["0"]}, "--devices 0: with --executor ray"), ({"jobs": 0}, "--jobs 0: expected 1 or more"),
    ]:
        with pytest.raises(InputError, match=words):
            opened(**options)
    monkeypatch.setattr(cluster, "ray", None)
    with pytest.raises(InputError, match="Ray is not installed; pip install -r requirements-cluster.txt"):
        opened()
    monkeypatch.setattr(cluster, "ray", SimpleNamespace())
    for address, words in [
        ("here", "expected auto or HOST:PORT"), ("ray://here:10001", "expected auto or HOST:PORT"),
        ("127.0.0.1:1", "nobody answers there"), ("127.0.0.1:99999999", "nobody answers there"),
        ("node..local:6379", "nobody answers there"), (".local:6379", "nobody answers there"),
        ("a" * 64 + ":6379", "nobody answers there"), ("here:" + "9" * 5000, "expected auto or HOST:PORT"),
    ]:
        with pytest.raises(InputError, match=words):
            opened(address=address)


def test_what_a_run_takes_of_a_node():
    def need(devices, jobs, *nodes, device="auto"):
        return need_of(devices, jobs, [dict(zip(("CPU", "GPU"), node, strict=True)) for node in nodes], device)

    assert need(1, None, (4, 0), (2, 0)) == Need(0, 1)
    assert need(1, 3, (4, 0), (2, 0)) == Need(0, 2)  # three at a time: two threads each
    assert need(2, None, (4, 0), (3, 0)) == Need(0, 2)  # a run's processes stay on one node
    assert need(1, None, (16, 4), (8, 0)) == Need(1, 4)
    assert need(2, None, (16, 4)) == Need(2, 8)
    assert need(1, None, (16, 4), device="cpu") == Need(0, 1)
    assert need(1, 100, (2, 0)) == Need(0, 1)
    for devices, nodes, device, words in [
        (4, [(8, 2), (8, 2)], "auto", "takes 4 GPUs and as many cores"), (4, [(2, 0)], "auto", "takes 4 cores"),
        (1, [(2, 0)], "gpu", "no node of the cluster has one"), (1, [], "auto", "takes 1 cores"),
    ]:
        with pytest.raises(InputError, match=words):
            need(devices, None, *nodes, device=device)


# What both executors do


@pytest.fixture(params=["local", "ray"])
def executor(request, small, fake, quick_mark):
    """(an executor with its sweep's folder entered, the sweep)"""
    sweep = load_sweep(small)
    if request.param == "local":
        made = Processes(make_slots(sweep, 2, None))
    else:
        connect(request.getfixturevalue("three_nodes").address)
        made = Cluster(sweep, 2, collect=False)
    with made.entered(sweep):
        for run in sweep.runs:
            run.config.folder.mkdir(parents=True, exist_ok=True)
            (run.config.folder / "config.yaml").write_text(run.config.to_yaml())
        yield made, sweep


def test_any_executor_starts_polls_and_stops(executor, fake):
    executor, sweep = executor
    first, second = sweep.runs[:2]

    def started(run, told):
        fake(told)
        wait_until(lambda: executor.look(1) or executor.has_room())
        return executor.start(run)

    def end_of(*handles):
        ends, left = [], list(handles)
        while left:
            wait_until(lambda: ends.append(executor.poll(left[0])) or ends[-1])
            left.pop(0)
        return [end.status for end in ends if end]

    assert end_of(started(first, "steps=2"), started(second, "steps=2,exit=3")) == [0, 3]
    assert state(first) == "finished" and state(second) == "stopped"
    third, fourth = sweep.runs[2:4]
    handles = [started(third, "steps=200,seconds=0.1"), started(fourth, "steps=200,seconds=0.1")]
    assert not executor.has_room()
    wait_until(lambda: record(third) and record(fourth))
    executor.stop(handles)
    saved = [(run.config.folder / "latest.pdstates").read_text() for run in (third, fourth)]
    assert [len(record(run).splitlines()) for run in (third, fourth)] == list(map(int, saved))
    assert end_of(started(third, "steps=200")) == [0]  # what was stopped goes on, and its place was free again
    assert f"from step {saved[0]}" in (third.config.folder / "console.log").read_text()


# On a Ray cluster


def bits(folder):
    """What must not depend on where the runs of a sweep were trained."""
    names = ("metrics.jsonl", "latest.pdparams", "best.pdparams", "epoch_2.pdopt")
    return {path.relative_to(folder): path.read_bytes() for name in names for path in folder.glob(f"*/{name}")}


@pytest.fixture(scope="module")
def at_home(three_nodes, tmp_path_factory):
    """The bits of a sweep of three runs on this machine, with a thread each as on nodes of one core."""
    folder = tmp_path_factory.mktemp("at_home")
    done = run_tool("sweep.py", "-c", write_sweep(folder, "{norm: [bn, gn, ln]}"), "--jobs", str(cores()))
    assert done.returncode == 0, done.stdout + done.stderr
    return bits(folder / "output" / "small")


@pytest.mark.ci
@pytest.mark.parametrize("how", [[], ["--collect"]], ids=["shared", "collected"])
def test_a_sweep_on_three_nodes_is_the_one_at_home(tmp_path, how, three_nodes, at_home):
    path, folder = write_sweep(tmp_path, "{norm: [bn, gn, ln]}"), tmp_path / "output" / "small"
    done = run_tool("sweep.py", "-c", path, "--executor", "ray", *how, "--address", three_nodes.address)
    assert done.returncode == 0, done.stdout + done.stderr
    there = bits(folder)
    assert len(at_home) == 12 and there.keys() == at_home.keys()
    assert [name for name in at_home if there[name] != at_home[name]] == []
    for run in load_sweep(path).runs:
        assert (run.config.folder / "config.yaml").read_text() == run.config.to_yaml()
    assert not (folder / driver.DRIVER_FILE).exists()
