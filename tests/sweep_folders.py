"""Folders of sweeps as tools/sweep.py leaves them, with made-up results; the fixture `make_sweep` of all tests."""

import csv
import functools
import itertools
import json

import pytest
import yaml

from engine.report.drawings import DRAWINGS
from engine.report.results import read_sweep

NORM, IMAGES, RUNNING = "model.norm", "batch.images_per_worker", "model.bn_running_statistics"
GROUPS, CHANNELS = "model.norm_groups", "model.norm_channels_per_group"
DEFORMABLE, VERSION, DILATED = "model.deformable_stages", "model.deformable_version", "model.dilated_stages"
CONFIG = {
    "seed": 0, "batch": {"images_per_worker": 32}, "bn_precise_images": 2000, "ema_decay": None,
    "model": {"name": "resnet", "depth": 50, "width": 16, "norm": "gn", "norm_groups": 8,
              "bn_running_statistics": "mean"},
    "data": {"name": "fashion_mnist", "root": None, "train_images": 10000, "validation_images": None},
    "optimizer": {"name": "momentum", "base_lr": 0.1, "reference_images_per_step": 256, "momentum": 0.9,
                  "nesterov": True, "weight_decay": 1e-4, "decay_norm_and_bias": True},
    "schedule": {"name": "cosine", "epochs": 4, "milestones": [2, 3], "factor": 0.1, "final_lr": 0.0,
                 "warmup_epochs": 0.5},
}
ERRORS = {  # of three seeds; mean and sample deviation in percent, by hand
    ("bn", 32): [0.10, 0.12, 0.14],  # 12.00  2.00
    ("bn", 2): [0.20, 0.21, 0.25],  # 22.00  sqrt(7) = 2.65
    ("gn", 32): [0.11, 0.12, 0.16],  # 13.00  sqrt(7) = 2.65
    ("gn", 2): [0.13, 0.13, 0.16],  # 14.00  sqrt(3) = 1.73
}
FIGURE_1_AXES = {NORM: ["bn", "gn"], IMAGES: [32, 2], "seed": [0, 1, 2]}
OTHER_COMMIT = "f" * 40


def error_of(values):
    return ERRORS[values.get(NORM, "gn"), values.get(IMAGES, 32)][values.get("seed", 0)]


@pytest.fixture
def make_sweep(tmp_path):
    """make(grids, figures, ...) writes the folder of a sweep with 4 epochs a run, as it is when only results are kept.

    A run's validation error is `error(values)` after the last epoch, the median of all too, and 0.02 more for each
    epoch before the third; its training error is half of that, unless it is not `trained`. `measure`: what stands in
    place of the top-1 error, as sweep.yaml describes it; without one it does not say.
    """

    def make(grids, figures=("table_2",), error=error_of, states=None, name="sweep", trained=True, **described):
        folder = tmp_path / name
        folder.mkdir()
        grids = [grids] if isinstance(grids, dict) else grids
        described = {"name": name, "file": f"{name}.yaml", "axes": grids, "title": None, "figures": list(figures),
                     "statistic": "median_last_5", "config": CONFIG, **described}
        measured = described.get("measure", {"name": "top1_error"})["name"]
        (folder / "sweep.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
        (folder / "sessions.jsonl").write_text('{"started": "2026-01-01T00:00:00", "seconds": 60.0, "processes": 2}\n')
        axes, rows = dict.fromkeys(key for grid in grids for key in grid), []
        for grid in grids:
            for chosen in itertools.product(*grid.values()):
                values = dict(zip(grid, chosen, strict=True))
                sets = [choices[values[axis]] for axis, choices in grid.items() if isinstance(choices, dict)]
                settings = {key: value for one in sets for key, value in one.items()}
                rows.append(row(values, settings, error(values), states or {}, measured))
                write_run(folder / rows[-1]["run"], rows[-1], error(values), measured, trained)
                rows[-1] |= in_effect({**axes, **settings}, values | settings, described["config"])
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with open(folder / "results.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return make


def in_effect(axes, values, config):
    """The columns of the axes: JSON, or a text as it is."""
    base = {axis: functools.reduce(lambda at, key: at and at.get(key), axis.split("."), config) for axis in axes}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in (base | values).items()}


def row(values, settings, error, states, measured):
    run = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
    values = values | settings
    norm, images = values.get(NORM, "gn"), values.get(IMAGES, 32)
    state = states.get(run, "finished")
    statistics = {f"{measured}_{name}": error + more
                  for name, more in (("median_last_5", 0), ("last", 0.01), ("best", -0.01))}
    return {
        "run": run, "state": state, "protocol": "paper", "norm": norm,
        "norm_groups": values.get(GROUPS, 8) if norm == "gn" and CHANNELS not in values else "",
        "norm_channels_per_group": values.get(CHANNELS, "") if norm == "gn" else "",
        "images_per_worker": images, "workers": 8, "images_per_step": 8 * images, "lr": 0.1 * images / 32, "epochs": 4,
        "steps": 1250, "evaluation_statistics": values.get(RUNNING, "mean") if norm in ("bn", "brn") else "",
        "seed": values.get("seed", 0), "best_epoch": 3, "parameters": 1000,
        "train_seconds": 100 + values.get("seed", 0),
        **(statistics if state == "finished" else dict.fromkeys(statistics, "")),
    }


def write_run(folder, row, error, measured, trained):
    folder.mkdir(exist_ok=True)
    if row["state"] == "waiting":
        return
    lines = []
    for epoch in (1, 2, 3, 4):
        now = error + 0.02 * max(0, 3 - epoch)
        shared = {"epoch": epoch, "step": epoch, "loss": 1.0}
        lines += [{"kind": "train", **shared}, {"kind": "epoch", **shared, **({measured: now / 2} if trained else {})},
                  {"kind": "eval", **shared, measured: now}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = {"python": "3.11", "paddle": "3.3.1", "numpy": "2.4", "device_name": "a <device>", "cores": 2}
    commit = OTHER_COMMIT if row["seed"] == 2 else "a" * 40
    (folder / "env.json").write_text(json.dumps({**facts, "commit": commit}))
    if row["state"] == "failed":
        (folder / "failed.txt").write_text("first line\n" * 11 + "ValueError: <b> | broke\n")


def drawn(folder, name):
    """(axes, {label: (x, y)} for each of them, caption) of a figure, without writing it."""
    figure, caption = DRAWINGS[name].draw(read_sweep(folder))
    lines = [{line.get_label(): tuple(map(list, line.get_data())) for line in axes.lines} for axes in figure.axes]
    return figure.axes, lines, caption
