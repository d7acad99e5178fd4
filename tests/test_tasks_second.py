"""A second task of the tests' own goes through every tool: nothing in engine knows it, nor its network or its data."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, picture

from engine.run import checkpoint

TASK = """
device: cpu
model: {name: brightness}
data: {name: brightness}
batch: {images_per_worker: 4, workers: 2}
optimizer: {base_lr: 0.02, reference_images_per_step: null}
schedule: {epochs: 3, milestones: []}
reading: {evaluation_images: 10}
record: {every_steps: 2, sample_images: 2, histograms: false}
"""
TOOLS = """
import contextlib, io, json, runpy, sys
import paddle
for tool, *arguments in json.load(sys.stdin):
    sys.argv, printed, status = [tool, *arguments], io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        printed.reconfigure = sys.stdout.reconfigure if hasattr(sys.stdout, "reconfigure") else lambda **more: None
        try:
            with paddle.utils.unique_name.guard():
                runpy.run_path(tool, run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
    from engine.run import locks
    while locks._claimed:
        locks._claimed.popitem()[1].close()
    sys.__stdout__.write(json.dumps([tool, status, printed.getvalue()]) + "\\n")
"""


def python(code, folder, stdin=None):
    """A Python that knows the second task."""
    path = os.pathsep.join([str(ROOT / "tests" / "second"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *code], cwd=folder, input=stdin, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("second")
    (folder / "one.yaml").write_text(TASK)
    (folder / "pictures").mkdir()
    picture(8, 8).save(folder / "pictures" / "a.png")
    return folder


@pytest.fixture(scope="module")
def said(workplace):
    """What each command said, in order: [(tool, status, what was printed)]."""
    tool = {name: str(ROOT / "tools" / f"{name}.py") for name in (
        "train", "eval", "infer", "export_model", "check_data"
    )}
    run = "output/one/config.yaml"
    commands = [
        [tool["check_data"], "-c", "one.yaml", "--json"],
        [tool["train"], "-c", "one.yaml", "-o", "expect={r2_above: 0.1}", "--check"],
        [tool["train"], "-c", "one.yaml", "-o", "name=cut", "schedule.epochs=1"],
        [tool["train"], "-c", "one.yaml", "-o", "name=cut", "-r", "auto"],
        [tool["eval"], "-c", run, "--json"],
        [tool["infer"], "-c", run, "pictures"],
        [tool["export_model"], "-c", run],
        [tool["eval"], "-c", run, "--confusion", "x.png"],
    ]
    lines = python(["-c", TOOLS], workplace, json.dumps(commands)).splitlines()
    return [json.loads(line) for line in lines if line.startswith("[")]


def test_each_command_comes_to_its_end(said):
    assert [status for _, status, _ in said] == [0] * 7 + [2], said
    assert "nothing to confuse" in said[-1][2]


def test_the_score_rises_and_chooses_the_best(workplace, said):
    folder = workplace / "output" / "one"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = [line["r2"] for line in lines if line["kind"] == "eval"]
    assert scores[0] < scores[-1] and len(scores) == 3
    result = json.loads((folder / "result.json").read_text())
    assert result["r2_best"] == max(scores) and result["r2_last"] == scores[-1]
    assert result["as_expected"] and result["norm"] is None
    assert "coefficient of determination" in said[1][2] and "%" not in said[1][2].splitlines()[-4]
    assert not [key for key in result if "top1" in key]


def test_it_goes_on_to_the_same_bytes(workplace, said):
    whole, cut = workplace / "output" / "one", workplace / "output" / "cut"
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
    for name in ("latest.pdparams", "best.pdparams"):
        first, second = checkpoint.read(whole / name), checkpoint.read(cut / name)
        assert all((first[key] == second[key]).all() for key in {**first, **second})


def test_it_is_evaluated_and_answers(workplace, said):
    numbers = json.loads(said[4][2])
    result = json.loads((workplace / "output" / "one" / "result.json").read_text())
    assert numbers["r2"] == result["r2_best"] and (numbers["images"], numbers["pairs"]) == (24, 24)
    assert re.search(r"a\.png: -?\d\.\d{3}", said[5][2])
    assert (workplace / "output" / "one" / "export" / "inference.pdiparams").exists()
    assert json.loads(said[0][2])["classes"] == []


def test_it_is_swept_and_reported(workplace):
    sweep = "_BASE_: one.yaml\nname: swept\nschedule: {epochs: 2}\nsweep:\n"
    sweep += "  axes: {images_per_worker: [4, 2], seed: [0]}\n  figures: [figure_1, figure_5, table_2]\n"
    (workplace / "swept.yaml").write_text(sweep)
    printed = python([ROOT / "tools" / "sweep.py", "-c", "swept.yaml", "--jobs", "2"], workplace)
    folder = workplace / "output" / "swept"
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [row["state"] for row in rows] == ["finished"] * 2 and float(rows[0]["r2_last"]) > -10
    report = (folder / "report.md").read_text()
    assert "coefficient of determination" in report and "top-1" not in report and "error" not in printed.lower()
    for figure in ("figure_1.png", "figure_5.svg"):
        assert (folder / figure).exists()
