"""Where files of ResNet and VGG weights come from, and what is different there: layouts, channels, inputs, strides.

The facts are those of torchvision, timm, ppwwyyxx/GroupNorm-reproduce, paddle.vision, PaddleClas, Detectron and
tensorpack, read in their code.
"""

from dataclasses import dataclass
from typing import Literal

from models.weights import names
from models.weights.names import Names, VGGNames

StrideIn = Literal["3x3", "1x1"]
OURS = "this project's"


@dataclass(frozen=True)
class Source:
    """A kind of file, by what it calls the entries.

    stride_in: which convolution of a bottleneck strides; None where files of this kind do not tell. axes: where the
    axes (out, in, height, width) of a convolution's weight lie. fc_turned: linear layers' weights are [out, in].
    folded: batch norm has its scale and shift alone. bgr: the stem takes blue first. pixel_means: what is taken off
    pixels of 0 to 255, in R, G, B, where nothing is divided by a deviation; None: the inputs are as here.
    """

    title: str
    names: Names | VGGNames
    stride_in: StrideIn | None
    axes: tuple[int, int, int, int] = (0, 1, 2, 3)
    fc_turned: bool = False
    folded: bool = False
    bgr: bool = False
    pixel_means: tuple[float, float, float] | None = None

    @property
    def is_ours(self) -> bool:
        return self.title == OURS


CAFFE2 = {"fc_turned": True, "bgr": True, "pixel_means": (122.7717, 115.9465, 102.9801)}
TENSORFLOW = {"axes": (3, 2, 0, 1), "bgr": True}

# Of sources that know as many of a file's names the first is taken.
SOURCES = (
    Source(OURS, names.OURS, None),
    Source(OURS, names.OURS_VGG, None),
    Source("PyTorch's", names.TORCH, "3x3", fc_turned=True),
    Source("the GN authors' PyTorch", names.TORCH_GN, "3x3", fc_turned=True),
    Source("paddle.vision's", names.PADDLE_VISION, "3x3"),
    Source("PaddleClas'", names.PADDLE_CLAS, "3x3"),
    # MSRA's, which all of Detectron's with folded batch norm begin from.
    Source("Detectron's", names.DETECTRON, "1x1", folded=True, **CAFFE2),
    Source("Detectron's", names.DETECTRON_BN, None, **CAFFE2),
    Source("Detectron's", names.DETECTRON_GN, "3x3", **CAFFE2),
    # Its own and those that were converted from Caffe stride in different places under the same names.
    Source("tensorpack's", names.TENSORPACK, None, **TENSORFLOW),
    Source("tensorpack's", names.TENSORPACK_GN, "3x3", **TENSORFLOW),
    *(Source("PyTorch's", each, None, fc_turned=True) for each in names.TORCH_VGG.values()),
    *(Source("paddle.vision's", each, None) for each in names.PADDLE_VISION_VGG.values()),
)
