"""What tools/sweep.py refuses before it trains, and what it does with records that are damaged."""

import csv
import io
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import write_sweep

from engine.config import Section
from engine.config.yaml_text import write_yaml
from engine.errors import InputError
from engine.report.records import _axis_value
from engine.run.measure import TOP1_ERROR, Measure
from engine.sweep import definition
from engine.sweep.definition import load_sweep
from engine.sweep.folder import _cell, description, how_far, open_sweep_folder, write_results
from engine.sweep.folder import row as row_of
from engine.sweep.pool import Job
from engine.sweep.view import SweepView, show_plan

SESSION = {"started": "2026-01-01T00:00:00", "seconds": 1.0, "processes": 1}
RECORD = '{"kind": "eval", "epoch": 2, "step": 12, "top1_error": 0.25}\n'

R2 = Measure("r2", "R²", percent=False, lower_is_better=False)

@pytest.mark.parametrize("axes, more, words", [
    ("{norm: [bn], norm_groups: [2, 4]}", "  figures: [table_3]\n", "table_3 needs the axis model.norm_groups with 2"),
    ("{deformable_version: [1, 2]}", "  figures: [figure_convolutions]\n", "figure_convolutions needs the axis"),
    ("{norm: [bn, gn]}", "  figures: [figure_6]\n", "figure_6 needs record.responses, the same for all runs"),
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


def test_a_dry_run_refuses_it_too(tmp_path, run_here):
    path = write_sweep(tmp_path, "{norm: [bn], norm_groups: [2, 4]}", "  figures: [table_3]\n")
    done = run_here("sweep.py", "-c", path, "--dry-run")
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
    assert how_far(run) == {"epoch": 2, "step": 12, "top1_error": 0.25}
    for damaged in ('{"kind": "eval", "epoch": "x", "step": 12, "top1_error": 0.25}\n', '{"kind" 5}\n'):
        path.write_text(damaged)
        with pytest.raises(InputError, match="metrics.jsonl: "):
            how_far(run)


def test_a_sweep_from_before_there_were_measures_is_not_changed(begun):
    (begun.folder / "sweep.yaml").write_text(write_yaml(description(begun)))
    assert description(begun)["measure"]["name"] == "top1_error"
    older = {key: value for key, value in description(begun).items() if key != "measure"}
    (begun.folder / "sweep.yaml").write_text(write_yaml(older))
    assert open_sweep_folder(begun, {}) == []
    (begun.folder / "sweep.yaml").write_text(write_yaml({**older, "measure": R2._asdict()}))
    assert "changed: measure.name: r2 -> top1_error" in open_sweep_folder(begun, {})


def test_what_another_task_measures_is_in_results_csv_and_on_the_screen(begun, monkeypatch, capsys):
    run, more = begun.runs[0], Measure("seconds_off", "seconds off", percent=False)
    monkeypatch.setattr(definition, "task_of", lambda name: SimpleNamespace(measures=(R2, more)))
    path = run.config.folder / "result.json"
    result = json.loads(path.read_text())
    errors = [key for key in result if key.startswith("top1_error")]
    result |= {key.replace("top1_error", name): result[key] * 2 for key in errors for name in ("r2", "seconds_off")}
    path.write_text(json.dumps({key: value for key, value in result.items() if key not in errors}))
    (run.config.folder / "metrics.jsonl").write_text(RECORD.replace("top1_error", "r2"))
    row = list(row_of(run, []).items())
    at = [key for key, _ in row].index("r2_median_last_5")
    assert row[at:at + 6] == [(f"{name}_{statistic}", 0.5) for name in ("r2", "seconds_off")
                              for statistic in ("median_last_5", "last", "best")]
    with SweepView(begun, [Job(run, "finished")], {run.name: SimpleNamespace(steps=12, work=48)}) as view:
        view.done(view.jobs[0])
        view.console.print(view._draw())
    shown = capsys.readouterr().out
    assert "R² 0.2500 (" in shown and "top-1" not in shown and "%" not in shown.replace("done %", "")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_network_without_norms_leaves_their_columns_empty(begun):
    class Meter(Section):
        name: str = "resnet"
        hidden: int = 8

    run = begun.runs[1]
    row = row_of(replace(run, config=run.config.model_copy(update={"model": Meter()})), [])
    names = ("norm", "norm_groups", "norm_channels_per_group", "evaluation_statistics")
    assert [row[name] for name in names] == [None] * 4


def test_a_sweep_over_two_tasks_is_refused():
    runs = [SimpleNamespace(name=name, measures=(measure,)) for name, measure in (("a", TOP1_ERROR), ("b", R2))]
    definition._check_measures(runs[:1] * 2, "x.yaml")
    with pytest.raises(InputError, match="^x.yaml: a is measured by top1_error and b is measured by r2; a sweep"):
        definition._check_measures(runs, "x.yaml")


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
    with SweepView(begun, [Job(runs[0], "waiting")], plans) as view:
        view.console.print(view._draw())
    assert "[red]x[/nothing]" in capsys.readouterr().out
