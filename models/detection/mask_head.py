"""The silhouette of what a box shows (He et al., arXiv:1703.06870)."""

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from models.detection.layers import Convolutions, Normal, convolution, upsampling
from models.norm import Normalization
from ops import roi_align
from ops.implementation import sizes

AT_ONCE = 16  # objects whose masks are unpacked together: 64 MB at 800 x 1333 pixels
BITS = (128, 64, 32, 16, 8, 4, 2, 1)


class MaskHead(nn.Layer):
    """Pooled features [F, C, k, k] -> logits [F, classes, 2k, 2k]: 3x3 convolutions with norm and ReLU (four after a
    pyramid, none after c5), a transposed convolution of stride 2 with ReLU and no norm, and one of 1x1."""

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, *, convolutions: int, norm: Normalization,
        bias: bool,
    ):
        super().__init__()
        self.convs = Convolutions(convolutions, in_channels, channels, norm, bias)
        self.enlarge = upsampling(channels if convolutions else in_channels, channels)
        self.logits = convolution(channels, num_classes, 1, Normal(0.0, 0.001))

    def forward(self, pooled: Tensor) -> Tensor:
        return self.logits(F.relu(self.enlarge(self.convs(pooled)))).astype("float32")


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """bool [..., H, W] -> uint8 [..., H, ceil(W / 8)], the form in which a batch has its masks: eight pixels a byte,
    the left one the highest bit."""
    return np.packbits(masks, axis=-1)


def unpack_masks(packed: Tensor, width: int) -> Tensor:
    """The inverse of `pack_masks` for tensors: uint8 [G, H, ceil(width / 8)] -> float32 [G, 1, H, width] of 0 and 1."""
    bits = paddle.bitwise_and(packed.unsqueeze(-1), paddle.to_tensor(BITS, dtype="uint8")) > 0
    return bits.astype("float32").reshape([packed.shape[0], 1, packed.shape[1], -1])[..., :width]


@paddle.no_grad()
def mask_targets(packed: Tensor, owners: Tensor, boxes: Tensor, width: int, size: int) -> Tensor:
    """What the mask of each box should be: 1 where its object covers at least half of a bin.

    packed uint8 [M, H, ceil(width / 8)] and the boxes are of one image; owners int64 [F], F above 0, say which of the
    masks belongs to each of boxes [F, 4] -> float32 [F, size, size].
    """
    owner = owners.numpy()
    used, counts = np.unique(owner, return_counts=True)
    order = np.argsort(owner, kind="stable")  # RoIAlign wants the boxes of one mask together
    boxes, targets, start = paddle.gather(boxes, paddle.to_tensor(order)), [], 0
    for first in range(0, len(used), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        masks = unpack_masks(paddle.gather(packed, paddle.to_tensor(used[some])), width)
        end = start + int(counts[some].sum())
        targets.append(roi_align(masks, boxes[start:end], counts[some].tolist(), size).squeeze(1))
        start = end
    targets = paddle.gather(paddle.concat(targets), paddle.to_tensor(np.argsort(order)))
    return (targets >= 0.5).astype("float32")


def mask_loss(logits: Tensor, classes: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
    """Cross entropy of each pixel of the object's own class: logits [F, classes, S, S], targets [F, S, S]; the mean of
    each RoI has its weight in `shares` [F]."""
    own = paddle.arange(logits.shape[0]) * logits.shape[1] + classes
    own = paddle.gather(logits.reshape([-1, *logits.shape[2:]]), own)
    pixels = F.binary_cross_entropy_with_logits(own, targets, reduction="none")
    return (pixels.mean(axis=[1, 2]) * shares).sum()


@paddle.no_grad()
def mask_probabilities(logits: Tensor, classes: Tensor) -> Tensor:
    """logits [D, classes, S, S] -> [D, S, S] of the class that each box was given."""
    own = paddle.arange(sizes(logits)[0]) * logits.shape[1] + classes
    return F.sigmoid(paddle.gather(logits.reshape([-1, *logits.shape[2:]]), own))
