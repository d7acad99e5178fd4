"""What the faults are done to: the smallest run of each task, a sweep of two of each, and what they leave untouched."""

import csv
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from test_train_resume import assert_same, scalars

from engine.files import read_text
from engine.run import checkpoint
from faults.moments import recording
from faults.process import Process, nothing, run

TASKS = {
    "classification": """
model: {name: resnet, depth: 18, width: 4, stem: small, norm: bn, bn_running_statistics: mean}
data: {name: synthetic, classes: 3, train_images: 16, validation_images: 8, image_size: 8, channels: 1}
batch: {images_per_worker: 2, workers: 2, workers_per_pass: 1}
ema_decay: 0.9
""",
    "detection": """
model: {name: mask_rcnn, depth: 18, width: 4, norm: bn, norm_groups: 2, bn_running_statistics: mean, fpn_channels: 4,
        fpn_norm: gn, head_channels: 4, box_head_features: 8, mask_head_norm: gn, anchor_sizes: [8, 16, 32, 64, 128],
        canonical_box_size: 36, anchors_per_image: 8, rois_per_image: 4, proposals_before_nms: [10, 10],
        proposals_after_nms: [6, 6], detections_per_image: 3, score_threshold: 0.0}
data: {name: garment_scenes, train_images: 6, validation_images: 2, image_size: 64, fresh: false}
batch: {images_per_worker: 1, workers: 2}
""",
    "clips": """
model: {name: i3d, depth: 18, width: 4, stem: small, stem_frames: 3, stem_time_stride: 1, norm: gn, norm_groups: 2}
data: {name: garment_clips, train_clips: 12, validation_clips: 10, frames: 4, image_size: 16}
batch: {images_per_worker: 2, workers: 2}
""",
}
# A checkpoint after each step: as many moments as there can be at which one is half written.
SHARED = """
device: cpu
optimizer: {base_lr: 0.02, reference_images_per_step: 8}
schedule: {name: cosine, epochs: 2}
reading: {evaluation_images: 5, processes: 0}
record: {every_steps: 2, sample_images: 1, histograms: false}
checkpoint: {every_minutes: 0.0001, every_epochs: 1, keep: 2}
"""
SWEEP = "_BASE_: run.yaml\nsweep:\n  axes: {seed: [0, 1]}\n  figures: [figure_5]\n"
READ_BY_PROCESSES = ("data.fresh=true", "data.image_size=32", "reading.processes=2")  # of clips
TIMES = {"train_seconds", "saved_at"}
OF_A_RUNNER = {"console.log", ".runner", "failed.txt"}


class Subject:
    """A run (or a sweep) of a task, in places of its own below a folder.

    Attributes: operations, the names of what it does to files when nothing disturbs it; seconds, that it takes then.
    """

    def __init__(self, place: Path, task: str, tool: str = "train", options: tuple = (), below: str = ""):
        self.place, self.task, self.tool, self.options = place, task, tool, list(options)
        self.numbers = itertools.count(1)
        self.whole = self.fresh("whole")
        names, begun = self.whole.parent / "operations.txt", time.monotonic()
        process = run(tool, self.arguments(self.whole), self.said(self.whole), recording(self.whole, names))
        self.seconds = time.monotonic() - begun
        if process.status:
            raise RuntimeError(f"{task}: left alone it ends with status {process.status}: {process.lines()[-20:]}")
        self.operations = read_text(names).splitlines()

    def fresh(self, name: str | None = None, within: Path | None = None) -> Path:
        """The folder, not made yet, of another one; the config that says so lies beside it."""
        parent = (within or self.place) / (name or f"{self.task}{next(self.numbers)}")
        self.write_config(parent)
        return parent / {"train": "run", "sweep": "run-sweep"}[self.tool]

    def write_config(self, parent: Path) -> None:
        """Into the folder that a run's or sweep's folder is in."""
        parent.mkdir(parents=True, exist_ok=True)
        (parent / "run.yaml").write_text(f"{TASKS[self.task]}{SHARED}output: {parent}\n")
        (parent / "run-sweep.yaml").write_text(SWEEP)

    def arguments(self, folder: Path) -> list:
        """Of the command that begins or continues it in a folder."""
        more = ["-r", "auto"] if self.tool == "train" else ["--jobs", "2"]
        options = ["-o", *self.options] if self.options else []
        return ["-c", folder.parent / f"{folder.name}.yaml", *more, *options]

    def said(self, folder: Path) -> Path:
        """The file with what was printed."""
        return self.place / f"{folder.parent.name}.said"

    def begin(self, folder: Path, before: Callable[[], object] = nothing) -> Process:
        """Begin or continue it, in a process of its own."""
        self.said(folder).unlink(missing_ok=True)
        return Process(self.tool, self.arguments(folder), self.said(folder), before)

    def end(self, folder: Path, before: Callable[[], object] = nothing) -> str:
        """Continue it to its end; what is not as if nothing had disturbed it, or ""."""
        process = self.begin(folder, before)
        if process.wait() is None:
            process.kill()
        if process.status:
            return f"does not go on: {of_last_line(process)}"
        return self.difference(folder)

    def difference(self, folder: Path) -> str:
        """What in the folder is not as if nothing had disturbed it, or ""."""
        try:
            (assert_same_run if self.tool == "train" else assert_same_sweep)(self.whole, folder)
        except AssertionError as difference:
            return f"not the same: {str(difference).splitlines()[0]}"
        return ""


def assert_same_run(whole: Path, folder: Path) -> None:
    """All that a run leaves, but for what a clock says."""
    left = [{path.name for path in each.iterdir()} - OF_A_RUNNER for each in (whole, folder)]
    assert left[0] == left[1], f"files {sorted(left[0] ^ left[1])}"
    same = (whole / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert same, "metrics.jsonl"
    for stem in ("latest", "best", *(f"epoch_{epoch}" for epoch in checkpoint.epochs_kept(whole))):
        assert_same(checkpoint.load(whole / stem), checkpoint.load(folder / stem), stem)
    results = [json.loads((each / "result.json").read_text()) for each in (whole, folder)]
    assert_same(*results, "result.json")
    assert scalars(whole) == scalars(folder), "vdl"
    for name in ("preparation.json", "data.json"):
        assert (whole / name).read_bytes() == (folder / name).read_bytes(), name


def assert_same_sweep(whole: Path, folder: Path) -> None:
    """All that a sweep leaves, but for what a clock says."""
    rows = []
    for each in (whole, folder):
        with open(each / "results.csv", newline="") as file:
            read = list(csv.DictReader(file))
        rows.append([{key: value for key, value in row.items() if key not in TIMES} for row in read])
    assert rows[0] == rows[1], "results.csv"
    for row in rows[0]:
        assert_same_run(whole / row["run"], folder / row["run"])
    written = [{path.name for path in each.iterdir() if not path.name.endswith(".part")} for each in (whole, folder)]
    assert written[0] == written[1], f"files {sorted(written[0] ^ written[1])}"
    for figure in whole.glob("*.svg"):
        assert figure.read_bytes() == (folder / figure.name).read_bytes(), figure.name


def of_last_line(process: Process) -> str:
    """How a process ended, in words."""
    last = (process.lines() or ["nothing"])[-1]
    return f"status {process.status}, said {last.replace(os.fspath(process.said.parent), '…')[-200:]}"


def unclear(process: Process, statuses: tuple[int, ...] = (1, 2)) -> str:
    """What is wrong with the end of a process that had to give up in one line, or ""."""
    lines = process.lines()
    errors = [line for line in lines if line.startswith("error: ") and not line.rstrip().endswith(":")]
    if process.status not in statuses or len(errors) != 1 or lines[-1:] != errors or "Traceback" in "".join(lines):
        return f"no clear line: {of_last_line(process)}"
    return ""
