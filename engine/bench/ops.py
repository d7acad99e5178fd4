"""tools/bench.py ops: group norm, batch norm, plain and deformable convolution beside their peers and their floors."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.bench.child import KEEP_MEMORY, RETURN_MEMORY, Child, ChildError, others, race, summary
from engine.bench.targets import Target, judge, what_bounds
from engine.environment import cores

NORM_SHAPES = ([8, 64, 112, 112], [8, 256, 56, 56], [8, 512, 28, 28], [8, 1024, 14, 14], [8, 2048, 7, 7])
DCN_SHAPES = ([8, 128, 28, 28], [8, 256, 14, 14], [8, 512, 7, 7], [2, 256, 56, 56])
# Of ResNet-50 at 64 and 224 pixels, and of the sweeps' thin network: N, C, H, W, C_out, kernel, stride.
CONVOLUTION_SHAPES = (
    [32, 64, 16, 16, 64, 3, 1], [32, 64, 16, 16, 256, 1, 1], [32, 256, 16, 16, 64, 1, 1], [32, 128, 8, 8, 128, 3, 1],
    [32, 512, 8, 8, 128, 1, 1], [32, 256, 4, 4, 256, 3, 1], [32, 512, 2, 2, 512, 3, 1], [32, 1024, 4, 4, 256, 1, 1],
    [8, 64, 56, 56, 64, 3, 1], [8, 256, 56, 56, 64, 1, 1], [8, 128, 28, 28, 128, 3, 1], [16, 32, 14, 14, 32, 3, 1],
    [16, 16, 28, 28, 16, 3, 1], [32, 128, 16, 16, 128, 3, 2], [32, 256, 16, 16, 512, 1, 2], [32, 3, 64, 64, 64, 7, 2],
    [8, 3, 224, 224, 64, 7, 2],
)
TINY_CONVOLUTION = [1, 4, 3, 3, 4, 3, 1]
TINY_NORM, TINY_DCN = [8, 32, 2, 2], [1, 4, 3, 3]  # what a call costs
# Times that the whole tensor is read or written at least; a set of values stays in the cache between its two readings.
PASSES = {"forward": 2, "forward_backward": 5}  # x, y; and x, dy, dx
DTYPE = "float32"


class Contender(NamedTuple):
    name: str
    backend: str  # whose child runs it
    op: str
    arguments: dict
    same: bool = True  # computes the same numbers as ours


GN = [
    Contender("ours", "paddle", "group_norm", {"by": "ours", "groups": 32}),
    Contender("Paddle", "paddle", "group_norm", {"by": "Paddle", "groups": 32}),
    Contender("PyTorch", "torch", "group_norm", {"groups": 32}),
]
GN_RELU = [contender._replace(arguments={**contender.arguments, "relu": True}) for contender in GN]
BN = [
    Contender("ours", "paddle", "batch_norm", {"by": "ours", "images_per_worker": 2}),
    Contender("Paddle", "paddle", "batch_norm", {"by": "Paddle"}, same=False),
    Contender("PyTorch", "torch", "batch_norm", {}, same=False),
]
OTHER_NORMS = {"brn": "batch renorm, workers of 2 images", "frn": "filter response norm", "evonorm_s0": "EvoNorm-S0"}
DCN = [
    Contender("ours", "paddle", "convolution", {"by": "ours"}),
    Contender("Paddle", "paddle", "convolution", {"by": "Paddle"}),
    Contender("torchvision", "torch", "convolution", {}),
    Contender("convolution", "paddle", "convolution", {"by": "convolution"}, same=False),
]
CONVOLUTION = [
    Contender("ours", "paddle", "plain_convolution", {"by": "ours"}),
    Contender("Paddle", "paddle", "plain_convolution", {"by": "Paddle"}),
    Contender("PyTorch", "torch", "plain_convolution", {}),
]
FLOOR = Contender("copy", "copy", "copy", {}, same=False)


class Session:
    """The children that are compared, all with the same number of threads; `quick` makes everything tiny."""

    def __init__(self, quick: bool = False):
        self.quick = quick
        self.threads = int(os.environ["OMP_NUM_THREADS"].partition(",")[0])
        self.rounds, self.seconds = (1, 0.01) if quick else (5, 0.15)
        self.children, self.facts, self.left_out = {}, {}, {}

    def __enter__(self) -> "Session":
        with contextlib.ExitStack() as stack:
            for backend in ("paddle", "torch", "copy"):
                child = stack.enter_context(start_child(backend, self.threads))
                try:
                    self.facts |= child.ask("hello")
                    self.children[backend] = child
                except ChildError as error:
                    if backend != "torch":
                        raise
                    self.left_out["PyTorch"] = self.left_out["torchvision"] = str(error)
            if why := self.facts.pop("torchvision_left_out", None):
                self.left_out["torchvision"] = why
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def section(self, kind: str, title: str, contenders: Sequence[Contender], **more: object) -> dict:
        """The head of a section."""
        left_out = {one.name: self.left_out[one.name] for one in contenders if one.name in self.left_out}
        head = {"kind": kind, "title": title, "dtype": DTYPE, "threads": self.threads}
        return {**head, "versions": self.facts, "left_out": left_out, **more}


def start_child(backend: str, threads: int, **environment: str) -> Child:
    """A child with the project's settings: threads, allocator. Only Paddle's needs engine.environment for them."""
    if backend == "paddle":
        return Child(backend, OMP_NUM_THREADS=str(threads), **environment)
    return Child(backend, settings="bare", OMP_NUM_THREADS=str(threads), **KEEP_MEMORY, **environment)


def _norm(title, contenders, targets, session):
    shapes = [[2, 64, 8, 8]] if session.quick else NORM_SHAPES
    section = session.section("times", title, contenders, passes=PASSES)
    section["rows"] = [_norm_row(session, contenders, shape) for shape in shapes]
    return _judged(section, targets, _norm_row(session, contenders, TINY_NORM), session)


def _norm_row(session, contenders, shape):
    row = row_of(session, [*contenders, FLOOR], shape)
    copy = row["times"].pop("copy")  # a call of it makes four passes
    del row["values"]["copy"]
    row["copy_gigabytes_per_second"] = 4 * row["tensor_bytes"] / copy["forward_backward_ms"] / 1e6
    row["floor_ms"] = {name: passes / 4 * copy["forward_backward_ms"] for name, passes in PASSES.items()}
    return row


def _convolution(session):
    title = "convolution alone, plain tensors in and out (N, C, H, W, C_out, kernel, stride)"
    section = session.section("times", title, CONVOLUTION)
    shapes = [[2, 8, 6, 6, 4, 3, 2]] if session.quick else CONVOLUTION_SHAPES
    section["rows"] = [_convolution_row(session, shape) for shape in shapes]
    targets = [Target("ours", "PyTorch", 1.1, median=True), Target("ours", "Paddle", 0.8, median=True)]
    return _judged(section, targets, _convolution_row(session, TINY_CONVOLUTION), session)


def _convolution_row(session, shape):
    row = row_of(session, CONVOLUTION, shape)
    images, channels, height, width, out_channels, kernel, stride = shape
    row["tensor_bytes"] = 4 * images * channels * height * width
    products = images * channels * out_channels * kernel**2 * -(-height // stride) * -(-width // stride)
    passes = 2 if channels == 3 else 3
    row["gflops"] = {name: passes * 2 * products / ms / 1e6 for name, ms in row["values"].items()}
    return row


def _dcn(session):
    section = session.section("times", "DCNv2 3x3, C to C channels", DCN)
    shapes = [[2, 8, 6, 6]] if session.quick else DCN_SHAPES
    section["rows"] = [_dcn_row(session, shape) for shape in shapes]
    targets = [Target("Paddle", "ours", 10, at_least=True), Target("ours", "convolution", 2.5)]
    return _judged(section, targets, _dcn_row(session, TINY_DCN), session)


def _dcn_row(session, shape):
    row = row_of(session, DCN, shape)
    images, channels, height, width = shape
    operations = 3 * 2 * 9 * channels**2 * images * height * width  # of the products with the weights, both ways
    row["gflops"] = {name: operations / ms / 1e6 for name, ms in row["values"].items()}
    return row


def row_of(session: Session, contenders: Sequence[Contender], shape: Sequence[int]) -> dict:
    """Every contender's times on one shape, taken in turn."""
    contenders = [contender for contender in contenders if contender.name not in session.left_out]
    racers, numbers = [], {}
    for name, backend, op, arguments, _ in contenders:
        child = session.children[backend]
        numbers[name] = child.ask("prepare", name=name, op=op, shape=shape, **arguments)
        racers.append((child, name))
    blocks = race(racers, session.rounds, session.seconds)
    for child, name in racers:
        child.ask("forget", name=name)
    row = {"shape": shape, "tensor_bytes": 4 * math.prod(shape), "others_cores": others(sum(blocks, []))}
    row["times"] = {name: summary(taken) for (_, name), taken in zip(racers, blocks, strict=True)}
    row["values"] = {name: times["forward_backward_ms"] for name, times in row["times"].items()}
    row["disagree"] = [
        contender.name for contender in contenders
        if contender.same and not np.allclose(numbers[contender.name], numbers["ours"], rtol=1e-3)
    ]
    return row


def _judged(section, targets, tiny, session):
    """The section with its targets; each missed row says what bounds it."""
    section["tiny"] = tiny
    section["targets"] = [] if session.quick else [judge(target, section["rows"]) for target in targets]
    for index, row in enumerate(section["rows"]):
        if any(target["rows_missed_by"][index] for target in section["targets"]):
            row["bound"] = what_bounds(row, tiny)
    return section


def _memory(session):
    """Each of ours and Paddle's in a fresh child that returns freed memory at once."""
    section = session.section("memory", "peak memory of DCNv2 forward + backward", DCN[:2], rows=[], targets=[])
    if not Path("/proc/self/clear_refs").exists():
        section["left_out"]["all"] = "only Linux tells a process's peak"
        return section
    for shape in [[2, 8, 6, 6]] if session.quick else DCN_SHAPES:
        row = {"shape": shape, "values": {}}
        for name, _, op, arguments, _ in DCN[:2]:
            with start_child("paddle", session.threads, **RETURN_MEMORY) as child:
                child.ask("prepare", name="tiny", op=op, shape=TINY_DCN, **arguments)  # what is loaded once
                child.ask("prepare", name=name, op=op, shape=shape, warm=False, **arguments)
                row["values"][name] = child.ask("peak", name=name) / 2**20
        images, channels, height, width = shape
        results = 2 * channels * images * height * width + 27 * images * height * width + 9 * channels**2
        row["values"]["results"] = 4 * results / 2**20  # the output and the gradients, which all must hold
        section["rows"].append(row)
    if not session.quick:
        section["targets"] = [judge(Target("ours", "Paddle", 1.0), section["rows"])]
    return section


def _growth(session):
    """Time against batch, channels and threads, each with the exponent of the power law through its points."""
    counts = [2**power for power in range(6)]
    threads = sorted({*(count for count in counts if count < cores()), cores()})
    gn, dcn = [GN[0], GN[1]], [DCN[0], DCN[3]]
    plan = [
        ("group norm", gn, "batch", {n: [n, 256, 28, 28] for n in counts}),
        ("group norm", gn, "channels", {c: [8, c, 28, 28] for c in (64, 128, 256, 512, 1024)}),
        ("group norm", gn, "threads", {count: [8, 256, 56, 56] for count in threads}),
        ("DCNv2", dcn, "batch", {n: [n, 128, 28, 28] for n in counts}),
        ("DCNv2", dcn, "channels", {c: [4, c, 14, 14] for c in (64, 128, 256, 512)}),
        ("DCNv2", dcn, "threads", {count: [8, 128, 28, 28] for count in threads}),
    ]
    section = session.section("growth", "how the cost grows", [*gn, *dcn], rows=[])
    for op, contenders, axis, points in plan[2:3] if session.quick else plan:
        if session.quick:
            points = {count: [2, 64, 8, 8] for count in points}
        measure = _over_threads if axis == "threads" else _over_shapes
        milliseconds, others_cores = measure(session, contenders, points)
        row = {"op": op, "axis": axis, "points": list(points), "shapes": list(points.values())}
        row |= {"milliseconds": milliseconds, "others_cores": others_cores}
        if len(points) > 1:
            row["exponents"] = {name: exponent(list(points), values) for name, values in milliseconds.items()}
        section["rows"].append(row)
    return section


def _over_shapes(session, contenders, points):
    rows = [row_of(session, contenders, shape) for shape in points.values()]
    milliseconds = {contender.name: [row["values"][contender.name] for row in rows] for contender in contenders}
    return milliseconds, max((row["others_cores"] for row in rows if row["others_cores"] is not None), default=None)


def _over_threads(session, contenders, points):
    """A child for each number of threads, all timed in turn."""
    with contextlib.ExitStack() as stack:
        racers = []
        for threads, shape in points.items():
            child = stack.enter_context(start_child("paddle", threads))
            for name, _, op, arguments, _ in contenders:
                child.ask("prepare", name=name, op=op, shape=shape, **arguments)
                racers.append((child, name))
        blocks = race(racers, session.rounds, session.seconds)
    milliseconds = {contender.name: [] for contender in contenders}
    for (_, name), taken in zip(racers, blocks, strict=True):
        milliseconds[name].append(summary(taken)["forward_backward_ms"])
    return milliseconds, others(sum(blocks, []))


def exponent(points: Sequence[float], values: Sequence[float]) -> float:
    """p of values = constant * points^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(points), np.log(values), 1)[0])


def measure(only: Sequence[str], quick: bool) -> Iterator[dict]:
    """The sections `only`, one after another."""
    with Session(quick) as session:
        for name in only:
            yield SECTIONS[name](session)


SECTIONS = {
    "gn": partial(
        _norm, "group norm, 32 groups", GN,
        [Target("Paddle", "ours", 4, at_least=True, large_only=True), Target("ours", "PyTorch", 1.0, median=True)],
    ),
    "gn_relu": partial(
        _norm, "group norm, 32 groups, then ReLU (ours in one)", GN_RELU, [Target("ours", "PyTorch", 0.8, median=True)]
    ),
    "bn": partial(
        _norm, "batch norm, workers of 2 images (the others: one batch)", BN, [Target("ours", "Paddle", 1.0)]
    ),
    **{
        norm: partial(
            _norm, f"{title}, and what activates it",
            [Contender(by, "paddle", "other_norm", {"by": by, "norm": norm}) for by in ("ours", "composed")],
            [Target("composed", "ours", 3, at_least=True)],
        ) for norm, title in OTHER_NORMS.items()
    },
    "conv": _convolution,
    "dcn": _dcn,
    "memory": _memory,
    "growth": _growth,
}
NAMES = list(SECTIONS)
