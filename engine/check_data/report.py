"""What a user should know of the data before training on them: counts, sizes, brightness, findings."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from data.check import survey
from engine.check_data.findings import PARTS, findings
from engine.config import Config
from engine.drawing import plain_table
from engine.environment import cores, is_watched
from engine.files import write_text, writing_into
from engine.terminal import printable

CHANNELS = {1: ("grey",), 3: ("R", "G", "B")}


def survey_sets(datasets, limit: int | None = None):
    """A Survey of each of (training, validation), with a progress bar where there is somebody to see it."""
    surveys = []
    for part, dataset in zip(PARTS, datasets, strict=True):
        total = min(limit or len(dataset), len(dataset))
        with tqdm(total=total, desc=part, unit="picture", leave=False, disable=not is_watched()) as bar:
            surveys.append(survey(dataset, limit=limit, threads=cores(), advance=bar.update))
    return surveys


def describe_data(config: Config, datasets, surveys) -> dict:
    """All that the report says, JSON-able: sizes of the files in pixels, mean and deviation of training in 0..1."""
    training, validation = datasets
    counts = [np.bincount(dataset.labels, minlength=len(training.classes)).tolist() for dataset in datasets]
    seen, constants = surveys[0], training.preparation
    sizes = np.concatenate([each.sizes for each in surveys])
    sizes = sizes[np.argsort(sizes.prod(axis=1, dtype=np.int64), kind="stable")].tolist()
    return {
        "name": config.name,
        "data": config.data.name,
        "training": {"pictures": len(training), "opened": seen.opened, "origin": getattr(training, "origin", "")},
        "validation": {
            "pictures": len(validation), "opened": surveys[1].opened, "origin": getattr(validation, "origin", ""),
        },
        "classes": [
            {"label": label, "class": name, "training": counts[0][label], "validation": counts[1][label]}
            for label, name in enumerate(training.classes)
        ],
        "sizes": {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]} if sizes else {},
        "modes": dict(sum((each.modes for each in surveys), Counter()).most_common()),
        "channels": [
            {"channel": name, "mean": mean, "config_mean": constant, "deviation": deviation, "config_deviation": scale}
            for name, mean, constant, deviation, scale in zip(
                CHANNELS[training.image_shape[0]], seen.mean.tolist(), constants.mean, seen.deviation.tolist(),
                constants.std, strict=True,
            )
        ],
        "findings": [
            {"kind": found.kind, "text": found.text, "items": [_written(item) for item in found.items]}
            for found in findings(config, datasets, surveys)
        ],
    }


def _written(item):
    """A file's name may be bytes that are no UTF-8, GBK for one."""
    return item.encode("utf-8", "backslashreplace").decode("utf-8")


def report_text(report: dict, longest: int | None = None, where="") -> str:
    """The report for people; a list of more than `longest` lines ends in a word about `where` the others are."""

    def section(heading, lines):
        more = [f"… {len(lines) - longest:,} more in {where}"] if longest and len(lines) > longest else []
        return "\n  ".join(map(printable, [heading, *(lines[:longest] if more else lines), *more]))

    parts = []
    for part in PARTS:
        said = report[part]
        opened = f", {said['opened']:,} of them opened" if said["opened"] < said["pictures"] else ""
        origin = f": {said['origin']}" if said["origin"] else ""
        parts.append(f"{said['pictures']:,} {part} pictures{opened}{origin}")
    sections = [
        section(f"{report['name']}: {report['data']}, {len(report['classes'])} classes", parts),
        section("  training  validation  class", [
            f"{said['training']:8,}  {said['validation']:10,}  {said['label']} {said['class']}"
            for said in report["classes"]
        ]),
    ]
    if report["sizes"]:
        sections.append(section("width x height, and the modes of the files", [
            ", ".join(f"{width} x {height} ({which})" for which, (width, height) in report["sizes"].items()),
            ", ".join(f"{mode} {count:,}" for mode, count in report["modes"].items()),
        ]))
        constant = "normalised with"
        numbers = [["", "mean", constant, "deviation", constant]]
        for channel, *values in map(dict.values, report["channels"]):
            numbers.append([channel, *(f"{value:.4f}" for value in values)])
        sections.append(section("training pictures as stored, 0 is black, 1 white", plain_table(numbers).splitlines()))
    sections += [section(f"{found['kind']}: {found['text']}", found["items"]) for found in report["findings"]]
    return "\n\n".join(sections if has_problems(report) else [*sections, "no problems found"])


def has_problems(report: dict) -> bool:
    """Whether there is something that should be mended before training."""
    return any(found["kind"] == "problem" for found in report["findings"])


def write_data_report(report: dict, folder: Path) -> list[Path]:
    """Write report.txt, whole, and report.json; returns them. Raises InputError."""
    texts = {"report.txt": report_text(report), "report.json": json.dumps(report, indent=2, ensure_ascii=False)}
    with writing_into(folder):
        for name, text in texts.items():
            write_text(folder / name, text + "\n")
    return [folder / name for name in texts]
