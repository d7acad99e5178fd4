"""Convolution over time, height and width: by oneDNN as `conv2d`, and one over time alone as the plane that it is."""

from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn

from ops.conv2d import ConvNd, along_axes, convolve, native_conv


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | str | Sequence = 0, dilation: int | Sequence[int] = 1, groups: int = 1, implementation: str = "auto",
) -> Tensor:
    """Convolution as paddle.nn.functional.conv3d computes it; see `ops.conv2d`, which has the equation.

    x [N, C_in, T, H, W], weight [C_out, C_in / groups, kt, kh, kw], bias [C_out] or None -> y [N, C_out, T', H', W'].
    stride and dilation are numbers or (time, vertical, horizontal), padding too, or what else Paddle knows.

    implementation: "native" (oneDNN, the "auto" choice for all that it serves, as of `conv2d`) or "paddle" (that choice
    for all else). A kernel of k x 1 x 1 that strides in time alone is computed as one of k x 1 over [N, C_in, T,
    H * W]: the same sums in a third of the time on a CPU, and no value moves for it.

    Raises ValueError where "native" is asked for what it does not serve; for all else see Paddle's function.
    """
    return convolve(3, IMPLEMENTATIONS, implementation, x, weight, bias, stride, padding, dilation, groups)


def _paddle(x, weight, bias, stride, padding, dilation, groups):
    geometry = along_axes(3, stride, padding, dilation)
    if geometry is None or not _is_over_time_alone(weight, geometry):
        return F.conv3d(x, weight, bias, stride, padding, dilation, groups)
    images, channels, frames, height, width = x.shape
    plane = x.reshape([images, channels, frames, height * width])
    over_time = [(geometry[start], one) for start, one in ((0, 1), (3, 0), (6, 1))]
    y = F.conv2d(plane, weight.squeeze(-1), bias, *over_time, groups)
    return y.reshape([images, y.shape[1], y.shape[2], height, width])


def _is_over_time_alone(weight, geometry):
    return list(weight.shape[3:]) == [1, 1] and geometry[1:3] == [1, 1] and geometry[4:6] == [0, 0]


IMPLEMENTATIONS = {"native": native_conv, "paddle": _paddle}


class Conv3D(ConvNd, nn.Conv3D):
    """`conv3d` as a layer: paddle.nn.Conv3D with its arguments, parameters and names.

    x [N, C_in, T, H, W] -> [N, C_out, T', H', W']. Layers that `conv3d` has no words for (data_format "NDHWC", padding
    modes that are not zeros) are computed as Paddle's.
    """

    axes, theirs, channels_first, function = 3, nn.Conv3D, "NCDHW", staticmethod(conv3d)
