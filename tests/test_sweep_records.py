"""What tools/sweep.py refuses before it trains, and what it does with records that are damaged."""

import csv
import io
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import run_tool, write_sweep

from engine.errors import InputError
from engine.report.records import _axis_value
from engine.sweep.definition import load_sweep
from engine.sweep.folder import _cell, progress, write_results
from engine.sweep.pool import Job
from engine.sweep.view import View, show_plan

SESSION = {"started": "2026-01-01T00:00:00", "seconds": 1.0, "processes": 1}
RECORD = '{"kind": "eval", "epoch": 2, "step": 12, "top1_error": 0.25}\n'


@pytest.mark.parametrize("axes, more, words", [
    ("{norm: [bn], norm_groups: [2, 4]}", "  figures: [table_3]\n", "table_3 needs the axis model.norm_groups with 2"),
    ("{deformable_version: [1, 2]}", "  figures: [figure_convolutions]\n", "figure_convolutions needs the axis"),
    ("[{norm_groups: [2, 4], norm_channels_per_group: [2]}]", "  figures: [table_3]\n", "table_3 needs the axis"),
    (f"{{base_lr: {[0.001 * n for n in range(1, 123)]}}}", "  figures: [figure_4]\n", "figure_4 can show 120 settings"),
    (f"{{pretrained: [{'a' * 300}, b]}}", "", "is too long a name for a run's folder"),
])
def test_what_no_figure_can_show_is_refused_when_the_sweep_is_loaded(tmp_path, axes, more, words):
    with pytest.raises(InputError, match=words) as raised:
        load_sweep(write_sweep(tmp_path, axes, more))
    assert str(raised.value).isprintable()


def test_what_a_figure_can_show_is_taken(tmp_path):
    for axes, figure in (
        ("{norm: [bn, gn], norm_groups: [2, 4]}", "table_3"),
        ("{deformable_version: [1, 2], deformable_stages: [[c5]]}", "figure_convolutions"),
        (f"{{base_lr: {[0.001 * n for n in range(1, 61)]}, seed: [0, 1, 2]}}", "figure_4"),
    ):
        load_sweep(write_sweep(tmp_path, axes, f"  figures: [{figure}]\n"))


def test_a_dry_run_refuses_it_too(tmp_path):
    path = write_sweep(tmp_path, "{norm: [bn], norm_groups: [2, 4]}", "  figures: [table_3]\n")
    done = run_tool("sweep.py", "-c", path, "--dry-run")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {path}: sweep.figures: table_3")


@pytest.fixture
def begun(tmp_path):
    """A sweep of two runs whose folder is there, the first of them finished, without any training."""
    sweep = load_sweep(write_sweep(tmp_path, "{norm: [bn, gn]}"))
    folder = sweep.runs[0].config.folder
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(sweep.runs[0].config.to_yaml())
    errors = dict.fromkeys(("top1_error_median_last_5", "top1_error_last", "top1_error_best"), 0.25)
    numbers = dict.fromkeys(("workers", "images_per_worker", "images_per_step", "seed", "parameters"), 4)
    (folder / "result.json").write_text(json.dumps({
        "name": "x", **errors, **numbers, "best_epoch": 2, "epochs": 2, "steps": 12, "norm": "bn", "protocol": "paper",
        "lr": 0.1, "evaluation_statistics": "first", "multiply_adds": 5, "train_seconds": 1.5}))
    (folder / "metrics.jsonl").write_text(RECORD)
    return sweep


@pytest.mark.parametrize("file, content", [
    ("result.json", '{"top1_error_last": "low"}'), ("result.json", "{"), ("result.json", "[]"), ("result.json", "\xff"),
    ("../sessions.jsonl", "3\n"), ("../sessions.jsonl", "{}\n"), ("../sessions.jsonl", '{"started": '),
    ("../sessions.jsonl", '{"started": 5, "seconds": 1, "processes": 1}\n'), ("../sessions.jsonl", "\xff"),
])
def test_damaged_records_stop_a_sweep_in_one_line_and_stay(begun, file, content):
    path = (begun.runs[0].config.folder / file).resolve()
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as raised:
        write_results(begun, SESSION)
    assert str(path) in str(raised.value) and str(raised.value).isprintable()
    assert path.read_text(encoding="latin-1") == content


def test_a_session_is_written_over_its_own_line_only(begun):
    path = begun.folder / "sessions.jsonl"
    other = '{"started": "2025-01-01T00:00:00", "seconds": 1, "processes": 1, "arguments": ["\\ud800 \\n"]}'
    path.write_text(other + "\n")
    for seconds in (1.0, 2.0):
        write_results(begun, SESSION | {"seconds": seconds})
    assert path.read_text() == f"{other}\n{json.dumps(SESSION | {'seconds': 2.0})}\n"


def test_the_last_line_that_a_kill_cut_off_is_no_damage(begun):
    run = begun.runs[0]
    path = run.config.folder / "metrics.jsonl"
    path.write_text(RECORD + '{"kind": "train", "epo')
    assert progress(run) == {"epoch": 2, "step": 12, "top1_error": 0.25}
    for damaged in ('{"kind": "eval", "epoch": "x", "step": 12, "top1_error": 0.25}\n', '{"kind" 5}\n'):
        path.write_text(damaged)
        with pytest.raises(InputError, match="metrics.jsonl: "):
            progress(run)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1 two", "-x", "\tx", "\rx", "5", "null", '"', "a,b", "猫", "é"])
def test_a_text_in_results_csv_is_no_formula_and_comes_back(text):
    cell = _cell(text)
    assert cell[0] not in "=+-@\t\r"
    written = io.StringIO()
    csv.writer(written).writerow([cell])
    (row,) = csv.reader(io.StringIO(written.getvalue(), newline=""))
    assert _axis_value("pretrained", row[0], {}) == (text if text.isprintable() else ascii(text)[1:-1])


def test_a_runs_name_is_no_markup(begun, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    runs = [replace(run, name="[red]x[/nothing]") for run in begun.runs]
    plans = {"[red]x[/nothing]": SimpleNamespace(steps=12, work=48, seconds=1.0)}
    show_plan(begun, runs, plans, {"[red]x[/nothing]": "waiting"}, 1)
    assert "[red]x[/nothing]" in capsys.readouterr().out
    with View(begun, [Job(runs[0], "waiting")], plans) as view:
        view.console.print(view._draw())
    assert "[red]x[/nothing]" in capsys.readouterr().out
