"""Folders of sweeps that somebody else ran, to be reported. tests/test_report_strangers.py has more of their values."""

import json
import shutil

from conftest import ROOT

from hostile.files import ESCAPES, link, pipe, sparse, written

RUN = "norm=bn,images_per_worker=32,seed=0"
FILES = ("sweep.yaml", "results.csv", "sessions.jsonl", "*/metrics.jsonl", "*/env.json")


def report(spoil):
    """A sweep's folder in which `spoil(it)` changes something."""

    def make(folder):
        place = folder / "strange"
        for pattern in FILES:
            for path in (ROOT / "results" / "quick").glob(pattern):
                target = place / path.relative_to(ROOT / "results" / "quick")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        spoil(place)
        return ["report.py", "-s", place]

    return make


def text(name, content):
    return report(lambda place: written(place / name, content))


def swapped(name, *pairs):
    """A text in which words are others."""

    def spoil(place):
        content = (place / name).read_text()
        for old, new in pairs:
            assert old in content, (name, old)
            content = content.replace(old, new)
        written(place / name, content)

    return report(spoil)


def piped(name):
    return report(lambda place: pipe(place / name))


def is_device(name):
    return report(lambda place: link(place / name, "/dev/zero"))


def huge(name):
    return report(lambda place: sparse(place / name, 10**12))


def rows(change):
    """Other lines of results.csv: change(*lines)."""

    def spoil(place):
        written(place / "results.csv", "\n".join(change(*(place / "results.csv").read_text().splitlines())) + "\n")

    return report(spoil)


def leads_away(place):
    link(place / ".lock", written(place.parent / "precious", "kept"))


def failed(content):
    """One run has failed, and this is what it printed last."""

    def spoil(place):
        rows = (place / "results.csv").read_text().replace(f'"{RUN}",finished', f'"{RUN}",failed')
        written(place / "results.csv", rows)
        content(place / RUN / "failed.txt")

    return report(spoil)


def line(**values):
    return json.dumps({"kind": "eval", "epoch": 1, "step": 1, "loss": 1.0, "top1_error": 0.5, **values}) + "\n"


METRICS = f"{RUN}/metrics.jsonl"
ESCAPED = json.dumps(ESCAPES)[1:-1]
CASES = {
    "no folder": (
        lambda folder: ["report.py", "-s", folder / "none"], r"sweep\.yaml: no such file; expected the folder",
    ),
    "an empty folder": (lambda folder: ["report.py", "-s", folder], r"sweep\.yaml: no such file"),
    "a file": (lambda folder: ["report.py", "-s", written(folder / "x", "y")], r"x/sweep\.yaml: "),
    "a name too long": (lambda folder: ["report.py", "-s", "x" * 256], r"-s/--sweep: x+….*too long"),
    "a name with an escape": (lambda folder: ["report.py", "-s", ESCAPES], r"\\x1b.*sweep\.yaml: no such file"),
    "a description of code": (text("sweep.yaml", "a: !!python/name:os.system\n"), r"sweep\.yaml: not valid YAML"),
    "a description in itself": (text("sweep.yaml", "a: &a [*a]\n"), r"sweep\.yaml: not valid YAML"),
    "a description of a list": (text("sweep.yaml", "[]\n"), r"sweep\.yaml: expected a mapping"),
    "a description of little": (text("sweep.yaml", "name: x\n"), r"sweep\.yaml: file: Field required"),
    "a description that is a pipe": (piped("sweep.yaml"), r"sweep\.yaml: is a pipe"),
    "a description that is a device": (is_device("sweep.yaml"), r"sweep\.yaml: is a pipe, socket or device"),
    "a description of 1 TB": (huge("sweep.yaml"), r"sweep\.yaml: is larger than"),
    "a figure by a path": (swapped("sweep.yaml", ("figure_1", "../../figure_1")), r"sweep\.yaml: .*figure_1"),
    "a figure with an escape": (swapped("sweep.yaml", ("figure_1", f'"{ESCAPED}"')), r"sweep\.yaml: .*\\x1b"),
    "a measure of a tag": (swapped("sweep.yaml", ("name: top1_error", 'name: "<svg onload=x>"')), r"measure\.name"),
    "a measure's words without end": (swapped("sweep.yaml", ("top-1 error", "w" * 9999)), r"measure\.words"),
    "a measure of other files": (
        swapped("sweep.yaml", ("name: top1_error", "name: loss")), r"results\.csv: has no column",
    ),
    "an axis of a class": (
        swapped("sweep.yaml", ("model.norm:", "model.__class__.x:")), r"results\.csv: has no column",
    ),
    "no results": (report(lambda place: (place / "results.csv").unlink()), r"results\.csv: no such file; tools/sweep"),
    "empty results": (text("results.csv", ""), r"results\.csv: has no column"),
    "results of no rows": (rows(lambda head, *rest: [head]), r"sweep\.yaml: figures: figure_1 needs"),
    "results of a million rows": (
        rows(lambda head, first, *rest: [head, *[first] * 20_000]), r"results\.csv: has more than 10,000 runs",
    ),
    "results of NULs": (text("results.csv", bytes(9999)), r"results\.csv: "),
    "results with a quote that stays open": (
        swapped("results.csv", (",finished", ',"finished')), r"results\.csv: line \d+: ",
    ),
    "results that are a pipe": (piped("results.csv"), r"results\.csv: is no ordinary file"),
    "results that are a device": (is_device("results.csv"), r"results\.csv: is no ordinary file"),
    "results of 1 TB": (huge("results.csv"), r"results\.csv: has more than 268,435,456 bytes"),
    "a run that leads out": (
        swapped("results.csv", (f'"{RUN}"', "../../etc")), r"line 2: damaged: run is \.\./\.\./etc",
    ),
    "a run of a disk": (swapped("results.csv", (f'"{RUN}"', "/etc")), r"line 2: damaged: run is /etc"),
    "a run with an escape": (swapped("results.csv", (f'"{RUN}"', f"a{ESCAPES}")), r"run is a\\x1b"),
    "a run of 300 letters": (swapped("results.csv", (f'"{RUN}"', "r" * 300)), r"run is r+ … r+"),
    "a run that is not there": (
        swapped("results.csv", (f'"{RUN}"', "none")), r"none/metrics\.jsonl: missing or damaged",
    ),
    "a state with a tag": (
        swapped("results.csv", (",finished", ",<script>")), r"state <script>, expected one of finished",
    ),
    "lines in each other": (text(METRICS, "[" * 100_000), r"metrics\.jsonl: line 1: damaged"),
    "a line without end": (
        text(METRICS, '{"kind": "' + "x" * 2_000_000), r"metrics\.jsonl: damaged \(line 1 has more than",
    ),
    "an epoch below 0": (text(METRICS, line(epoch=-1)), r"metrics\.jsonl: line 1: epoch: "),
    "an epoch of 10^40": (text(METRICS, line(epoch=10**40)), r"metrics\.jsonl: line 1: epoch: "),
    "an epoch that is true": (text(METRICS, line(epoch=True)), r"metrics\.jsonl: line 1: epoch: "),
    "an error beyond 1": (text(METRICS, line(top1_error=1e300)), r"metrics\.jsonl: line 1: top1_error: "),
    "an error with an escape": (text(METRICS, line(top1_error=ESCAPES)), r"metrics\.jsonl: line 1: top1_error: "),
    "a key with an escape": (text(METRICS, line(**{"kind": 1, ESCAPES: 1})), r"metrics\.jsonl: line 1: kind: "),
    "lines that are a pipe": (piped(METRICS), r"metrics\.jsonl: is no ordinary file"),
    "lines that are a device": (is_device(METRICS), r"metrics\.jsonl: is no ordinary file"),
    "lines of 1 TB": (huge(METRICS), r"metrics\.jsonl: damaged \(line \d+ has more than 1,048,576 bytes"),
    "a place of lists": (text(f"{RUN}/env.json", '{"cores": [1]}'), r"env\.json: cores"),
    "a place in itself": (text(f"{RUN}/env.json", '{"a":' * 99_999), r"env\.json: damaged"),
    "a place that is a pipe": (piped(f"{RUN}/env.json"), r"env\.json: is no ordinary file"),
    "a session of no time": (
        text("sessions.jsonl", '{"started": "x", "seconds": 1, "processes": 1}\n'), r"line 1: started",
    ),
    "a session of 10^400 seconds": (
        text("sessions.jsonl", '{"started": "2026-01-01", "seconds": 1e400, "processes": 1}\n'), r"line 1: seconds",
    ),
    "a session of 10^20 processes": (
        text("sessions.jsonl", f'{{"started": "2026-01-01", "seconds": 1, "processes": {10**20}}}\n'),
        r"line 1: processes",
    ),
    "precise numbers of a list": (text(f"{RUN}/precise.json", "[]"), r"precise\.json: "),
    "last words that are a pipe": (failed(pipe), r"failed\.txt: is no ordinary file"),
    "last words that are a device": (failed(lambda path: link(path, "/dev/zero")), r"failed\.txt: is no ordinary file"),
    "a folder in the report's place": (
        report(lambda place: (place / "report.html").mkdir()), r"report\.html: is a folder; expected a file",
    ),
    "a lock that leads away": (report(leads_away), r"\.lock: is a link"),
}
