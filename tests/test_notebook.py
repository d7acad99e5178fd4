"""Training from a notebook's cell: a command as a process that is shown, interrupted, continued, or fails in a line."""

import csv
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT, TINY, write_sweep
from IPython.display import Image
from matplotlib.figure import Figure

from engine import notebook
from engine.config import load_config
from engine.notebook import Failed
from engine.run.locks import is_claimed
from engine.run.measure import Measure


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: (content, options) each time."""
    calls = []
    monkeypatch.setattr(notebook, "display", lambda content, **options: calls.append((content, options)))
    monkeypatch.setattr(notebook, "SECONDS_BETWEEN_LOOKS", 0.05)
    return calls


def evaluations(folder):
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record["epoch"] for record in records if record["kind"] == "eval"]


def test_an_interrupted_cell_saves_and_the_same_cell_goes_on(tiny, shown, monkeypatch, capsys):
    look = notebook.LiveCurves.look

    def interrupted(view):
        look(view)
        if view.bar.n:
            monkeypatch.setattr(notebook.LiveCurves, "look", look)
            raise KeyboardInterrupt

    monkeypatch.setattr(notebook.LiveCurves, "look", interrupted)
    with pytest.raises(Failed, match="^interrupted; run the cell again to go on$"):
        notebook.train(tiny, "schedule.epochs=5000")  # it cannot be over before it is interrupted
    folder = tiny.parent / "output" / "tiny"
    saved = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert 0 < saved < 6 * 5000
    assert (folder / "latest.pdparams").exists(), "the command was not given the time to save"

    shown.clear()
    epochs = saved // 6 + 2
    assert notebook.train(tiny, f"schedule.epochs={epochs}") == folder
    assert evaluations(folder) == list(range(1, epochs + 1))
    assert "continuing at step" in (folder / "train.log").read_text()
    assert "top-1 error" in capsys.readouterr().out
    contents, options = zip(*shown, strict=True)
    assert all(isinstance(content, Image) and content.data.startswith(b"\x89PNG") for content in contents)
    assert [option["update"] for option in options] == [False] + [True] * (len(options) - 1), "not drawn in its place"
    assert len({option["display_id"] for option in options}) == 1 < len(options)

    record = (folder / "metrics.jsonl").read_bytes()
    assert notebook.train(tiny, f"schedule.epochs={epochs}") == folder
    assert (folder / "metrics.jsonl").read_bytes() == record, "a finished run was touched"

    with pytest.raises(Failed, match=r"^error: .*its run has seed: 0, this config 1; choose -o name=\.\.\.$"):
        notebook.train(tiny, f"schedule.epochs={epochs}", "seed=1")


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells a process there that its parent is gone")
def test_a_killed_kernel_leaves_no_training_behind(tiny):
    code = f"from engine import notebook; notebook.train({str(tiny)!r}, 'schedule.epochs=5000')"
    kernel = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    folder, until = tiny.parent / "output" / "tiny", time.monotonic() + 60
    try:
        while not (folder / "latest.pdstates").exists():
            assert kernel.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        assert is_claimed(folder)
    finally:
        kernel.kill()
        kernel.wait()
    while is_claimed(folder):
        assert time.monotonic() < until, "it trains on"
        time.sleep(0.05)


def test_a_sweep(tmp_path, shown, capsys):
    path = write_sweep(tmp_path, "{norm: [bn, gn]}")
    folder = notebook.sweep(path, "schedule.epochs=1")
    assert folder == tmp_path / "output" / "small"
    with open(folder / "results.csv", newline="") as file:
        assert {row["run"]: row["state"] for row in csv.DictReader(file)} == {
            "norm=bn": "finished",
            "norm=gn": "finished",
        }
    assert (folder / "report.html").exists()
    assert "top-1 error in percent" in capsys.readouterr().out
    assert len(shown) > 1


def test_what_the_config_gets_wrong_is_one_line_before_anything_starts(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(notebook.subprocess, "Popen", None)
    for call, words in (
        (lambda: notebook.train(tiny, "model.nrom=bn"), "did you mean norm?"),
        (lambda: notebook.train(tmp_path / "none.yaml"), "none.yaml: no such file"),
        (lambda: notebook.train(tiny, "data.classes=0"), "classes is 0"),
        (lambda: notebook.sweep(write_sweep(tmp_path), "model.norm=gn"), "is an axis of this sweep"),
    ):
        with pytest.raises(Failed) as raised:
            call()
        (line,) = raised.value._render_traceback_()
        assert line.startswith("error: ") and words in line and "\n" not in line


def test_any_command(tmp_path, capfd):
    tool = tmp_path / "tool.py"
    tool.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(sys.argv[1] == 'bad' and 'error: too bad')\n")
    notebook.run(tool, "-c", tmp_path)
    assert capfd.readouterr().out == f"['-c', '{tmp_path}']\n"
    with pytest.raises(Failed, match="^error: too bad$"):
        notebook.run(tool, "bad")
    assert capfd.readouterr().out == "['bad']\n", "the error is to be shown once"
    tool.write_text("print('before')\n1 / 0\n")
    with pytest.raises(Failed, match="ended with status 1"):
        notebook.run(tool)
    assert "ZeroDivisionError" in capfd.readouterr().out, "a bug keeps its traceback"


@pytest.mark.parametrize("trained, legend", [
    (True, "validation (thin: training)"), (False, "validation (training tells no R²)"),
])
def test_curves_of_another_task(tmp_path, monkeypatch, trained, legend):
    """Of what rises and is no percentage; where training does not tell it, of validation alone."""
    measure, saved = Measure("r2", "R²", percent=False, lower_is_better=False), []
    monkeypatch.setattr(notebook, "task_of", lambda name: SimpleNamespace(measures=(measure,)))
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: saved.append(figure))
    (tmp_path / "tiny.yaml").write_text(TINY)
    run = notebook.WatchedRun("tiny", load_config(tmp_path / "tiny.yaml"), 20)
    told = {"r2": 0.5} if trained else {}
    records = [{"kind": "train", "epoch": 1, "step": 10, **told}, {"kind": "eval", "epoch": 1, "step": 10, "r2": 0.75}]
    notebook.draw("tiny", [run], [records])
    (axes,) = saved[0].axes
    assert axes.get_ylabel() == "R²" and axes.get_legend().get_title().get_text() == legend
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5] if trained else [], [0.75]]
