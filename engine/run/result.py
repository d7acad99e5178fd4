"""What a run came to: result.json, made from metrics.jsonl by what its task measures."""

import functools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from paddle import nn

from engine.config import Config
from engine.errors import InputError
from engine.files import read_text, write_text
from engine.run.folder import RESULT_FILE
from engine.run.measure import MEDIAN_OF, Measure, columns, value_type
from engine.run.schema import Count, Number, Seconds, Text, checked, parse_json, read_records
from engine.terminal import printable
from models.cost import multiply_adds
from models.norm import described

METRICS_FILE = "metrics.jsonl"  # in a run's folder
SAMPLES_FILE = "samples.jpg"  # what some validation images show, and below it what was found there last
PRECISE_FILE = "precise.json"  # what `tools/eval.py --precise --json` printed, where somebody kept it there


class Record(pydantic.BaseModel):
    """A line of metrics.jsonl, as far as it is read, measures apart; it holds more numbers."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow")
    kind: str
    epoch: Count
    step: Count | None = None


class Result(pydantic.BaseModel):
    """What result.json holds, measures apart. lr is where the schedule starts."""

    model_config = pydantic.ConfigDict(strict=True)
    name: Text
    best_epoch: Count
    epochs: Count
    steps: Count
    norm: Text | None
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
    as_expected: bool | None = None  # only where something is expected


@functools.cache
def _record_of(measures: tuple[Measure, ...]) -> type[Record]:
    fields = {measure.name: (value_type(measure) | None, None) for measure in measures}
    return pydantic.create_model("Record", __base__=Record, **fields)


@functools.cache
def _result_of(measures: tuple[Measure, ...]) -> type[Result]:
    fields = {column: (value_type(measure), ...) for measure in measures for column in columns(measure)}
    return pydantic.create_model("Result", __base__=Result, **fields)


def parse_record(line: str, where: str, measures: Sequence[Measure] = ()) -> Record:
    """A line of metrics.jsonl; what it has of `measures` is a number. Raises InputError, which begins with `where`."""
    return checked(_record_of(tuple(measures)), parse_json(line, where), where)


def read_metrics(folder: Path, kind: str, *needed: str, measures: Sequence[Measure] = ()) -> list[dict[str, Any]]:
    """The lines of one kind in a run's metrics.jsonl: "train" (a window of steps), "epoch" or "eval".

    Raises InputError where the file is missing or damaged, or a line of this kind has no value that is `needed`, or
    none of one of the `measures`.
    """
    path, model = folder / METRICS_FILE, _record_of(tuple(measures))
    records = [record for record in read_records(path, model, "missing or damaged") if record.kind == kind]
    for record in records:
        for name in (*needed, *(measure.name for measure in measures)):
            if getattr(record, name, None) is None:
                raise InputError(f"{path}: damaged: a line of kind {kind}, epoch {record.epoch}, has no {name}")
    return [record.model_dump(exclude={"kind"}, exclude_unset=True) for record in records]


def read_result(folder: Path, measures: Sequence[Measure]) -> dict[str, Any]:
    """result.json of a finished run. Raises InputError where it is missing or damaged."""
    path = folder / RESULT_FILE
    return checked(_result_of(tuple(measures)), parse_json(read_text(path), path), path).model_dump(exclude_unset=True)


def read_precise(folder: Path, measure: Measure) -> float | None:
    """The measure of a run by BN's precise statistics; None where the folder does not have it. Raises InputError."""
    path = folder / PRECISE_FILE
    if not path.exists():
        return None
    kind = pydantic.create_model("Precise", **{measure.name: (value_type(measure), ...)})
    return getattr(checked(kind, parse_json(read_text(path), path), path), measure.name)


def write_result(
    config: Config, train_seconds: float, model: nn.Layer, image_shape: Sequence[int],
    measures: Sequence[Measure],
) -> dict[str, Any]:
    """Write result.json of a finished run and return it. lr is where the schedule starts.

    measures: of the run's task, the headline first, whose best evaluation gives `best_epoch`. parameters and
    multiply_adds (see models.cost) are those of the model, the latter for one image [C, H, W].
    Raises InputError where the config expects something of what was not evaluated.
    """
    evaluations = read_metrics(config.folder, "eval", "step", measures=measures)
    if not evaluations:
        raise InputError(f"{config.folder / METRICS_FILE}: damaged: has no evaluation of this finished run")
    best = [_best(evaluations, measure) for measure in measures]
    result = {"name": config.name}
    for measure, at_best in zip(measures, best, strict=True):
        values = [record[measure.name] for record in evaluations]
        of_the_run = (statistics.median(values[-MEDIAN_OF:]), values[-1], at_best[measure.name])
        result |= dict(zip(columns(measure), of_the_run, strict=True))
    norm = described(config.model)
    result |= {
        "best_epoch": best[0]["epoch"],
        "epochs": config.schedule.epochs,
        "steps": evaluations[-1]["step"],
        "norm": norm["norm"],
        "protocol": config.batch.protocol,
        "images_per_worker": config.batch.images_per_worker,
        "workers": config.batch.workers,
        "images_per_step": config.batch.images_per_step,
        "lr": config.lr,
        "evaluation_statistics": norm["evaluation_statistics"],
        "seed": config.seed,
        "parameters": sum(parameter.size for parameter in model.parameters()),
        "multiply_adds": multiply_adds(model, image_shape),
        "train_seconds": train_seconds,
    }
    if config.expect:
        result |= {f"expected_{key}": bound for key, bound in config.expect.items()}
        result["as_expected"] = as_expected(config.expect, evaluations[-1])
    write_text(config.folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return result


def _best(evaluations, measure):
    best = evaluations[0]
    for record in evaluations[1:]:
        if measure.better(record[measure.name], best[measure.name]):
            best = record
    return best


def check_expected(expect: Mapping[str, float] | None, measures: Sequence[Measure]) -> None:
    """Raise InputError where `expect` of a config wants a fraction to be what no fraction is, such as 18 for 18 %."""
    fractions = [measure.name for measure in measures if measure.percent]
    for key, bound in (expect or {}).items():
        if key.rpartition("_")[0] in fractions and not 0 <= bound <= 1:
            raise InputError(f"expect.{key}: {bound:g}, expected a fraction from 0 to 1")


def as_expected(expect: Mapping[str, float], numbers: Mapping[str, float | None]) -> bool:
    """Whether the numbers of an evaluation, by name, are what `expect` of a config says.

    Raises InputError where they lack one: to be called as soon as there is an evaluation.
    """
    met = []
    for key, bound in expect.items():
        name, _, side = key.rpartition("_")
        if numbers.get(name) is None:
            there = [other for other, number in numbers.items() if number is not None]
            there = [other for other in there if other not in Record.model_fields]
            raise InputError(f"expect.{key}: evaluation tells no {name}; expected one of {', '.join(there)}")
        met.append(numbers[name] < bound if side == "below" else numbers[name] > bound)
    return all(met)


def result_text(
    config: Config, result: Mapping[str, Any], measures: Sequence[Measure], *, check: bool = False
) -> str:
    """The lines that a command ends with; with `check` also what was expected."""
    seconds = int(result["train_seconds"])
    evaluations = min(MEDIAN_OF, math.ceil(config.schedule.epochs / config.evaluate_every_epochs))
    shown = [_in_words(measure, result, evaluations) for measure in measures]
    lines = [
        f"{shown[0]} (epoch {result['best_epoch']})",
        *shown[1:],
        f"training     {result['epochs']} epochs, {seconds // 60}:{seconds % 60:02} minutes",
        f"folder       {printable(config.folder)}",
        f"dashboard    visualdl --logdir {printable(config.output)}",
    ]
    if check and config.expect:
        verdict = "as expected" if result["as_expected"] else "NOT as expected"
        lines.insert(len(measures), f"expectation  {verdict}, {_expectations(config.expect, measures)}")
    return "\n".join(lines)


def _in_words(measure, result, evaluations):
    median, last, best = (measure.text(result[column]) for column in columns(measure))
    of_last = f"{median} in the median of the last {evaluations} evaluations, " * (evaluations > 1)
    return f"{measure.words:<11}  {last} at the end, {of_last}{best} at best"


def _expectations(expect, measures):
    """Such as `below 18.00 %`; what is not the headline is named."""
    texts = {measure.name: measure.text for measure in measures}
    parts = []
    for key, bound in expect.items():
        name, _, side = key.rpartition("_")
        bound = texts.get(name, "{:g}".format)(bound)
        parts.append(f"{side} {bound}" if name == measures[0].name else f"{name} {side} {bound}")
    return ", ".join(parts)
