"""The page of a report: its tables, what it says of the runs, and what it refuses."""

import base64
import json
import math
import re
import shutil
import subprocess
import sys

import pytest
from conftest import run_tool
from sweep_folders import (
    CHANNELS,
    CONFIG,
    FIGURE_1_AXES,
    GROUPS,
    IMAGES,
    NORM,
    OTHER_COMMIT,
    RUNNING,
    drawn,
)

from engine.errors import InputError
from engine.report.drawings import DRAWINGS
from engine.report.page import results_text, write_report
from engine.report.results import read_sweep
from engine.report.words import recipe


def table_row(text, start):
    """The cells of the first line of a Markdown table that begins with `start`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_means_deviations_and_differences_are_those_of_the_results(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    write_report(folder)
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert table_row(text, "BN") == ["BN", "12.00 ± 2.00", "22.00 ± 2.65"]
    assert table_row(text, "*BN, the paper*")[1:] == ["*23.6*", "*34.7*"]
    assert table_row(text, "GN") == ["GN", "13.00 ± 2.65", "14.00 ± 1.73"]
    assert table_row(text, "GN − BN")[1:] == ["+1.00", "−8.00"]
    assert table_row(text, "*GN − BN, the paper*")[1:] == ["*+0.5*", "*−10.6*"]
    for cell in ("12.00 ± 2.00", "22.00 ± 2.65", "13.00 ± 2.65", "14.00 ± 1.73", "+1.00", "−8.00"):
        assert f">{cell}</td>" in page
    assert "over 3 seeds" in text and "8 workers" in text and "the mean of all workers’ running statistics" in text
    settings = text[text.index("## Settings"):]
    assert table_row(settings, "GN") == [
        "GN", "32", "8", "256", "0.1", "4", "1,250", "", "13.00 ± 2.65", "3 of 3", "1 min 41 s",
    ]
    assert "`norm=bn,images_per_worker=2,seed=1` | finished | 21.00 | 22.00 | 20.00 | 3 |" in text
    assert "Not complete" not in text


def test_the_statistic_is_the_one_that_the_sweep_names(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, statistic="last")
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert table_row(text, "BN") == ["BN", "13.00 ± 2.00", "23.00 ± 2.65"]
    assert "last evaluation" in text and "last 5 evaluations" not in text


def test_missing_seeds_and_failures_are_said(make_sweep):
    lost = {"norm=gn,images_per_worker=2,seed=1": "failed", **{
        f"norm=bn,images_per_worker=2,seed={seed}": "waiting" for seed in range(3)}}
    folder = make_sweep(FIGURE_1_AXES, states=lost)
    write_report(folder)
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert table_row(text, "GN")[2] == "14.50 ± 2.12 (2 of 3)"  # 13 and 16
    assert table_row(text, "BN")[2] == "– (0 of 3)"
    assert table_row(text, "GN − BN")[1:] == ["+1.00", "–"]
    assert "Of 12 runs 8 finished, 1 failed and 3 waiting." in text
    assert "GN, 2 images per worker has 2 of 3 seeds" in text and "2 to 3 seeds" in text
    assert "    ValueError: <b> | broke" in text and text.count("first line") == 11
    assert "ValueError: &lt;b&gt; | broke" in page and "a &lt;device&gt;" in page
    (folder / "norm=gn,images_per_worker=2,seed=1" / "failed.txt").unlink()
    assert "`norm=gn,images_per_worker=2,seed=1`\n\n## How" in write_report(folder)[-2].read_text()


def test_the_page_holds_everything_itself(make_sweep, tmp_path):
    folder = make_sweep(FIGURE_1_AXES, ["figure_1", "figure_4", "figure_5", "table_1", "table_2"])
    files = write_report(folder)
    assert [path.name for path in files] == [
        f"figure_{n}.{kind}" for n in (1, 4, 5) for kind in ("png", "svg")] + ["report.md", "report.html"]
    assert all(path.stat().st_size > 1000 for path in files) and not list(folder.glob("*.part"))
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 3
    for source, name in zip(sources, ("figure_1", "figure_4", "figure_5"), strict=True):
        kind, picture = source.split(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(picture) == (folder / f"{name}.svg").read_bytes()
        assert f"]({name}.png)" in (folder / "report.md").read_text()
    assert not re.search(r"https?:|file:|url\(|@import|<script|<link", page) and str(tmp_path) not in page


def test_the_same_results_give_the_same_bytes(make_sweep):
    first = make_sweep(FIGURE_1_AXES, ["figure_1", "figure_5"], title="Once & again")
    second = first.with_name("elsewhere")
    shutil.copytree(first, second)
    for one, other in zip(write_report(first), write_report(second), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert "<h1>Once &amp; again</h1>" in (first / "report.html").read_text()


def test_precise_statistics_are_shown_beside_the_running_ones(make_sweep):
    """Of BN, as `tools/eval.py --precise --json` has left them in the folders of its runs at 2 images, not at 32."""
    grids = {NORM: ["bn", "gn"], IMAGES: [32, 2], "seed": [0, 1]}
    folder = make_sweep(grids, ["figure_1", "table_2"], error=lambda values: 0.3)
    for seed, error in enumerate((0.20, 0.22)):
        run = folder / f"norm=bn,images_per_worker=2,seed={seed}"
        (run / "precise.json").write_text(json.dumps({"images": 200, "top1_error": error}))
    _, (lines, *_), caption = drawn(folder, "figure_1")
    assert math.isnan(lines["BN, precise statistics"][1][0])
    assert lines["BN, precise statistics"][1][1] == pytest.approx(21) and "Dotted: precise statistics" in caption
    write_report(folder)
    assert table_row((folder / "report.md").read_text(), "BN, precise statistics")[1:] == ["–", "21.00 ± 1.41"]
    (run / "precise.json").write_text('{"top1_error": "low"}')
    with pytest.raises(InputError, match="precise.json: top1_error"):
        write_report(folder)


def test_only_seeds_are_averaged(make_sweep):
    """BN by its statistics in evaluation, which mean nothing to GN: three lines, of 2 and 1 seeds, none mixed."""
    errors = {"first": [0.3, 0.4], "precise": [0.1, 0.2]}
    grids = [{NORM: ["bn"], RUNNING: ["first", "precise"], IMAGES: [32, 2], "seed": [0, 1]},
             {NORM: ["gn"], RUNNING: ["first", "precise"], IMAGES: [32, 2]}]
    folder = make_sweep(grids, ["figure_1", "table_1", "table_2"],
                        error=lambda values: errors[values[RUNNING]][values["seed"]] if "seed" in values else 0.25)
    axes, (lines,), _ = drawn(folder, "figure_1")
    own = {label: y for label, (_, y) in lines.items() if "paper" not in label}
    assert own.keys() == {"BN, first worker", "BN, precise", "GN"}
    assert own["BN, first worker"] == pytest.approx([35, 35]) and own["BN, precise"] == pytest.approx([15, 15])
    assert own["GN"] == pytest.approx([25, 25])
    assert len({(line.get_marker(), str(line.get_linestyle())) for line in axes[0].lines[:3]}) == 3
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert table_row(text, "GN") == ["GN", "25.00", "−10.00", "+10.00", "*24.1*", "*+0.5*"]  # less each kind of BN
    assert table_row(text, "GN − BN, precise")[1:] == ["+10.00", "+10.00"]
    assert "which counts instead: 2." in text  # GN was run twice for nothing


def test_an_unknown_further_axis_makes_lines_of_its_own(make_sweep):
    grid = {NORM: ["bn", "gn"], "model.depth": [26, 50], "optimizer.base_lr": [0.1, 0.2], IMAGES: [32, 2]}
    folder = make_sweep(grid, error=lambda values: values["model.depth"] / 100 - values["optimizer.base_lr"]
                        + 0.01 * (values[NORM] == "gn"))
    _, (lines,), _ = drawn(folder, "figure_1")
    assert lines["BN, ResNet-50, base_lr=0.2"][1] == pytest.approx([30, 30])
    assert lines["GN, ResNet-26, base_lr=0.1"][1] == pytest.approx([17, 17])
    assert len(lines) == 8 + 2
    ([rows], _) = DRAWINGS["table_2"].draw(read_sweep(folder))
    gaps = [row for row in rows if row[0].endswith("− BN")]
    assert len(gaps) == 4 and all(row[1:] == ["+1.00", "+1.00"] for row in gaps)  # from BN of the same depth, rate


def test_a_null_is_a_value_of_its_own(make_sweep):
    config = CONFIG | {"ema_decay": 0.5}
    folder = make_sweep({"ema_decay": [None, 0.5], "seed": [0, 1]}, ["figure_5", "table_2"], config=config,
                        error=lambda values: 0.2 if values["ema_decay"] is None else 0.1)
    ([rows], _) = DRAWINGS["table_2"].draw(read_sweep(folder))  # the norm is no axis
    assert [row for row in rows if "paper" not in row[0]] == [
        ["images per worker", "32"], ["GN, ema_decay=null", "20.00 ± 0.00"], ["GN, ema_decay=0.5", "10.00 ± 0.00"]]
    write_report(folder)
    assert "repeat" not in (folder / "report.md").read_text()


def test_a_value_is_the_one_in_effect_where_the_grid_lacks_the_axis(make_sweep):
    grids = [{"ema_decay": [0.5]}, {"optimizer.momentum": [0.8, 0.9]}]
    folder = make_sweep(grids, error=lambda values: 0.1)
    sweep = read_sweep(folder)
    labels = list(map(sweep.label, sweep.settings))
    assert labels == ["GN, ema_decay=0.5, momentum=0.9", "GN, ema_decay=null, momentum=0.9",
                      "GN, ema_decay=null, momentum=0.8"]


def test_values_keep_their_types(make_sweep):
    stages = [["c5"], [], ["c4", "c5"]]
    grid = {"optimizer.nesterov": [False], "optimizer.decay_norm_and_bias": [False, True],
            "optimizer.reference_images_per_step": [None, 256], "schedule.name": ["step", "cosine"],
            "model.deformable_stages": stages}
    folder = make_sweep(grid, error=lambda values: 0.1)
    sweep = read_sweep(folder)
    assert list(dict.fromkeys(setting.values["model.deformable_stages"] for setting in sweep.settings)) == [
        json.dumps(value) for value in stages]
    assert sweep.label(sweep.settings[0]) == (
        'GN, decay_norm_and_bias=false, reference_images_per_step=null, name=step, DCN in c5')
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "SGD with momentum 0.9, weight decay 0.0001 on every parameter or not on gamma, beta and biases." in text
    assert ("The rate starts at 0.1 × images per step / 256 or 0.1 after 0.5 epochs of warm-up and is multiplied by "
            "0.1 after epochs 2 and 3 or falls to 0 along half a cosine.") in text
    assert "(8 workers, rate in proportion to the step or the same rate for all)" in text


@pytest.mark.parametrize("stages, said", [(["c5"], True), ([], False)])
def test_the_recipe_tells_the_rate_of_offset_branches_where_there_are_some(make_sweep, stages, said):
    config = CONFIG | {"model": CONFIG["model"] | {"deformable_stages": stages},
                       "optimizer": CONFIG["optimizer"] | {"offset_lr_multiplier": 0.1}}
    folder = make_sweep({NORM: ["bn", "gn"]}, ["table_1"], config=config)
    write_report(folder)
    assert ("Offset branches learn at 0.1 of the rate." in (folder / "report.md").read_text()) == said


@pytest.mark.parametrize("data, said", [
    ({"name": "composed", "train_images": 16000, "validation_images": 2000, "fresh": True},
     "on composed images (16,000 new training images an epoch and 2,000 validation images)"),
    ({"name": "garment_clips", "train_clips": 400, "validation_clips": 90, "fresh": False},
     "on composed clips (400 training and 90 validation clips)"),
])
def test_the_recipe_tells_whether_images_or_clips_come_again(make_sweep, data, said):
    assert said in recipe(read_sweep(make_sweep(FIGURE_1_AXES, config={**CONFIG, "data": data})))


def test_the_recipe_tells_what_training_starts_from_and_what_learns_slowly(make_sweep):
    config = CONFIG | {
        "pretrained": "weights/a.pdparams",
        "optimizer": CONFIG["optimizer"] | {"backbone_lr_multiplier": 0.1},
        "data": CONFIG["data"] | {"train_images": None, "classes": ["Coat", "Shirt"]},
    }
    folder = make_sweep({"model.frozen": [[], ["stem", "c2"]], "seed": [0]}, error=lambda values: 0.1, config=config)
    sweep = read_sweep(folder)
    assert list(map(sweep.label, sweep.settings)) == ["GN, nothing frozen", "GN, stem+c2 frozen"]
    text = recipe(sweep)
    assert "on 2 classes of a part of Fashion-MNIST (2,400 training and 400 validation images)" in text
    assert "Training starts from weights/a.pdparams, with nothing frozen or stem+c2 frozen. " in text
    assert "The backbone learns at 0.1 of the rate. " in text
    plain = recipe(read_sweep(make_sweep(FIGURE_1_AXES, name="plain")))
    assert "starts from" not in plain and "backbone" not in plain and "classes" not in plain


def test_table_1(make_sweep):
    errors = {"bn": 0.1, "ln": 0.12, "in": 0.15, "gn": 0.11}
    folder = make_sweep({NORM: ["gn", "in", "ln", "bn"]}, error=lambda values: errors[values[NORM]])
    ([rows], caption) = DRAWINGS["table_1"].draw(read_sweep(folder))
    assert rows == [
        ["", "error, %", "− BN", "*the paper*", "*− BN*"],
        ["BN", "10.00", "", "*23.6*", ""],
        ["LN", "12.00", "+2.00", "*25.3*", "*+1.7*"],
        ["IN", "15.00", "+5.00", "*28.4*", "*+4.8*"],
        ["GN", "11.00", "+1.00", "*24.1*", "*+0.5*"],
    ]
    assert "One seed." in caption


def test_in_table_2_a_set_of_values_stands_beside_bn_in_otherwise_its_setting(make_sweep):
    standardized = "model.weight_standardization"
    methods = {"BN": {NORM: "bn"}, "GN": {NORM: "gn"}, "FRN": {NORM: "frn", "model.norm_eps": 1e-6},
               "GN+WS": {NORM: "gn", standardized: True}, "BN+WS": {NORM: "bn", standardized: True}}
    errors = {"BN": 0.2, "GN": 0.1, "FRN": 0.15, "GN+WS": 0.05, "BN+WS": 0.25}
    config = CONFIG | {"model": CONFIG["model"] | {"weight_standardization": False, "norm_eps": 1e-5}}
    folder = make_sweep({"method": methods, IMAGES: [2]}, config=config, error=lambda values: errors[values["method"]])
    ([rows], _) = DRAWINGS["table_2"].draw(read_sweep(folder))
    assert rows == [
        ["images per worker", "2"],
        ["BN", "20.00"], ["*BN, the paper*", "*34.7*"], ["GN", "10.00"], ["*GN, the paper*", "*24.1*"],
        ["FRN", "15.00"], ["GN+WS", "5.00"], ["BN+WS", "25.00"],
        ["GN − BN", "−10.00"], ["FRN − BN", "−5.00"], ["GN+WS − BN+WS", "−20.00"],
        ["*GN − BN, the paper*", "*−10.6*"],
    ]


def test_table_3_keeps_groups_and_channels_apart(make_sweep):
    grids = [{GROUPS: [1, 4, 8], "seed": [0, 1]}, {CHANNELS: [4, 1]}]
    folder = make_sweep(grids, error=lambda values: values.get(GROUPS, 10 * values.get(CHANNELS, 0)) / 100)
    ((groups, channels), _) = DRAWINGS["table_3"].draw(read_sweep(folder))
    assert groups == [["groups", "8", "4", "1"], ["GN", "8.00 ± 0.00", "4.00 ± 0.00", "1.00 ± 0.00"],
                      ["*GN, the paper*", "*24.4*", "*24.6*", "*25.3*"]]
    assert channels == [["channels per group", "4", "1"], ["GN", "40.00", "10.00"],
                        ["*GN, the paper*", "*24.8*", "*28.4*"]]


def test_what_differs_between_the_runs_is_said(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert f"{'a' * 40} (8 runs), {OTHER_COMMIT} (4 runs)" in text and "they differ in commit." in text
    assert "wall time: 1 min 00 s, 2 at a time" in text and "together: 20 min 12 s" in text  # 4 * (100 + 101 + 102) s
    assert "    python tools/sweep.py -c configs/sweeps/sweep.yaml\n" in text


def test_sessions_that_overlap_are_not_counted_twice_and_the_command_is_theirs(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    sessions = [
        {"started": "2026-01-01T10:10:00+00:00", "seconds": 60.0, "processes": 2},
        {"started": "2026-01-01T12:00:00+02:00", "seconds": 100.0, "processes": 2,  # 10:00
         "arguments": ["-c", "a b.yaml", "--only", "seed=1"]},
        {"started": "2026-01-01T10:01:00+00:00", "seconds": 120.0, "processes": 1,  # 60 s later
         "arguments": ["-c", "a b.yaml", "-o", "name=x"]},
        {"started": "2026-01-01T10:00:10+00:00", "seconds": 5.0, "processes": 1},  # within the first
    ]
    for count, command in ((4, "-c 'a b.yaml' -o name=x"), (2, "-c 'a b.yaml' --only seed=1")):
        (folder / "sessions.jsonl").write_text("".join(json.dumps(session) + "\n" for session in sessions[:count]))
        write_report(folder)
        text = (folder / "report.md").read_text()
        assert f"    python tools/sweep.py {command}\n" in text
        assert f"wall time: {'4 min 00 s' if count == 4 else '2 min 40 s'}, " in text
        assert "begun 2026-01-01 12:00" in text  # by the clock of the first: others may have written their lines later
    sessions[0]["arguments"] = ["-c", "changed.yaml"]
    (folder / "sessions.jsonl").write_text("".join(json.dumps(session) + "\n" for session in sessions))
    write_report(folder)
    assert "    python tools/sweep.py -c changed.yaml\n" in (folder / "report.md").read_text()  # the latest counts


def test_a_report_is_written_under_the_lock_of_the_runners(make_sweep, monkeypatch):
    """Two that end at once would take each other's unfinished files away. A copy of the results has no lock."""
    folder = make_sweep(FIGURE_1_AXES)
    write_report(folder)
    assert not (folder / ".lock").exists()
    (folder / ".lock").touch()
    looks = []

    def look(path, text):
        code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        looks.append(subprocess.run([sys.executable, "-c", code, folder / ".lock"], capture_output=True).returncode)

    monkeypatch.setattr("engine.report.page.write_text", look)
    write_report(folder)
    assert looks == [1, 1]


def test_of_a_runs_folder_no_lock_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()
    monkeypatch.setattr("engine.report.page.alone", lambda lock: 1 / 0)
    with pytest.raises(InputError, match="sweep.yaml: no such file"):
        write_report(tmp_path)


def test_text_for_the_terminal(make_sweep):
    several = results_text(make_sweep(FIGURE_1_AXES)).splitlines()
    assert several[2].split("  ")[0] == "BN" and several[2].endswith("12.00 ± 2.00  22.00 ± 2.65")
    one = results_text(make_sweep({GROUPS: [4, 1]}, ["table_3"], name="groups", error=lambda values: 0.5))
    assert one.splitlines()[2:] == ["GN, G = 4     50.00", "GN, G = 1     50.00"]


def damage(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("spoil, message", [
    (lambda folder: (folder / "sweep.yaml").unlink(), "sweep.yaml: no such file; expected the folder of a sweep"),
    (lambda folder: (folder / "results.csv").unlink(), "results.csv: no such file"),
    (lambda folder: damage(folder / "sweep.yaml", "median_last_5", "mean"), "sweep.yaml: statistic: "),
    (lambda folder: damage(folder / "sweep.yaml", "axes:", "axes: ["), "sweep.yaml: not valid YAML"),
    (lambda folder: damage(folder / "sweep.yaml", "table_2", "tabel_2"), "tabel_2 is unknown; did you mean table_2?"),
    (lambda folder: damage(folder / "sweep.yaml", "table_2", "table_3"), "table_3 needs the axis model.norm_groups"),
    (lambda folder: damage(folder / "results.csv", "train_seconds", "seconds"), "has no column train_seconds"),
    (lambda folder: damage(folder / "results.csv", "finished", "done"), "line 2: damaged: state done"),
    (lambda folder: damage(folder / "results.csv", ",0.1,0.11", ",x,0.11"), "damaged: top1_error_median_last_5 is x"),
    (lambda folder: damage(folder / "results.csv", "paper,bn,", "paper,"), "line 2: damaged: not as many values"),
    (lambda folder: (folder / "results.csv").write_bytes(b"\xff\xfe\x00"), "results.csv: damaged"),
    (lambda folder: damage(folder / "norm=bn,images_per_worker=2,seed=0" / "env.json", "{", ""), "env.json: damaged"),
])
def test_bad_input_is_one_line_and_nothing_is_written(make_sweep, spoil, message):
    folder = make_sweep(FIGURE_1_AXES)
    spoil(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(InputError) as raised:
        write_report(folder)
    assert message in str(raised.value) and "\n" not in str(raised.value) and str(folder) in str(raised.value)
    assert sorted(folder.iterdir()) == before


def test_a_run_without_its_metrics(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, ["figure_5"])
    (folder / "norm=bn,images_per_worker=2,seed=0" / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="seed=0/metrics.jsonl: missing or damaged"):
        write_report(folder)


def test_the_command(make_sweep):
    folder = make_sweep({NORM: ["bn", "gn"]}, ["table_1"])
    done = run_tool("report.py", "-s", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(folder / "report.md"), str(folder / "report.html")]
    waiting = make_sweep({NORM: ["gn"]}, ["table_2"], states={"norm=gn": "waiting"}, name="waiting")
    done = run_tool("report.py", "-s", waiting)
    assert done.returncode == 2 and not (waiting / "report.md").exists()
    expected = f"error: {waiting}: no run of this sweep has finished; there is nothing to report"
    assert done.stderr.splitlines()[-1] == expected  # a Paddle for GPUs has its own lines before
