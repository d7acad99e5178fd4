"""What a run came to: result.json, made from metrics.jsonl."""

import json
import statistics
from pathlib import Path

from engine.config import Config
from engine.cost import multiply_adds
from engine.errors import InputError
from engine.folder import write_text
from engine.terminal import printable


def read_metrics(folder: Path, kind: str) -> list[dict]:
    """The lines of one kind in a run's metrics.jsonl: "train" (a window of steps), "epoch" or "eval"."""
    path = folder / "metrics.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})") from None
    return [record for record in records if record.pop("kind") == kind]


def write_result(config: Config, train_seconds, model, image_shape) -> dict:
    """Write result.json of a finished run and return it. Errors are fractions; lr is where the schedule starts.

    parameters and multiply_adds (see engine.cost) are those of the model, the latter for one image [C, H, W].
    """
    evaluations = read_metrics(config.folder, "eval")
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
    write_text(config.folder / "result.json", json.dumps(result, indent=2) + "\n")
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
