"""A sweep's folder that somebody else made: its words are text, what is damaged is one line, nothing hangs."""

import csv
import html.parser
import itertools
import json
import math
import os
import re
import shutil
from xml.etree import ElementTree

import pytest
import yaml
from conftest import ROOT, run_tool
from markdown_it import MarkdownIt
from sweep_folders import CONFIG, FIGURE_1_AXES, GROUPS, IMAGES, NORM

from engine.drawing import escape
from engine.errors import InputError
from engine.report.page import report_text, results_text, to_html, write_report
from engine.report.results import read_sweep
from engine.run.measure import TOP1_ERROR
from engine.run.result import read_metrics, read_result

SWEEPS = sorted(path.parent.name for path in (ROOT / "results").glob("*/sweep.yaml"))
HOSTILE = (
    "\"'><img src=x onerror=alert(1)><script>alert(2)<\\script><!-- <![CDATA[ <?php &lt; &#60; [a](javascript:alert) "
    "![b](x.png) [c]: x `d` *e* **f** _g_ __h__ ~~i~~ | j | $\\frac{k$ ^l {m} \\n # 1. \x1b[31m \u202e \u2028 \x02\x03"
)
# What makes a block of a line that begins with it.
FIRST = ("- ", "1. ", "# ", "> ", "    x", "| ", "* ", "=== ", "--- ", "[x]: ", "<b>", "```", "+ ")


def rewrite(path, change):
    """Change the rows of a CSV file."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def spoken_by(word):
    """A function that puts a word wherever a folder has one: said(folder)."""

    def leaves(values):
        if isinstance(values, dict):
            return {key: leaves(value) for key, value in values.items()}
        return word if isinstance(values, str) else values

    def said(folder):
        described = yaml.safe_load((folder / "sweep.yaml").read_text())
        described |= {"title": word, "name": word, "file": word, "config": leaves(described["config"])}
        described["axes"][0]["arm"] = {word: {"pretrained": word}}
        del described["axes"][0]["pretrained"]
        (folder / "sweep.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
        name = re.sub(r"/", "", "".join(filter(str.isprintable, word)))[:200]
        numbers = itertools.count()

        def change(row):
            run = f"{name}{next(numbers)}"
            (folder / row["run"]).rename(folder / run)
            row |= {"run": run, "protocol": word, "evaluation_statistics": word, "pretrained": word, "arm": word}
            row |= {"norm": word, NORM: word} if row["norm"] == "ln" else {}

        rewrite(folder / "results.csv", change)
        session = {"started": "2026-01-01T00:00:00", "seconds": 1.0, "processes": 1, "arguments": [word, "\ud800"]}
        (folder / "sessions.jsonl").write_text(json.dumps(session) + "\n")
        for path in folder.glob("*/env.json"):
            facts = {key: word for key in ("device_name", "system", "python", "paddle", "numpy", "commit", "cores")}
            path.write_text(json.dumps(facts))
        for path in folder.glob("*/failed.txt"):
            path.write_text(f"{word}\n    {word}\n", encoding="utf-8", errors="replace")

    return said


class Elements(html.parser.HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "code":  # a name is shown as code where code can hold it
            return
        self.found.append((tag, [(name, value[:20] if name == "src" else value) for name, value in attributes]))

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.found.append("comment")

    handle_pi = unknown_decl = handle_comment


def blocks(text):
    """What a Markdown reader of another make sees: the kinds of its elements."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [(token.type, [inner.type for inner in token.children or []
                          if inner.type not in ("text", "text_special", "code_inline")]) for token in tokens]


@pytest.fixture
def hostile(make_sweep):
    """hostile(word) -> the folder of a sweep in which each word is that one; of the same make for any word."""

    def make(word, name):
        grid = {NORM: ["bn", "gn", "ln"], IMAGES: [32, 2], "pretrained": ["x"], "seed": [0, 1]}
        failed = {"norm=gn,images_per_worker=2,pretrained=x,seed=1": "failed"}
        figures = ["figure_1", "figure_4", "figure_5", "table_1", "table_2"]
        folder = make_sweep(grid, figures, error=lambda values: 0.1, states=failed, name=name)
        spoken_by(word)(folder)
        return folder

    return make


@pytest.mark.parametrize("word", [HOSTILE, *FIRST])
def test_no_word_of_a_folder_is_an_element_of_its_report(hostile, word):
    same = hostile("x", "benign"), hostile(word, "hostile")
    pages, texts = [], []
    for folder in same:
        if word == HOSTILE:  # the others differ in the text only
            write_report(folder)
            text, page = (folder / "report.md").read_text("utf-8"), (folder / "report.html").read_text("utf-8")
        else:
            text = report_text(read_sweep(folder), {})
            page = to_html(text, {})
        pages.append(Elements(page))
        texts.append(text)
    assert pages[0].found == pages[1].found
    assert blocks(texts[0]) == blocks(texts[1])
    if word == HOSTILE:
        assert "<script>alert(2)" in pages[1].text and "$\\frac{k$" in pages[1].text and "\\x1b[31m" in pages[1].text
        assert "onerror" not in str(pages[1].found)
    assert "\x1b" not in texts[1] and "\x1b" not in results_text(same[1])


def test_the_page_lets_no_script_run_and_loads_nothing(hostile):
    folder = hostile("x", "sweep")
    write_report(folder)
    page = Elements((folder / "report.html").read_text())
    (policy,) = [dict(attributes)["content"] for tag, attributes in page.found
                 if tag == "meta" and dict(attributes).get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "script-src" not in rules
    head = page.found[: page.found.index(("style", []))]
    assert any(tag == "meta" and ("http-equiv", "Content-Security-Policy") in attributes for tag, attributes in head)


def test_a_text_is_shown_letter_by_letter():
    for text in (HOSTILE, *FIRST, "decay_norm_and_bias=false", "a_b", "_a_", "https://evil.example/x", "a\nb"):
        shown = Elements(to_html(escape("x" + text), {}))
        assert [tag for tag, _ in shown.found] == ["p"]
    assert Elements(to_html(escape("x <b> `*_[]|~#$&amp;"), {})).text == "x <b> `*_[]|~#$&amp;"
    assert escape("decay_norm_and_bias=false, GN, G = 16") == "decay_norm_and_bias=false, GN, G = 16"


@pytest.mark.parametrize("name", SWEEPS)
def test_committed_reports_come_out_as_they_are(name, tmp_path):
    folder = tmp_path / name
    shutil.copytree(ROOT / "results" / name, folder)
    write_report(folder)
    assert (folder / "report.md").read_text("utf-8") == (ROOT / "results" / name / "report.md").read_text("utf-8")


def test_a_norm_that_only_make_norm_knows_is_drawn(make_sweep, monkeypatch):
    from typing import Literal

    for module in ("engine.report.labels", "engine.report.lines"):
        monkeypatch.setattr(f"{module}.Norm", Literal["bn", "gn", "later", "sn"])
    norms = ["sn", "gn", "unheard_of", "later", "bn"]
    figures = ["figure_1", "figure_4", "figure_5", "table_1", "table_2"]
    folder = make_sweep({NORM: norms, IMAGES: [32, 2]}, figures, lambda values: 0.1)
    write_report(folder)
    sweep = read_sweep(folder)
    assert sweep.axes[NORM] == ["bn", "gn", "later", "sn", "unheard_of"]  # known ones first, then as the project has
    assert "| sn | 10.00 | 10.00 |" in (folder / "report.md").read_text()
    from engine.report.drawings import DRAWINGS

    figure, _ = DRAWINGS["figure_1"].draw(sweep)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    looks = {(lines[label].get_color(), lines[label].get_marker()) for label in ("sn", "later", "unheard_of")}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 3
    alone = make_sweep({NORM: ["sn", "bn"], IMAGES: [32, 2]}, name="alone", error=lambda values: 0.1)
    again, _ = DRAWINGS["figure_1"].draw(read_sweep(alone))
    (same,) = [line for line in again.axes[0].lines if line.get_label() == "sn"]
    assert same.get_color() == lines["sn"].get_color() and same.get_marker() == lines["sn"].get_marker()


def test_every_norm_that_there_is_has_a_look_and_a_word(make_sweep):
    from typing import get_args

    from models.norm import Norm

    grid = {NORM: list(get_args(Norm)), IMAGES: [32, 2]}
    figures = ["figure_1", "figure_4", "figure_5", "table_1", "table_2"]
    write_report(make_sweep(grid, figures, error=lambda values: 0.1))


def test_a_value_matters_to_a_norm_that_the_report_does_not_know(make_sweep):
    folder = make_sweep({NORM: ["sn", "bn"], GROUPS: [2, 4]}, error=lambda values: 0.01 * values[GROUPS])
    sweep = read_sweep(folder)
    labels = [sweep.label(setting) for setting in sweep.settings]
    assert labels == ["BN", "sn, G = 2", "sn, G = 4"]


def test_limits_of_batch_renormalisation_tell_no_other_norm_apart(make_sweep):
    limit = "model.brn_r_max"
    folder = make_sweep([{NORM: ["bn"], IMAGES: [32, 2]}, {NORM: ["brn"], limit: [1.5, 3.0], IMAGES: [32, 2]}],
                        error=lambda values: 0.1)
    sweep = read_sweep(folder)
    labels = [sweep.label(setting, [IMAGES]) for setting in sweep.settings if setting.values[IMAGES] == 2]
    assert labels == ["BN", "BRN, brn_r_max=1.5", "BRN, brn_r_max=3.0"]
    write_report(folder)
    assert "BN and BRN evaluated with the mean" in (folder / "report.md").read_text()


RUN = "norm=bn,images_per_worker=2,seed=0"


def cell(column, text):
    """Spoils a folder: the second run gets this cell."""

    def spoil(folder):
        seen = []

        def change(row):
            seen.append(row)
            if len(seen) == 2:
                row[column] = text

        rewrite(folder / "results.csv", change)

    return spoil


def described(**values):
    def spoil(folder):
        path = folder / "sweep.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))

    return spoil


def line(file, text, number=1):
    """Spoils a folder: a file's line becomes this text."""

    def spoil(folder):
        lines = (folder / file).read_bytes().split(b"\n")
        lines[number - 1] = text if isinstance(text, bytes) else text.encode()
        (folder / file).write_bytes(b"\n".join(lines))

    return spoil


def fifo(file):
    def spoil(folder):
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return spoil


DAMAGES = [
    (cell("run", "../../etc"), "results.csv: line 3: damaged: run is ../../etc"),
    (cell("run", ".."), "results.csv: line 3: damaged: run is .."),
    (cell("run", "a\x1bb"), "results.csv: line 3: damaged: run is a\\x1bb"),
    (cell("run", ""), "line 3: damaged: run is empty"),
    (cell("state", "<b>\n"), "damaged: state <b>\\n, expected one of finished"),
    (cell("norm", ""), "line 3: damaged: norm is empty"),
    (cell("norm", "gn"), "line 3: damaged: model.norm is bn, but norm is gn"),
    (cell("images_per_worker", "0"), "line 3: damaged: images_per_worker is 0"),
    (cell("images_per_worker", "2.5"), "line 3: damaged: images_per_worker is 2.5"),
    (cell("seed", "x"), "line 3: damaged: seed is x"),
    (cell("seed", "9" * 5000), "line 3: damaged: seed is 999"),
    (cell("lr", "nan"), "line 3: damaged: lr is nan"),
    (cell("top1_error_median_last_5", "1e308"), "line 3: damaged: top1_error_median_last_5 is 1e308"),
    (cell("top1_error_median_last_5", "-0.1"), "line 3: damaged: top1_error_median_last_5 is -0.1"),
    (cell("top1_error_median_last_5", "NaN"), "line 3: damaged: top1_error_median_last_5 is NaN"),
    (cell("top1_error_median_last_5", ""), "line 3: damaged: top1_error_median_last_5 is empty"),
    (cell("train_seconds", "inf"), "line 3: damaged: train_seconds is inf"),
    (cell("train_seconds", "1e300"), "line 3: damaged: train_seconds is 1e300"),
    (cell("steps", "many"), "line 3: damaged: steps is many"),
    (cell("protocol", "x" * 110_000), "line 3: damaged: protocol is xxx"),
    (cell("protocol", "x" * 200_000), "line 3: damaged (field larger"),
    (line("results.csv", b"run,state\xff"), "results.csv: damaged (line 1 is no UTF-8)"),
    (line("results.csv", b"\xff", 4), "results.csv: damaged (line 4 is no UTF-8)"),
    (line("results.csv", 'a"b"c,"' + "x" * 200_000, 4), "results.csv: line "),
    (line("results.csv", "x,finished", 4), "line 4: damaged: not as many values"),
    (fifo("results.csv"), "results.csv: is no ordinary file"),
    (fifo("sessions.jsonl"), "sessions.jsonl: is no ordinary file"),
    (fifo(f"{RUN}/env.json"), "env.json: is no ordinary file"),
    (fifo(f"{RUN}/metrics.jsonl"), "metrics.jsonl: is no ordinary file"),
    (line("sessions.jsonl", "[]"), "sessions.jsonl: line 1: "),
    (line("sessions.jsonl", '{"started": "2026-01-01T00:00", "seconds": 6, "proc'), "sessions.jsonl: line 1: damaged"),
    (line("sessions.jsonl", '{"started": "soon", "seconds": 6, "processes": 1}'), "line 1: started: "),
    (line("sessions.jsonl", '{"started": "0001-01-01T00:00:00", "seconds": 6, "processes": 1}'), "line 1: started: "),
    (line("sessions.jsonl", '{"started": "2026-01-01T00:00", "seconds": NaN, "processes": 1}'), "line 1: seconds: "),
    (line("sessions.jsonl", '{"started": "2026-01-01T00:00", "seconds": 6, "processes": 1, "arguments": "x"}'),
     "line 1: arguments: "),
    (line("sessions.jsonl", '{"started": "2026-01-01T00:00", "seconds": 6, "processes": 1, "arguments": [1]}'),
     "line 1: arguments.0: "),
    (line("sessions.jsonl", "[" * 100_000), "sessions.jsonl: line 1: damaged"),
    (line(f"{RUN}/env.json", "[1]"), "env.json: "),
    (line(f"{RUN}/env.json", '{"cores": {"a": 1}}'), "env.json: cores: "),
    (line(f"{RUN}/env.json", b"\xff"), "env.json: damaged (line 1 is no UTF-8)"),
    (line(f"{RUN}/metrics.jsonl", '{"kind": "eval", "epoch": 1, "top1_', 2), "metrics.jsonl: line 2: damaged"),
    (line(f"{RUN}/metrics.jsonl", "", 2), "metrics.jsonl: line 2: damaged"),
    (line(f"{RUN}/metrics.jsonl", "3", 2), "metrics.jsonl: line 2: "),
    (line(f"{RUN}/metrics.jsonl", '{"epoch": 1, "top1_error": 0.1}', 2), "metrics.jsonl: line 2: kind: "),
    (line(f"{RUN}/metrics.jsonl", '{"kind": "eval", "epoch": "one", "top1_error": 0.1}', 2), "line 2: epoch: "),
    (line(f"{RUN}/metrics.jsonl", '{"kind": "eval", "epoch": 1, "top1_error": NaN}', 2), "line 2: top1_error: "),
    (line(f"{RUN}/metrics.jsonl", '{"kind": "eval", "epoch": 1, "top1_error": [0]}', 2), "line 2: top1_error: "),
    (line(f"{RUN}/metrics.jsonl", '{"kind": "eval", "epoch": 1}', 2), "metrics.jsonl: damaged: a line of kind eval"),
    (described(axes={NORM: ["bn"]}), "sweep.yaml: axes: "),
    (described(axes=[{"run": ["x"]}]), "sweep.yaml: "),
    (described(axes=[{"<b>": ["x"]}]), "sweep.yaml: axes.0.<b>"),
    (described(axes=[{"model.other": ["x"]}]), "results.csv: has no column model.other"),
    (described(title=["x"]), "sweep.yaml: title: "),
    (described(title="x" * 110_000), "sweep.yaml: title: "),
    (described(config={"model": {"deformable_stages": 5}}), "sweep.yaml: "),
    (described(config={"model": {"frozen": ["head"]}}), "sweep.yaml: "),
    (described(config=[]), "sweep.yaml: config: "),
    (described(axes=[{"arm": {"a": 5}}]), "sweep.yaml: axes.0.arm"),
    (described(axes=[{"arm": {"a": {"<b>": 5}}}]), "sweep.yaml: axes.0.arm"),
    (described(axes=[{"state": {"a": {}}}]), "sweep.yaml: "),
    (described(axes=[{"arm": {"a": {NORM: "bn"}}}]), "results.csv: has no column arm"),
    (described(figures="table_2"), "sweep.yaml: figures: "),
]


@pytest.mark.parametrize("spoil, message", DAMAGES)
def test_damage_is_one_line_that_names_the_place(make_sweep, spoil, message):
    folder = make_sweep(FIGURE_1_AXES, ["figure_5", "table_2"])
    spoil(folder)
    with pytest.raises(InputError) as raised:
        write_report(folder)
    said = str(raised.value)
    assert message in said and str(folder) in said and said.isprintable() and len(said) < 600
    assert not (folder / "report.md").exists()


@pytest.mark.parametrize("column", ["data.name", "optimizer.name", "schedule.name", "model.depth", "data.train_images",
                                    "optimizer.base_lr", "optimizer.nesterov", "bn_precise_images", "pretrained",
                                    "optimizer.backbone_lr_multiplier", "data.classes"])
@pytest.mark.parametrize("value", [[["a"]], {"a": 1}, True, -1, 2**62, "{workers.__class__}", math.nan])
def test_a_config_value_of_a_wrong_type_is_said_as_it_is(make_sweep, column, value):
    section, _, key = column.rpartition(".")
    config = CONFIG | ({section: CONFIG[section] | {key: value}} if section else {key: value})
    report_text(read_sweep(make_sweep(FIGURE_1_AXES, config=config)), {})


def test_a_protocol_is_no_template(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    rewrite(folder / "results.csv", lambda row: row.update(protocol="{workers.__class__} {x}"))
    write_report(folder)
    assert "{workers.__class__} {x}" in (folder / "report.md").read_text().replace("&#95;", "_")


def test_long_words_leave_a_figure_its_room(make_sweep):
    grid = {NORM: ["bn", "gn"], IMAGES: [32, 2], "pretrained": ["x", "y"]}
    folder = make_sweep(grid, ["figure_1", "figure_4", "figure_5"], error=lambda values: 0.1)
    long = {"x": "a" * 900, "y": "a" * 450 + "b" + "a" * 449}
    rewrite(folder / "results.csv", lambda row: row.update(pretrained=long[row["pretrained"]]))
    write_report(folder)
    assert (folder / "figure_1.png").stat().st_size < 10**6


def test_a_figure_has_room_for_so_many_settings(make_sweep):
    grid = {NORM: ["bn", "gn"], "optimizer.base_lr": [0.001 * number for number in range(1, 80)]}
    folder = make_sweep(grid, ["figure_5"], error=lambda values: 0.1)
    with pytest.raises(InputError, match="figure_5 can show 120 settings at most, this sweep has 158"):
        write_report(folder)


def test_nothing_is_word_through_a_link(make_sweep, tmp_path):
    folder, mine = make_sweep(FIGURE_1_AXES, ["figure_1"]), tmp_path / "mine"
    mine.write_text("mine")
    for name in ("report.md", "figure_1.png"):
        (folder / f"{name}.part").symlink_to(mine)
        (folder / name).symlink_to(mine)
    os.mkfifo(folder / "report.html.part")
    os.mkfifo(folder / ".lock")
    write_report(folder)
    assert mine.read_text() == "mine" and not (folder / "report.md").is_symlink()


def test_a_run_that_is_damaged(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    assert read_result(folder, [TOP1_ERROR])["top1_error_last"] == read_metrics(folder, "eval")[-1]["top1_error"]
    spoiled = {"{": "", '"best_epoch": ': '"best_epoch": "x', '"top1_error_last": ': '"top1_error_last": NaN, "x": '}
    for old, new in spoiled.items():
        text = (trained / "result.json").read_text()
        (folder / "result.json").write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match="result.json: "):
            read_result(folder, [TOP1_ERROR])


def test_a_million_rows_are_refused_at_once(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    with open(folder / "results.csv", "a") as file:
        last = (folder / "results.csv").read_text().splitlines()[-1]
        file.write(f"{last}\n" * 1_000_000)
    with pytest.raises(InputError, match="results.csv: has more than 10,000 runs"):
        write_report(folder)


def test_a_disk_that_refuses_is_one_line(make_sweep):
    folder = make_sweep(FIGURE_1_AXES)
    (folder / "report.md").mkdir()
    with pytest.raises(InputError, match="report.md: is a folder; expected a file"):
        write_report(folder)


def test_the_files_are_the_same_in_every_locale(tmp_path):
    """In one that knows ASCII only, as servers have, and where Python does not help itself to UTF-8."""
    folder = tmp_path / "groups"
    shutil.copytree(ROOT / "results" / "fashion_mnist_groups", folder)
    (folder / "report.md").unlink()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = run_tool("report.py", "-s", folder, **plain)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and "\\xb1" in done.stdout  # the sign before a deviation
    assert (folder / "report.md").read_bytes() == (ROOT / "results" / "fashion_mnist_groups" / "report.md").read_bytes()


def test_a_line_without_end_is_refused_at_its_bound(make_sweep):
    folder = make_sweep(FIGURE_1_AXES, ["figure_5"])
    with open(folder / RUN / "metrics.jsonl", "ab") as file:
        file.truncate(2**34)  # zeros that take no room on the disk
    with pytest.raises(InputError, match="metrics.jsonl: damaged .line 13 has more than"):
        write_report(folder)
    with open(folder / "results.csv", "ab") as file:
        file.truncate(2**34)
    with pytest.raises(InputError, match="results.csv: has more than"):
        write_report(folder)


def test_a_dollar_in_a_name_is_no_formula_in_a_notebook(trained):
    from engine.config import load_config
    from engine.notebook import WatchedRun, draw

    run = WatchedRun("norm=$\\frac{k$", load_config(trained / "config.yaml"), 10)
    assert draw("$\\sqrt{$", [run], [run.records()]).data.startswith(b"\x89PNG")


def test_a_picture_in_the_page_is_well_formed(hostile):
    folder = hostile(HOSTILE, "sweep")
    write_report(folder)
    for path in folder.glob("*.svg"):
        assert not {one.tag.rpartition("}")[2] for one in ElementTree.parse(path).iter()} & {"script", "image", "a"}
