"""How a label says the values of a setting: the norms' names, and a text for each key that has one."""

import json
from functools import partial
from pathlib import Path
from typing import get_args

from engine.report.records import (
    CHANNELS,
    FRAMES,
    FROZEN,
    GROUPS,
    IMAGES,
    MODEL,
    NORM,
    OFFSET_RATE,
    POOLING,
    PRETRAINED,
    ROI_OFFSET_RATE,
    STANDARDIZED,
)
from models.norm import Norm

RUNNING = "model.bn_running_statistics"
NORMS = {  # in the order of the paper's table 1; another is called by its own word, and comes after these
    "bn": "BN", "ln": "LN", "in": "IN", "gn": "GN", "sync_bn": "SyncBN", "frozen_bn": "FrozenBN", "none": "no norm",
    "brn": "BRN", "frn": "FRN", "evonorm_s0": "EvoNorm-S0",
}


def _norm_of(part, norm):
    """Such as `GN in the box head`."""
    return f"{NORMS.get(norm, norm)} in the {'pyramid' if part == 'fpn' else part.replace('_', ' ')}"


AXIS_TEXT = {  # how a label says a value; other axes say key=value
    NORM: lambda norm: NORMS.get(norm, norm),
    IMAGES: lambda n: f"{n} image{'s' * (n != 1)} per worker",
    GROUPS: "G = {}".format,
    CHANNELS: lambda n: f"{n} channel{'s' * (n != 1)} per group",
    RUNNING: {"first": "first worker", "mean": "mean of workers", "precise": "precise"}.get,
    PRETRAINED: lambda path: f"from {Path(*Path(str(path)).parts[-2:])}" if path else "from scratch",
    FROZEN: lambda parts: f"{'+'.join(_listed(parts)) or 'nothing'} frozen",
    MODEL: str,
    **{f"model.{part}_norm": partial(_norm_of, part) for part in ("fpn", "box_head", "mask_head")},
    "model.neck": {"fpn": "pyramid", "c4": "C4"}.get,
    POOLING: lambda kind: "RoIAlign" if kind == "align" else f"{kind} pooling",
    OFFSET_RATE: "offsets at {} of the rate".format,
    ROI_OFFSET_RATE: lambda rate: "bins that stay" if rate == 0 else f"offsets of RoIs at {rate} of the rate",
    "model.width": "width {}".format,
    STANDARDIZED: lambda standardized: "WS" if standardized else "no WS",
    "data.warp": "warp {}".format,
    FRAMES: "{} frames".format,
    "data.shuffled": lambda shuffled: "frames shuffled" if shuffled else "frames in order",
    "batch.protocol": "protocol {}".format,
    "schedule.epochs": "{} epochs".format,
}


def place_of_norm(norm: str | None) -> tuple[int, str]:
    """By which norms are sorted: those of NORMS, then the others that there are, then any that a folder may name."""
    known = list(dict.fromkeys([*NORMS, *get_args(Norm)]))
    return (known.index(norm), "") if norm in known else (len(known), norm or "")


def span(stages: list[str] | str | None) -> str:
    """`c3–c5` of c3, c4 and c5."""
    numbers = sorted(int(stage.lstrip("c")) for stage in _listed(stages))
    if numbers[1:] and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"c{numbers[0]}–c{numbers[-1]}"
    return ", ".join(f"c{number}" for number in numbers)


def _listed(stages):
    """The stages of a list, of its text in results.csv, or of None."""
    return (json.loads(stages) if isinstance(stages, str) else stages) or []
