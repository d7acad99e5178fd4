"""The report of a sweep: one text, as report.md beside its figures and as one report.html that holds them."""

import base64
import contextlib
import html
import shlex
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import markdown
from markdown.treeprocessors import Treeprocessor

from engine.drawing import Markdown, code, drawing_style, escape, markdown_table, plain_table, save_figure
from engine.errors import InputError
from engine.files import read_end, write_text, writing_into
from engine.report.drawings import DRAWINGS, check_figures
from engine.report.gn_tables import table_2
from engine.report.records import FAILED_FILE, IMAGES, RESULTS_FILE, STATES, SWEEP_FILE, Session, read_sweep_file
from engine.report.results import SweepResults, read_sweep
from engine.report.words import duration, error_text, heading, listed, noun, number, number_of, recipe, statistic
from engine.run.locks import alone
from engine.run.measure import columns
from engine.terminal import printable

ENVIRONMENT = {  # of env.json
    "device_name": "device", "devices": "devices a run", "cores": "cores", "OMP_NUM_THREADS": "threads a run",
    "system": "system", "python": "Python", "paddle": "Paddle", "numpy": "NumPy", "commit": "commit",
}
NOT_OURS = (  # what of Markdown we do not write: raw HTML and links
    ("preprocessors", "html_block"), ("parser.blockprocessors", "reference"),
    *(("inlinePatterns", name) for name in (
        "html", "autolink", "automail", "reference", "link", "image_reference", "short_reference", "short_image_ref",
    )),
)
STYLE = """
body { max-width: 60rem; margin: 2.5rem auto; padding: 0 1.2rem; color: #222; background: #fff;
       font: 16px/1.55 -apple-system, "Segoe UI", "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
h1, p, ul, pre { max-width: 50rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; }
img { display: block; width: 100%; height: auto; margin: .3rem 0; }
table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; margin: .9rem 0; font-size: .86rem;
        border-collapse: collapse; border-bottom: 1.2px solid #555; font-variant-numeric: tabular-nums; }
th { border-top: 1.2px solid #555; border-bottom: .6px solid #999; font-weight: 600; vertical-align: bottom; }
th, td { padding: .28rem 1.1rem .28rem 0; text-align: left; }
th:last-child, td:last-child { padding-right: 0; }
td { white-space: nowrap; }
td em, th em { font-style: normal; font-weight: 400; color: #767676; }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 3px solid #d55e00; }
p:has(> em:first-child) { font-size: .88rem; color: #444; }
pre { overflow-x: auto; background: #f5f5f5; padding: .7rem .9rem; font-size: .82rem; line-height: 1.4; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .92em; }
@media print {
  body { max-width: none; margin: 0; font-size: 10.5pt; }
  table { font-size: 7.5pt; overflow: visible; }
  th, td { padding-right: .7rem; }
  h2 { break-after: avoid; }
  img, tr { break-inside: avoid; }
}
"""
# No script, nothing from elsewhere; the pictures lie in the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
PAGES = "report.md", "report.html"
LAST_BYTES, LAST_LINES = 16384, 50  # shown of what a failed run printed
PAPER = "The paper: Yuxin Wu and Kaiming He, Group Normalization, ECCV 2018, arXiv:1803.08494."


def write_report(folder: Path) -> list[Path]:
    """Draw a sweep's figures and write its report; returns the files. Raises InputError, with nothing written."""
    read_sweep_file(folder)  # a run's folder has another lock, which is held as long as it trains
    lock = folder / ".lock"  # of the runners; a copy of the results has none and needs none
    with alone(lock) if lock.is_file() else contextlib.nullcontext():
        return _write_report(folder)


def _write_report(folder):
    sweep = read_sweep(folder)
    _check(sweep)
    with drawing_style():
        drawn = {name: DRAWINGS[name].draw(sweep) for name in sweep.file.figures}
    text = report_text(sweep, drawn)
    files, pictures = [], {}
    for name in PAGES:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name}: is a folder; expected a file, to write to")
    with writing_into(folder):
        for name, (figure, _) in drawn.items():
            if _is_figure(name):
                paths = [folder / f"{name}.{kind}" for kind in DRAWINGS[name].kinds]
                for path in paths:
                    save_figure(figure, path)
                pictures[paths[0].name] = _in_the_page(paths[-1])
                files += paths
        for name, page in zip(PAGES, (text, _page(sweep, text, pictures)), strict=True):
            write_text(folder / name, page)
    return [*files, *(folder / name for name in PAGES)]


def results_text(folder: Path) -> str:
    """What the terminal shows of a sweep: averages over seeds, as in table 2 where there are several sizes."""
    sweep = read_sweep(folder)
    if len(sweep.axes[IMAGES]) > 1:
        ([table], _) = table_2(sweep)
    else:
        table = [["", heading(sweep.measure)], *([sweep.label(one), error_text(sweep, one)] for one in sweep.settings)]
    unit = " in percent" * sweep.measure.percent
    return f"{printable(sweep.measure.words)}{unit}, {statistic(sweep)}\n{plain_table(table)}"


def report_text(sweep: SweepResults, drawn: dict) -> Markdown:
    """The whole report as Markdown. `drawn`: by name, what the entry of DRAWINGS gave."""
    parts = [f"# {escape(_title(sweep))}", *_incomplete(sweep), escape(recipe(sweep))]
    for name, (content, caption) in drawn.items():
        number_of_paper = name.replace("_", " ")
        title = DRAWINGS[name].title or number_of_paper.capitalize()
        after = "" if DRAWINGS[name].title else f"*After {number_of_paper} of the paper.* "
        shown = [f"![{title}]({name}.{DRAWINGS[name].kinds[0]})"] if _is_figure(name) else map(markdown_table, content)
        parts += [f"## {title}", *shown, f"{after}{escape(caption)}"]
    parts += ["## Settings", markdown_table(_settings(sweep)), *_repeats(sweep)]
    parts += ["## Runs", markdown_table(_runs(sweep), texts=2), *_failures(sweep)]
    parts += ["## How it was made", *_origin(sweep)]
    return Markdown("\n\n".join(parts) + "\n")


def _check(sweep):
    try:
        check_figures(
            sweep.file.figures, sweep.axes, len(sweep.settings), sweep.file.measures, sweep.file.config
        )
    except InputError as error:
        raise InputError(f"{sweep.folder / SWEEP_FILE}: {error}") from None
    if not any(setting.finished for setting in sweep.settings):
        raise InputError(f"{sweep.folder}: no run of this sweep has finished; there is nothing to report")


def _is_figure(name):
    return name.startswith("figure")


def _incomplete(sweep):
    states = Counter(run["state"] for run in sweep.runs)
    others = [f"{states[state]} {state}" for state in STATES if state != "finished" and states[state]]
    if not others:
        return []
    return [f"> **Not complete.** Of {len(sweep.runs)} runs {states['finished']} finished, {listed(others)}."]


def _settings(sweep):
    """How good each is beside the values that follow from a setting: more than one of them moves in a sweep."""
    header = [
        "setting", f"{sweep.samples} per worker", "workers", f"{sweep.samples} per step", "rate", "epochs", "steps",
        "BN statistics", heading(sweep.measure), "seeds", "training",
    ]
    rows = []
    for setting in sweep.settings:
        run = (setting.finished or setting.runs)[0]
        time = setting.average("train_seconds")
        derived = [run[name] for name in ("images_per_worker", "workers", "images_per_step", "lr", "epochs", "steps")]
        rows.append([
            sweep.label(setting, [IMAGES]), *map(number, derived), run["evaluation_statistics"] or "",
            error_text(sweep, setting), f"{len(setting.finished)} of {setting.seeds}",
            duration(time.mean) if time else "",
        ])
    return [header, *rows]


def _repeats(sweep):
    repeats = sum(run["state"] == "finished" for run in sweep.runs) - sum(len(one.finished) for one in sweep.settings)
    return [f"Runs that repeat another one’s setting and seed, which counts instead: {repeats}."] if repeats else []


def _runs(sweep):
    names = [f"{name}{', %' * sweep.measure.percent}" for name in (sweep.median, "last", "best")]
    rows = [["run", "state", *names, "best epoch", "training"]]
    for run in sweep.runs:
        values = [run[column] for column in columns(sweep.measure)]
        rows.append([
            code(run["run"]), run["state"],
            *("" if value is None else number_of(sweep.measure, value) for value in values),
            number(run["best_epoch"]), "" if run["train_seconds"] is None else duration(run["train_seconds"]),
        ])
    return rows


def _failures(sweep):
    """The last lines that failed runs printed."""
    parts = []
    for run in sweep.runs:
        if run["state"] == "failed":
            lines = read_end(sweep.folder / run["run"] / FAILED_FILE, LAST_BYTES).splitlines()[-LAST_LINES:]
            parts += [code(run["run"]), *["\n".join(f"    {printable(line)}" for line in lines)] * bool(lines)]
    return ["## What failed", *parts] if parts else []


def _origin(sweep):
    """Times, hardware and versions, what of them was not the same for all runs, and how to do it again."""
    seconds = [run["train_seconds"] for run in sweep.runs if run["train_seconds"] is not None]
    facts = {"training, all runs together": duration(sum(seconds))}
    if sessions := sweep.sessions():
        shares = dict.fromkeys(f"{session.processes} at a time" for session in sessions)
        begun = min(sessions, key=_moment).started[:16].replace("T", " ")
        facts["wall time"] = f"{duration(_wall_seconds(sessions))}, {listed(shares)}, begun {begun}"
    differing = []
    environments = sweep.environments(ENVIRONMENT)
    for key, name in ENVIRONMENT.items():
        counts = Counter(str(found[key]) for found in environments if found[key] is not None)
        if len(counts) > 1:
            differing.append(name)
        if counts:
            texts = [f"{value} ({count} run{'s' * (count > 1)})" if len(counts) > 1 else value
                     for value, count in counts.items()]
            facts[name] = ", ".join(texts)
    parts = ["\n".join(f"- {name}: {escape(text)}" for name, text in facts.items())]
    if differing:
        parts.append(f"**Not all runs were made alike**: they differ in {listed(differing)}.")
    numbers = "Errors" if noun(sweep.measure) == "error" else "Numbers"
    parts.append(f"{numbers} are read from `{RESULTS_FILE}`, curves from each run’s `metrics.jsonl`. To do it again:")
    latest = sorted(sessions, key=_moment, reverse=True)  # earlier ones may have had other values
    commands = [session.arguments for session in latest if session.arguments is not None]
    whole = [arguments for arguments in commands if not any(one.startswith("--only") for one in arguments)]
    arguments = [*whole, *commands, ["-c", f"configs/sweeps/{sweep.file.file}"]][0]
    return [*parts, f"    python tools/sweep.py {shlex.join(arguments)}", PAPER]


def _wall_seconds(sessions: list[Session]):
    """How long at least one session was at work; several may have been at once."""
    total = end = 0
    for begun, seconds in sorted((_moment(session), session.seconds) for session in sessions):
        start, end = max(begun, end), max(begun + seconds, end)
        total += end - start
    return total


def _moment(session):
    return datetime.fromisoformat(session.started).timestamp()


def _title(sweep):
    return sweep.file.title or sweep.file.name


def _in_the_page(path):
    """A picture as an address that holds it."""
    kind = {".svg": "svg+xml", ".jpg": "jpeg"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _page(sweep, text, pictures):
    """report.html: the text with its pictures inside, so that the file is all that there is to send."""
    return PAGE.format(policy=POLICY, title=html.escape(_title(sweep)), style=STYLE, body=to_html(text, pictures))


def to_html(text: Markdown, pictures: Mapping[str, str]) -> str:
    """The HTML of a Markdown text. `pictures`: by its file, the address where a picture is shown from."""
    converter = markdown.Markdown(extensions=["tables"])
    for room, name in NOT_OURS:
        registry = converter
        for part in room.split("."):
            registry = getattr(registry, part)
        registry.deregister(name)

    class Pictures(Treeprocessor):
        def run(self, root):
            for image in root.iter("img"):
                image.set("src", pictures[image.get("src")])

    converter.treeprocessors.register(Pictures(converter), "pictures", 0)
    return converter.convert(text)
