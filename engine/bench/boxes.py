"""tools/bench.py boxes: what a detector does with boxes, RoIAlign, deformable RoI pooling and NMS, beside its peers."""

from collections.abc import Iterator, Sequence

from engine.bench.ops import Contender, Session, row_of
from engine.bench.targets import Target, judge

# A level of a pyramid at full width, one of the thin detector of scenes: N, C, H, W, boxes; and boxes to suppress.
POOLING_SHAPES = ([2, 256, 100, 100, 512], [4, 32, 32, 32, 256])
NMS_SHAPES = ([200], [2000])
ROI_ALIGN = [
    Contender("ours", "paddle", "pooling", {"by": "RoIAlign"}),
    Contender("torchvision", "torch", "pooling", {}),
]
DEFORM_ROI_POOL = [
    *(Contender(by, "paddle", "pooling", {"by": by}) for by in ("ours", "composed")),
    Contender("RoIAlign", "paddle", "pooling", {"by": "RoIAlign"}, same=False),
]
NMS = [Contender("ours", "paddle", "nms", {}), Contender("torchvision", "torch", "nms", {})]
TITLES = {
    "roi_align": "RoIAlign to 7 x 7 bins, Paddle's kernel (N, C, H, W, boxes)",
    "deform_roi_pool": "deformable RoI pooling to 7 x 7 bins (N, C, H, W, boxes)",
    "nms": "NMS at 0.7, Paddle's kernel (boxes)",
}
CONTENDERS = {"roi_align": ROI_ALIGN, "deform_roi_pool": DEFORM_ROI_POOL, "nms": NMS}
TARGETS = {"deform_roi_pool": [Target("composed", "ours", 3, at_least=True)]}
NAMES = list(TITLES)


def measure(only: Sequence[str], quick: bool) -> Iterator[dict]:
    """The sections `only`, one after another."""
    with Session(quick) as session:
        for name in only:
            section = session.section("times", TITLES[name], CONTENDERS[name])
            shapes = NMS_SHAPES if name == "nms" else POOLING_SHAPES
            if quick:
                shapes = [[9]] if name == "nms" else [[1, 4, 6, 6, 3]]
            section["rows"] = [row_of(session, CONTENDERS[name], shape) for shape in shapes]
            section["targets"] = [] if quick else [judge(target, section["rows"]) for target in TARGETS.get(name, [])]
            yield section
