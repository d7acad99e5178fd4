"""tools/bench.py step: a training step of a GN ResNet-50 with this project's kernels and settings, and without."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.bench.child import KEEP_MEMORY, Child, ChildError, others, race, summary
from engine.bench.ops import DTYPE
from engine.bench.targets import Target, judge

THREADS = os.environ["OMP_NUM_THREADS"].partition(",")[0]
FULL = {"images": 32, "size": 64, "width": 64, "classes": 1000}
THIN = {"images": 64, "size": 28, "width": 16, "classes": 10}  # the sweeps' network
QUICK = {"images": 2, "size": 32, "width": 8, "classes": 10}


class Stepper(NamedTuple):
    """Who makes steps: a job of engine/bench/`backend`_jobs.py in a child with these settings and this environment."""

    words: str
    backend: str
    settings: str
    environment: dict
    arguments: dict
    loss_of: str | None = None  # the stepper whose first loss is to be found again


OURS = {"OMP_NUM_THREADS": THREADS}
STEPPERS = {
    "ours": Stepper("GN, our kernels, the project's settings", "paddle", "project", OURS, {"norm": "ours"}),
    "default": Stepper(
        "Paddle's GN, Paddle's default settings", "paddle", "bare", {"NATIVE_OPS": "0"}, {"norm": "Paddle"}, "ours"
    ),
    "settings": Stepper(
        "Paddle's GN, the project's settings", "paddle", "project", {**OURS, "NATIVE_OPS": "0"}, {"norm": "Paddle"},
        "ours",
    ),
    "DCN": Stepper(
        "GN and DCNv2 in c3-c5, our kernels, the project's settings", "paddle", "project", OURS,
        {"norm": "ours", "deformable_stages": ["c3", "c4", "c5"]},
    ),
    "convolutions": Stepper(
        "GN by our kernels, Paddle's convolutions, the project's settings", "paddle", "project", OURS,
        {"norm": "ours", "convolutions": "Paddle"}, "ours",
    ),
    "none": Stepper("no norm at all, the project's settings", "paddle", "project", OURS, {"norm": "none"}),
    "PyTorch": Stepper("PyTorch's GN, the same threads and allocator", "torch", "bare", {**OURS, **KEEP_MEMORY}, {}),
}
TARGETS = [
    Target("ours", "default", 0.65), Target("ours", "PyTorch", 0.85), Target("DCN", "ours", 1.2),
    Target("ours", "convolutions", 1.05, of="peaks"),
]
THIN_TARGETS = [Target("convolutions", "ours", 1.8, at_least=True)]
NAMES = list(STEPPERS)


def measure(only: Sequence[str], quick: bool) -> Iterator[dict]:
    """A section a network: the steppers `only`, each in fresh processes, that take turns."""
    networks = [("a ResNet-50", FULL, TARGETS), ("the sweeps' ResNet-50 of width 16", THIN, THIN_TARGETS)]
    if quick:
        networks = [("a tiny ResNet-50", QUICK, [])]
    for network, size, targets in networks:
        shape = [size["images"], 3, size["size"], size["size"]]
        yield section_of_steps({name: STEPPERS[name] for name in only}, "step", network, shape, size, targets, quick)


def section_of_steps(
    steppers: Mapping[str, Stepper], op: str, network: str, shape: list[int], size: Mapping[str, int],
    targets: Sequence[Target], quick: bool,
) -> dict:
    """What tools/bench.py prints of a network's steps on batches of this shape: those of the job `op`, given `size`."""
    rounds, seconds = (1, 0.01) if quick else (3, 3.0)
    section = {"kind": "step", "title": f"training step of {network}: forward, loss, backward, optimizer"}
    section |= {"dtype": DTYPE, "threads": int(THREADS), "versions": {}, "left_out": {}}
    blocks, losses, peaks = {name: [] for name in steppers}, {}, {}
    for _ in range(rounds):
        for name, stepper in steppers.items():
            try:
                losses[name], block, peaks[name], versions = _steps(stepper, op, size, seconds)
            except ChildError as error:
                if stepper.backend != "torch":
                    raise
                section["left_out"][name] = str(error)
            else:
                blocks[name].append(block)
                section["versions"] = versions | section["versions"]
    row = {"shape": shape, "width": size["width"]}
    row["times"] = {
        name: {"words": steppers[name].words, **summary(taken)} for name, taken in blocks.items() if taken
    }
    row["others_cores"] = others(sum(blocks.values(), []))
    row["values"] = {name: times["forward_backward_ms"] for name, times in row["times"].items()}
    row["peaks"] = {name: peak for name, peak in peaks.items() if peak is not None}
    row["disagree"] = [name for name in row["times"] if _differs(losses, name, steppers[name].loss_of)]
    section |= {"rows": [row], "targets": [judge(target, [row]) for target in targets]}
    if any(target["missed_by"] for target in section["targets"]) and "none" in row["values"]:
        share = row["values"]["none"] / row["values"]["ours"]
        row["bound"] = f"without any norm the step takes {share:.0%} of ours: that is convolutions and the optimizer"
    return section


def _steps(stepper, op, size, seconds):
    """The loss of the first step, a block of later ones, the process's peak memory, and the versions."""
    with Child(stepper.backend, settings=stepper.settings, **stepper.environment) as child:
        versions = child.ask("hello")
        (loss,) = child.ask("prepare", name="step", op=op, **stepper.arguments, **size)
        block = race([(child, "step")], 1, seconds)[0][0]
        return loss, block, child.ask("peak_of_process"), versions


def _differs(losses, name, other):
    return other in losses and not np.isclose(losses[name], losses[other], rtol=1e-3)
