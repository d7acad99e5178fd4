"""What a user should know of the data before training on them: counts, sizes, brightness, findings."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from data import Dataset
from data.check import Survey, survey
from engine.check_data.findings import PARTS, Finding, many
from engine.drawing import plain_table
from engine.environment import cores, is_watched
from engine.files import write_text, writing_into
from engine.terminal import printable

CHANNELS = {1: ("grey",), 3: ("R", "G", "B")}


def survey_sets(datasets: Sequence[Dataset], limit: int | None = None, noun: str = "picture") -> list[Survey]:
    """A Survey of each of (training, validation), with a progress bar where there is somebody to see it."""
    surveys = []
    for part, dataset in zip(PARTS, datasets, strict=True):
        total = min(limit or len(dataset), len(dataset))
        with tqdm(total=total, desc=part, unit=noun, leave=False, disable=not is_watched()) as bar:
            surveys.append(survey(dataset, limit=limit, threads=cores(), advance=bar.update))
    return surveys


def describe_data(
    name: str,
    data_name: str,
    datasets: Sequence[Dataset],
    surveys: Sequence[Survey],
    found: Iterable[Finding],
    classes: Sequence[dict] = (),
    noun: str = "picture",
) -> dict:
    """All that the report says, JSON-able: sizes of the files in pixels, mean and deviation of training in 0..1.

    name, data_name: of the config and of its data. found: as `findings` gives them. classes: as the task counts them,
    {"label", "class", "training", "validation"} of each; none where samples have no classes. noun: what people call a
    sample.
    """
    training, seen = datasets[0], surveys[0]
    sizes = np.concatenate([each.sizes for each in surveys])
    sizes = sizes[np.argsort(sizes.prod(axis=1, dtype=np.int64), kind="stable")].tolist()
    return {
        "name": name,
        "data": data_name,
        "sample": noun,
        **{
            part: {"pictures": len(dataset), "opened": survey.opened, "origin": dataset.origin}
            for part, dataset, survey in zip(PARTS, datasets, surveys, strict=True)
        },
        "classes": list(classes),
        "sizes": {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]} if sizes else {},
        "modes": dict(sum((each.modes for each in surveys), Counter()).most_common()),
        "channels": [
            {"channel": which, "mean": mean, "config_mean": constant, "deviation": deviation, "config_deviation": scale}
            for which, mean, constant, deviation, scale in zip(
                CHANNELS[training.image_shape[0]], seen.mean.tolist(), training.preparation.mean,
                seen.deviation.tolist(), training.preparation.std, strict=True,
            )
        ],
        "findings": [
            {"kind": each.kind, "text": each.text, "items": [_written(item) for item in each.items]} for each in found
        ],
    }


def _written(item):
    """A file's name may be bytes that are no UTF-8, GBK for one."""
    return item.encode("utf-8", "backslashreplace").decode("utf-8")


def report_text(report: dict, longest: int | None = None, where: str | Path = "") -> str:
    """The report for people; a list of more than `longest` lines ends in a word about `where` the others are."""

    def section(heading, lines):
        more = [f"… {len(lines) - longest:,} more in {where}"] if longest and len(lines) > longest else []
        return "\n  ".join(map(printable, [heading, *(lines[:longest] if more else lines), *more]))

    parts, noun = [], report["sample"]
    for part in PARTS:
        said = report[part]
        opened = f", {said['opened']:,} of them opened" if said["opened"] < said["pictures"] else ""
        origin = f": {said['origin']}" if said["origin"] else ""
        parts.append(f"{many(said['pictures'], f'{part} {noun}')}{opened}{origin}")
    classes = [
        f"{said['training']:8,}  {said['validation']:10,}  {said['label']} {said['class']}"
        for said in report["classes"]
    ]
    sections = [section(f"{report['name']}: {report['data']}{f', {len(classes)} classes' if classes else ''}", parts)]
    if classes:
        sections.append(section("  training  validation  class", classes))
    if report["sizes"]:
        sections.append(section("width x height, and the modes of the files", [
            ", ".join(f"{width} x {height} ({which})" for which, (width, height) in report["sizes"].items()),
            ", ".join(f"{mode} {count:,}" for mode, count in report["modes"].items()),
        ]))
        constant = "normalised with"
        numbers = [["", "mean", constant, "deviation", constant]]
        for channel, *values in map(dict.values, report["channels"]):
            numbers.append([channel, *(f"{value:.4f}" for value in values)])
        sections.append(section(f"training {noun}s as stored, 0 is black, 1 white", plain_table(numbers).splitlines()))
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
