"""A sweep on a Ray cluster, of several nodes on this machine; and what such a sweep asks of any executor."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT, is_one_line, run_tool, write_sweep

from engine.environment import cores
from engine.errors import InputError
from engine.run import checkpoint
from engine.run.checkpoint import ENDINGS
from engine.sweep import cluster, driver, node, processes
from engine.sweep.cluster import Cluster, Need, connect, need_of
from engine.sweep.collecting import bring_home
from engine.sweep.definition import load_sweep
from engine.sweep.executors import open_executor
from engine.sweep.folder import state
from engine.sweep.node import News, Order, Place
from engine.sweep.pool import Pool
from engine.sweep.processes import Processes, make_slots

FAKE = ROOT / "tests" / "fake_trainer.py"
slow = pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes a minute: set SLOW_TESTS=1")


@pytest.fixture
def fake(monkeypatch):
    """Runs are processed by the stand-in; fake("steps=3,exit=1") tells it how."""
    for module in (cluster, processes):
        monkeypatch.setattr(module, "TRAIN", FAKE)
    monkeypatch.setattr(cluster, "PASSED_ON", ("FAKE",))
    return lambda told: monkeypatch.setenv("FAKE", told)


@pytest.fixture(scope="module")
def start_nodes():
    """start_nodes(3, **of_each) makes a cluster of nodes with one core each, one at a time."""
    reason = "Ray is not installed (pip install -r requirements-cluster.txt): NO SWEEP ON A CLUSTER IS TESTED"
    pytest.importorskip("ray.cluster_utils", reason=reason)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
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


def order(folder, tmp_path, **more):
    return Order(str(ROOT), (str(FAKE),), str(tmp_path), str(folder), {"FAKE": "steps=4,seconds=0.05"}, "console.log",
                 **more)


def end_of(place, known, home):
    """Look until the run has ended, bringing home what there is."""
    brought = 0
    while True:
        news = place.look(known)
        if news.there is not None:
            bring_home(home, known, news)
            known, brought = news.there, brought + 1
        if news.status is not None:
            return news.status, brought


def test_a_run_on_a_node_comes_home_at_checkpoints_and_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "LOOK_SECONDS", 0.02)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(node.tempfile, "tempdir", None)
    home = tmp_path / "home"
    home.mkdir()
    place = Place()
    known = place.start(order("sweep/run", tmp_path, config="name: x\n", files={})).there
    status, brought = end_of(place, known, home)
    assert status == 0 and brought >= 2
    lines = (home / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4 and (home / "result.json").exists() and (home / "latest.pdstates").read_text() == "4"
    assert not (home / "config.yaml").exists()  # the one at home stays as it is
    (home / "result.json").unlink()
    (home / "latest.pdstates").write_text("2")  # as if the driver had been killed before it brought the rest
    place = Place()
    status, _ = end_of(place, place.start(order("sweep/run", tmp_path, config="", files=node.read_folder(home))).there,
                       home)
    assert status == 0 and (home / "metrics.jsonl").read_text().splitlines() == lines
    assert "from step 2" in (home / "console.log").read_text()
    left = tmp_path / f"sweep-{node.socket.gethostname()}-999999999-x"  # by a process that is no more
    other = tmp_path / f"sweep-{node.socket.gethostname()}-report-x"
    left.mkdir()
    other.mkdir()
    place._tidy()
    assert [path.name for path in tmp_path.glob("sweep-*")] == [other.name]


def test_a_checkpoint_that_is_being_written_is_not_brought_home(tmp_path):
    place = Place()
    place.folder = place.scratch = tmp_path
    for ending in ENDINGS:
        (tmp_path / f"latest{ending}").write_text("1")
    (tmp_path / "latest.pdparams.new").write_text("2")
    (tmp_path / "metrics.jsonl").write_text("{}")

    def wait(seconds):
        raise subprocess.TimeoutExpired("", 0)

    place.child = SimpleNamespace(wait=wait)
    assert place.look({}) == News(None)
    place.child.wait = lambda seconds: -9
    known = {"latest.pdstates": (0, 0, 0)}
    news = place.look(known)
    assert news.status == -9 and list(news.contents) == ["metrics.jsonl"]
    assert news.there["latest.pdstates"] == known["latest.pdstates"]  # what is home of it stays there


@pytest.mark.parametrize("refused", range(16))
def test_a_driver_killed_while_it_brings_a_run_home_leaves_a_whole_checkpoint(tmp_path, monkeypatch, refused):
    """At any of the moments at which a file takes its place."""
    home, ending = tmp_path / "home", b"of the second step"
    home.mkdir()
    for stem in ("latest", "best"):
        checkpoint.save(home / stem, {name: b"of the first step" for name in ENDINGS})
    files = {f"{stem}{name}": ending for stem in ("latest", "best", "epoch_2") for name in ENDINGS}
    news = News(0, dict.fromkeys(files), {"result.json": b"{}", "vdl/records": b"", **files})
    replace, moments = os.replace, iter(range(100))

    def replaced(*paths):
        if next(moments) == refused:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(KeyboardInterrupt):
        bring_home(home, {}, news)
    monkeypatch.undo()
    for stem in ("latest", "best"):
        checkpoint.recover(home / stem)
        assert len({(home / f"{stem}{name}").read_bytes() for name in ENDINGS}) == 1
    assert not (home / "result.json").exists()
    bring_home(home, {"latest.pdema": None}, News(0, {}, {}))
    assert not (home / "latest.pdema").exists()


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


def swept(sweep, address, *, collect, during=lambda pool: None):
    """The jobs of a sweep that is run on the cluster in this process; `during` is called all the time."""
    connect(address)
    executor = Cluster(sweep, None, collect=collect)
    with executor.entered(sweep):
        pool = Pool(sweep.runs, executor)
        pool.work(lambda job: None, lambda: during(pool))
    return pool.jobs


@slow
@pytest.mark.parametrize("collect", [False, True])
def test_a_lost_node_loses_no_finished_run_and_its_run_goes_on_elsewhere(
    tmp_path, fake, quick_mark, start_nodes, collect
):
    nodes = start_nodes(2)
    sweep = load_sweep(write_sweep(tmp_path, "{seed: [0, 1, 2]}"))
    fake("steps=100,seconds=0.2")
    doomed = next(each for each in nodes.worker_nodes)
    seen = {}

    def during(pool):
        on_it = [job for job in pool.jobs if job.started and job.started.node_id == doomed.node_id]
        if on_it and not seen and len(record(on_it[0].run).splitlines()) >= 5:
            seen["run"], seen["steps"] = on_it[0], len(record(on_it[0].run).splitlines())
            nodes.remove_node(doomed, allow_graceful=False)

    jobs = swept(sweep, nodes.address, collect=collect, during=during)
    assert [job.state for job in jobs] == ["finished"] * 3
    assert seen["run"].losses == 1 and seen["run"].tries == 1
    assert [len(record(job.run).splitlines()) for job in jobs] == [100] * 3
    starts = [line for line in (seen["run"].run.config.folder / "console.log").read_text().splitlines()]
    assert int(starts[-1].split()[-1]) >= seen["steps"] - 1  # from its last checkpoint
    assert len({record(job.run) for job in jobs}) == 1


@slow
def test_a_driver_that_is_killed_and_started_again_goes_on(tmp_path, three_nodes):
    path = write_sweep(tmp_path, "{seed: [0, 1, 2, 3]}")
    command = [
        sys.executable, "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = {str(ROOT / 'tools' / 'sweep.py')!r}\n"
        "from pathlib import Path; import runpy; from engine.sweep import cluster\n"
        f"cluster.TRAIN = Path({str(FAKE)!r}); cluster.PASSED_ON = ('FAKE',)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')",
        "-c", str(path), "--executor", "ray", "--address", three_nodes.address,
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
        starts = (run.config.folder / "console.log").read_text().splitlines()
        assert int(starts[-1].split()[-1]) >= begun.get(run.name, 0) - 1
        assert run.name in begun or len(starts) == 1


@slow
def test_a_run_for_which_its_node_has_no_memory_fails_in_a_line(tmp_path, fake, quick_mark, start_nodes):
    with open("/proc/meminfo", encoding="utf-8") as file:
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    used, total = kilobytes["MemTotal"] - kilobytes["MemAvailable"], kilobytes["MemTotal"]
    full = {"memory_usage_threshold": (used + 1.5 * 2**20) / total, "memory_monitor_refresh_ms": 200}
    nodes = start_nodes(1, _system_config=full)
    sweep = load_sweep(write_sweep(tmp_path, "{seed: [0]}"))
    fake("steps=600,seconds=0.1,megabytes=100")  # each step's
    (job,) = swept(sweep, nodes.address, collect=False)
    assert job.state == "failed" and job.tries == 2
    assert "ran out of memory, and Ray ended it" in job.last_lines.splitlines()[-1]
