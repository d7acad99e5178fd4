"""Deformable position-sensitive RoI pooling (Dai et al., arXiv:1703.06211), with the modulation of v2."""

from paddle import ParamAttr, Tensor, nn

from ops.conv2d import Conv2D
from ops.deform_conv import MODULATION
from ops.deform_roi_pool import Size, check, check_settings, check_shape, no_boxes, one_box, pair, pool

OP = "deformable position-sensitive RoI pooling"


def deform_ps_roi_pool(
    x: Tensor, boxes: Tensor, boxes_num: Tensor, output_size: Size, offset: Tensor | None = None,
    mask: Tensor | None = None, spatial_scale: float = 1.0, sampling_ratio: int = 2, gamma: float = 0.1,
    deformable_groups: int = 1, implementation: str = "auto",
) -> Tensor:
    """`deform_roi_pool` where every bin reads maps of its own (arXiv:1703.06211, section 2.2).

    x [N, C * kh * kw, H, W]: for each of C classes a map for each bin, bins in row-major order, as in
    paddle.vision.ops.psroi_pool -> [R, C, kh, kw]. offset [R, 2 * deformable_groups, kh, kw]: for each deformable
    group (a run of neighbouring classes: C groups for offsets of each class, one for all) dx, then dy, in widths and
    heights of the box; mask [R, deformable_groups, kh, kw]. boxes, boxes_num, sampling, implementations and errors as
    in deform_roi_pool. Without offset and mask it is plain position-sensitive RoI pooling of those samples, which are
    roi_align's; psroi_pool averages whole pixels instead.
    """
    return pool(
        OP, x, boxes, boxes_num, output_size, offset, mask, spatial_scale, sampling_ratio, gamma, deformable_groups,
        position_sensitive=True, implementation=implementation,
    )


class DeformPSRoIPool(nn.Layer):
    """Deformable position-sensitive RoI pooling with its own offset branch, v1 (arXiv:1703.06211) or modulated as v2.

    x [N, C * kh * kw, H, W] is pooled to [R, C, kh, kw], as `deform_ps_roi_pool` has it; features [N, in_channels,
    H, W] is what the branch sees, in the papers that from which x is computed too. The 1x1 convolution `offset` makes
    of it 2 (v1) or 3 (v2) * deformable_groups * kh * kw fields, and position-sensitive pooling of the same boxes makes
    of those the offsets (for each group dx, dy), then v2's raw modulation (for each group). It starts at zero: v1,
    and v2 with modulation "2sigmoid", start as plain position-sensitive RoI pooling; "sigmoid" starts at half of it.
    """

    def __init__(
        self, in_channels: int, output_size: Size, spatial_scale: float = 1.0, sampling_ratio: int = 2,
        gamma: float = 0.1, deformable_groups: int = 1, version: int = 2, modulation: str = "2sigmoid",
    ):
        super().__init__()
        check_settings(OP, output_size, spatial_scale, sampling_ratio, deformable_groups, version, modulation)
        self.bins, self.deformable_groups = pair(output_size), deformable_groups
        self.version, self.modulation, self.gamma = version, modulation, gamma
        self.geometry = {"spatial_scale": spatial_scale, "sampling_ratio": sampling_ratio}
        zero = ParamAttr(initializer=nn.initializer.Constant(0.0))
        fields = (version + 1) * deformable_groups * self.bins[0] * self.bins[1]
        self.offset = Conv2D(in_channels, fields, 1, weight_attr=zero, bias_attr=zero)

    def offset_and_mask(self, features: Tensor, boxes: Tensor, boxes_num: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> offset [R, 2 * deformable_groups, kh, kw], mask [R, deformable_groups, kh, kw] or None for v1."""
        branch = deform_ps_roi_pool(self.offset(features), boxes, boxes_num, self.bins, **self.geometry)
        if self.version == 1:
            return branch, None
        offsets = 2 * self.deformable_groups
        return branch[:, :offsets], MODULATION[self.modulation](branch[:, offsets:])

    def forward(self, x: Tensor, features: Tensor, boxes: Tensor, boxes_num: Tensor) -> Tensor:
        if x.ndim == 4:
            expected = [x.shape[0], self.offset.weight.shape[1], *x.shape[2:]]
            check_shape(OP, "features", features, expected)
        if no_boxes(boxes):  # so that the branch gets its gradient of zeros
            check(OP, x, boxes, boxes_num, self.bins, None, None, self.deformable_groups, True)
            return self.forward(x, features, *one_box(boxes, boxes_num))[:0]
        offset, mask = self.offset_and_mask(features, boxes, boxes_num)
        return deform_ps_roi_pool(
            x, boxes, boxes_num, self.bins, offset, mask, **self.geometry, gamma=self.gamma,
            deformable_groups=self.deformable_groups,
        )

    def extra_repr(self) -> str:
        return (
            f"v{self.version}, {self.offset.weight.shape[1]}, output_size={self.bins}, "
            f"deformable_groups={self.deformable_groups}, {self.geometry}"
        )
