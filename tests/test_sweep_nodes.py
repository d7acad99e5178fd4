"""What a sweep has on a node of a cluster, and what becomes of nodes that cannot run it. None of this needs Ray."""

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import FAKE, ROOT, write_sweep
from test_sweep_cluster import quick_mark  # noqa: F401  a fixture
from test_sweep_many import RESULT

from data import DataError
from engine.errors import InputError
from engine.run import checkpoint
from engine.run.checkpoint import ENDINGS
from engine.sweep import cluster, node, pool
from engine.sweep.cluster import Cluster
from engine.sweep.collecting import bring_home
from engine.sweep.definition import load_sweep
from engine.sweep.node import News, Order, Place
from engine.sweep.plan import make_plans
from engine.sweep.session import work_off


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
    assert list(tmp_path.glob("sweep-*"))  # until the driver says that all is home
    place.tidy()
    assert not list(tmp_path.glob("sweep-*"))
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
    place.tidy()
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


def test_no_link_or_pipe_in_a_run_folder_is_followed_or_waited_for(tmp_path):
    """On the node, of a folder on a shared disk; and on the way there, of one that is collected."""
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run.mkdir()
    kinds = [lambda path: path.symlink_to(victim), os.mkfifo, os.mkdir]
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)  # a pipe would be waited for
    for name, make in itertools.product((".lock", "console.log"), kinds):
        make(run / name)
        with pytest.raises(DataError, match=f"{name}: is a link, a pipe or a folder"):
            Place().start(order(run, tmp_path))
        (run / name).rmdir() if (run / name).is_dir() else (run / name).unlink()
    signal.alarm(0)
    (run / "link").symlink_to(victim)
    (run / "folder").symlink_to(tmp_path)
    os.mkfifo(run / "pipe")
    (run / "train.log").write_text("own")
    assert node.read_folder(run) == {"train.log": b"own"}
    assert victim.read_text() == "precious"


# What becomes of nodes


class Ray:
    """As much of Ray as engine.sweep.cluster uses: nodes of one core, each with what it answers to an order."""

    class exceptions:
        class RayTaskError(Exception):
            def __init__(self, cause):
                self.cause = cause

        class RayActorError(Exception):
            pass

        class OutOfMemoryError(Exception):
            pass

        class ActorUnavailableError(RayActorError):
            pass

    def __init__(self, answers):
        self.answers, self.taken = answers, set()
        self.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)
        self.util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.1")

    def nodes(self):
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in self.answers]

    def remote(self, **resources):
        return lambda kind: SimpleNamespace(remote=self.actor)

    def actor(self):
        free = next((name for name in self.answers if name not in self.taken), None)
        self.taken.add(free)
        methods = {"where": lambda: (free, free), "stop": lambda: None, "tidy": lambda: None}
        methods |= {name: lambda *given, name=name: self.answers[free](name, *given) for name in ("start", "look")}
        calls = {name: lambda *given, call=call: (free, call, given) for name, call in methods.items()}
        return SimpleNamespace(node=free, **{name: SimpleNamespace(remote=call) for name, call in calls.items()})

    def get(self, reference):
        _, call, given = reference
        try:
            return call(*given)
        except Exception as error:
            raise self.exceptions.RayTaskError(error) from None

    def wait(self, references, timeout):
        return [each for each in references if each[0]], []

    def kill(self, actor):
        self.taken.discard(actor.node)

    def shutdown(self):
        pass


def sound(asked, given):
    """A node on which every run comes to its end at once."""
    if asked == "start":
        sound.folder = given.folder
        return News(None)
    (Path(sound.folder) / "result.json").write_text(json.dumps(RESULT))
    return News(0)


def broken(error, at="start"):
    def answer(asked, given):
        if asked == at:
            raise error
        return News(None)

    return answer


def worked_off(tmp_path, monkeypatch, runs, **answers):
    """The jobs of a sweep over such nodes, and what was said of it."""
    monkeypatch.setattr(cluster, "ray", Ray(answers))
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0)
    monkeypatch.setattr(pool, "SECONDS_BETWEEN_LOOKS", 0.01)
    sweep = load_sweep(write_sweep(tmp_path, f"{{seed: {list(range(runs))}}}"))
    jobs = work_off(sweep, sweep.runs, make_plans(sweep, sweep.runs), Cluster(sweep, None, collect=False))
    return jobs, (sweep.folder / "sweep.log").read_text()


@pytest.mark.parametrize("answer, said", [
    (broken(FileNotFoundError("/work: no such folder")), "/work: no such folder"),
    (broken(OSError(28, "No space left on device")), "No space left on device"),
    (broken(ModuleNotFoundError("No module named 'numpy'")), "No module named 'numpy'"),
    (broken(KeyError(), at="look"), "KeyError"),
])
def test_a_node_that_cannot_run_anything_is_no_fault_of_the_runs(tmp_path, monkeypatch, quick_mark, answer, said):  # noqa: F811
    jobs, log = worked_off(tmp_path, monkeypatch, 12, good=sound, bad=answer, worse=answer)
    assert [(job.state, job.tries, job.losses) for job in jobs] == [("finished", 1, 0)] * 12
    moved = [line for line in log.splitlines() if "moved" in line]
    assert len(moved) == 2 and all("is given no more runs (" in line and said in line for line in moved)


def test_where_no_node_is_left_the_sweep_ends_in_a_line(tmp_path, monkeypatch, quick_mark):  # noqa: F811
    missing = broken(FileNotFoundError("/work: no such folder"))
    with pytest.raises(InputError, match="no node is left that can run anything; bad: /work: no such folder"):
        worked_off(tmp_path, monkeypatch, 3, bad=missing, worse=missing)


def test_what_is_wrong_with_the_folder_of_a_run_is_its_own(tmp_path, monkeypatch, quick_mark):  # noqa: F811
    def answer(asked, given):
        if asked == "start" and "seed=1" in given.folder:
            raise DataError("console.log: is a link")
        return sound(asked, given)

    jobs, _ = worked_off(tmp_path, monkeypatch, 3, good=answer)
    assert [job.state for job in jobs] == ["finished", "failed", "finished"]
    assert jobs[1].tries == 2 and "console.log: is a link" in jobs[1].last_lines
