"""tools/bench.py video: a training step of a GN I3D ResNet-50, by our kernels, by Paddle's and by PyTorch."""

from collections.abc import Iterator, Sequence

from engine.bench.child import KEEP_MEMORY
from engine.bench.step import OURS, Stepper, section_of_steps
from engine.bench.targets import Target

THIN = {"clips": 4, "frames": 8, "size": 64, "width": 16, "classes": 10, "stem_time_stride": 1}
FULL = {"clips": 1, "frames": 32, "size": 224, "width": 64, "classes": 400, "stem_time_stride": 2}
QUICK = {"clips": 2, "frames": 4, "size": 32, "width": 8, "classes": 10, "stem_time_stride": 1}
STEPPERS = {
    "ours": Stepper("our kernels, the project's settings", "paddle", "project", OURS, {}),
    "Paddle": Stepper(
        "Paddle's kernels, the project's settings", "paddle", "project", {**OURS, "NATIVE_OPS": "0"}, {}, "ours"
    ),
    "PyTorch": Stepper("PyTorch, the same threads and allocator", "torch", "bare", {**OURS, **KEEP_MEMORY}, {}),
}
TARGETS = [Target("ours", "PyTorch", 1.2)]
NAMES = list(STEPPERS)


def measure(only: Sequence[str], quick: bool) -> Iterator[dict]:
    """A section a network: the steppers `only`, each in fresh processes, that take turns."""
    networks = [("a thin I3D ResNet-50", THIN, TARGETS), ("the I3D ResNet-50 of Kinetics", FULL, TARGETS)]
    if quick:
        networks = [("a tiny I3D ResNet-50", QUICK, [])]
    for network, size, targets in networks:
        shape = [size["clips"], 3, size["frames"], size["size"], size["size"]]
        steppers = {name: STEPPERS[name] for name in only}
        yield section_of_steps(steppers, "clip_step", network, shape, size, targets, quick)
