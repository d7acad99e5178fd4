"""tools/bench.py detection: a training step of Mask R-CNN, GN ResNet-50 with a pyramid, beside torchvision's."""

from collections.abc import Iterator, Sequence

from engine.bench.child import KEEP_MEMORY
from engine.bench.step import OURS, Stepper, section_of_steps
from engine.bench.targets import Target

# One image of 320 pixels with five objects; 2000 proposals a level before NMS, 1000 an image after it, 512 RoIs.
FULL = {"images": 1, "size": 320, "width": 64, "classes": 80, "objects": 5}
QUICK = {"images": 1, "size": 64, "width": 8, "classes": 3, "objects": 2}
STEPPERS = {
    "ours": Stepper("our kernels, the project's settings", "paddle", "project", OURS, {}),
    "torchvision": Stepper(
        "torchvision's, the same threads and allocator", "torch", "bare", {**OURS, **KEEP_MEMORY}, {}
    ),
}
NAMES = list(STEPPERS)


def measure(only: Sequence[str], quick: bool) -> Iterator[dict]:
    """One section: the steppers `only`, each in fresh processes, that take turns."""
    network = "a tiny Mask R-CNN" if quick else "Mask R-CNN, GN ResNet-50 with a pyramid"
    size, targets = (QUICK, []) if quick else (FULL, [Target("ours", "torchvision", 1.2)])
    shape, steppers = [size["images"], 3, size["size"], size["size"]], {name: STEPPERS[name] for name in only}
    yield section_of_steps(steppers, "detection", network, shape, size, targets, quick)
