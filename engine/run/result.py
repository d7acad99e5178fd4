"""What a run came to: result.json, made from metrics.jsonl."""

import json
import statistics
from pathlib import Path

import pydantic

from engine.config import Config
from engine.errors import InputError
from engine.files import read_text, write_text
from engine.run.folder import RESULT_FILE
from engine.run.schema import Count, Fraction, Number, Seconds, Text, checked, parse_json, read_records
from engine.terminal import printable
from models.cost import multiply_adds

METRICS_FILE = "metrics.jsonl"  # in a run's folder


class Record(pydantic.BaseModel):
    """A line of metrics.jsonl, as far as it is read; it holds more numbers."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow")
    kind: str
    epoch: Count
    step: Count | None = None
    top1_error: Fraction | None = None


class Result(pydantic.BaseModel):
    """What result.json holds. Errors are fractions; lr is where the schedule starts."""

    model_config = pydantic.ConfigDict(strict=True)
    name: Text
    top1_error_median_last_5: Fraction  # the GN paper's statistic
    top1_error_last: Fraction
    top1_error_best: Fraction
    best_epoch: Count
    epochs: Count
    steps: Count
    norm: Text
    protocol: Text
    images_per_worker: Count
    workers: Count
    images_per_step: Count
    lr: Number
    evaluation_statistics: Text | None
    seed: int
    parameters: Count
    multiply_adds: Count | None = None  # the first runs did not count them
    train_seconds: Seconds
    expected_top1_error_below: Number | None = None  # these two only where something is expected
    as_expected: bool | None = None


def parse_record(line: str, where: str) -> Record:
    """A line of metrics.jsonl. Raises InputError, which begins with `where`."""
    return checked(Record, parse_json(line, where), where)


def read_metrics(folder: Path, kind: str, *needed: str) -> list[dict]:
    """The lines of one kind in a run's metrics.jsonl: "train" (a window of steps), "epoch" or "eval".

    Raises InputError where the file is missing or damaged, or a line of this kind has no value that is `needed`.
    """
    path = folder / METRICS_FILE
    records = [record for record in read_records(path, Record, "missing or damaged") if record.kind == kind]
    for record in records:
        for name in needed:
            if getattr(record, name) is None:
                raise InputError(f"{path}: damaged: a line of kind {kind}, epoch {record.epoch}, has no {name}")
    return [record.model_dump(exclude={"kind"}, exclude_unset=True) for record in records]


def read_result(folder: Path) -> dict:
    """result.json of a finished run. Raises InputError where it is missing or damaged."""
    path = folder / RESULT_FILE
    return checked(Result, parse_json(read_text(path), path), path).model_dump(exclude_unset=True)


def write_result(config: Config, train_seconds, model, image_shape) -> dict:
    """Write result.json of a finished run and return it. Errors are fractions; lr is where the schedule starts.

    parameters and multiply_adds (see models.cost) are those of the model, the latter for one image [C, H, W].
    """
    evaluations = read_metrics(config.folder, "eval", "step", "top1_error")
    if not evaluations:
        raise InputError(f"{config.folder / METRICS_FILE}: damaged: has no evaluation of this finished run")
    errors = [record["top1_error"] for record in evaluations]
    best = min(evaluations, key=lambda record: record["top1_error"])
    result = {
        "name": config.name,
        "top1_error_median_last_5": statistics.median(errors[-5:]),  # the GN paper's statistic
        "top1_error_last": errors[-1],
        "top1_error_best": best["top1_error"],
        "best_epoch": best["epoch"],
        "epochs": config.schedule.epochs,
        "steps": evaluations[-1]["step"],
        "norm": config.model.norm,
        "protocol": config.batch.protocol,
        "images_per_worker": config.batch.images_per_worker,
        "workers": config.batch.workers,
        "images_per_step": config.batch.images_per_step,
        "lr": config.lr,
        "evaluation_statistics": config.model.bn_running_statistics if config.model.norm == "bn" else None,
        "seed": config.seed,
        "parameters": sum(parameter.size for parameter in model.parameters()),
        "multiply_adds": multiply_adds(model, image_shape),
        "train_seconds": train_seconds,
    }
    if config.expect:
        result["expected_top1_error_below"] = config.expect.top1_error_below
        result["as_expected"] = result["top1_error_last"] < config.expect.top1_error_below
    write_text(config.folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return result


def result_text(config: Config, result: dict, *, check=False) -> str:
    """The lines that a command ends with; with `check` also what was expected."""
    seconds = int(result["train_seconds"])
    lines = [
        f"top-1 error  {100 * result['top1_error_last']:.2f} % at the end, "
        f"{100 * result['top1_error_median_last_5']:.2f} % in the median of the last 5 evaluations, "
        f"{100 * result['top1_error_best']:.2f} % at best (epoch {result['best_epoch']})",
        f"training     {result['epochs']} epochs, {seconds // 60}:{seconds % 60:02} minutes",
        f"folder       {printable(config.folder)}",
        f"dashboard    visualdl --logdir {printable(config.output)}",
    ]
    if check and "as_expected" in result:
        verdict = "as expected, below" if result["as_expected"] else "NOT as expected, below"
        lines.insert(1, f"expectation  {verdict} {100 * result['expected_top1_error_below']:.1f} %")
    return "\n".join(lines)
