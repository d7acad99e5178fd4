"""Plain convolution, on CPUs by the oneDNN library that Paddle brings along and does not use in dynamic mode."""

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ops import native
from ops.implementation import check_name, choose
from ops.weight_standardization import standardize

ONEDNN = "libdnnl.so.3"
WHY_NOT = (  # by what ops/csrc/onednn.h answers
    None,
    f"this Paddle has loaded no {ONEDNN}",
    f"this Paddle's {ONEDNN} is not of version 3",
    f"this Paddle's {ONEDNN} does not run on OpenMP",
    f"this Paddle's {ONEDNN} lacks functions",
)


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | str | Sequence = 0, dilation: int | Sequence[int] = 1, groups: int = 1, implementation: str = "auto",
) -> Tensor:
    """Convolution as paddle.nn.functional.conv2d computes it.

        y(p) = sum over taps k of w_k * x(stride * p + dilation * k - padding) + bias

    x [N, C_in, H, W], weight [C_out, C_in / groups, kh, kw], bias [C_out] or None -> y [N, C_out, H', W']. stride and
    dilation are numbers or (vertical, horizontal), padding too, or what else Paddle knows: "SAME", four sides.

    implementation: "native" (oneDNN, the "auto" choice for all that it serves: float32 on a CPU, one group, padding
    alike on opposite sides, no empty batch) or "paddle" (that choice for all else). Results differ by rounding only.

    Raises ValueError where "native" is asked for what it does not serve; for all else see Paddle's function.
    """
    return convolve(2, IMPLEMENTATIONS, implementation, x, weight, bias, stride, padding, dilation, groups)


def convolve(
    axes: int, implementations: Mapping[str, Callable], implementation: str, x: Tensor, weight: Tensor,
    bias: Tensor | None, stride: int | Sequence[int], padding: int | str | Sequence, dilation: int | Sequence[int],
    groups: int,
) -> Tensor:
    """What `conv2d` says, over so many axes by one of these implementations."""
    geometry = along_axes(axes, stride, padding, dilation)
    if implementation == "auto":
        implementation = "native" if _serves(axes, x, weight, bias, geometry, groups) else "paddle"
    run = choose(implementations, implementation)
    if run is not native_conv:
        return run(x, weight, bias, stride, padding, dilation, groups)
    if not _serves(axes, x, weight, bias, geometry, groups):
        raise ValueError(
            f"convolution: implementation 'native' does not serve x {list(x.shape)} of {x.dtype} and weight "
            f"{list(weight.shape)} of {weight.dtype} in {groups} groups, padding {padding}"
        )
    return run(x, weight, bias, geometry)


def along_axes(
    axes: int, stride: int | Sequence[int], padding: int | str | Sequence, dilation: int | Sequence[int]
) -> list[int] | None:
    """Stride, padding and dilation, each along all axes, one after another; None where padding is another."""
    each = [[value] * axes if isinstance(value, int) else value for value in (stride, padding, dilation)]
    if not all(isinstance(sizes, (list, tuple)) and len(sizes) == axes and isinstance(sizes[0], int) for sizes in each):
        return None
    return [size for sizes in each for size in sizes]


def _serves(axes, x, weight, bias, geometry, groups):
    """Whether "native" computes this, and computes what Paddle would."""
    if geometry is None or groups != 1 or x.ndim != axes + 2 or weight.ndim != axes + 2:
        return False
    if not is_float32_on_cpu(x, weight, bias) or not onednn():
        return False
    (images, channels, *size), (out_channels, in_channels, *kernel) = x.shape, weight.shape
    fits = channels == in_channels and (bias is None or list(bias.shape) == [out_channels])
    stride, padding, dilation = (geometry[start : start + axes] for start in range(0, 3 * axes, axes))
    out = [size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) for axis in range(axes)]
    positive = min(images, channels, out_channels, *size, *kernel, *out, *stride, *dilation) > 0
    return fits and positive and min(padding) >= 0


def is_float32_on_cpu(x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether all (None is left out) are values, not a graph's, that kernels for float32 on a CPU can take."""
    if not paddle.in_dynamic_mode() or x.ndim not in (4, 5) or not x.place.is_cpu_place():
        return False
    return all(value is None or value.dtype == paddle.float32 for value in (x, *parameters))


def onednn() -> str | None:
    """The oneDNN that computes convolutions of tensors on the CPU, as "oneDNN 3.6.2"; None: Paddle's kernels do."""
    return _bound() if native.available() else None


@functools.cache
def _bound():
    why_not, *version = native.run("bind_onednn", paddle.zeros([1]), ONEDNN).tolist()
    if not why_not:
        return f"oneDNN {'.'.join(map(str, version))}"
    if os.environ.get("NATIVE_OPS") == "1":
        raise native.NativeError(f"NATIVE_OPS=1: {WHY_NOT[why_not]}")
    message = "warning: convolutions run on Paddle's slower CPU kernels: %s"
    logging.getLogger(__name__).warning(message, WHY_NOT[why_not])
    return None


def wanted_gradients(*tensors: Tensor) -> list[int]:
    """1 or 0 for each tensor: whether its gradient will be asked for."""
    recording = paddle.is_grad_enabled()
    return [int(recording and not tensor.stop_gradient) for tensor in tensors]


def native_conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: list[int]) -> Tensor:
    """Convolution by oneDNN over two or three axes, with what `along_axes` gave."""
    parameters = [weight] if bias is None else [weight, bias]
    return native.run("conv", x, parameters, geometry, wanted_gradients(x, *parameters))


def _paddle(x, weight, bias, stride, padding, dilation, groups):
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


IMPLEMENTATIONS = {"native": native_conv, "paddle": _paddle}


class ConvNd:
    """What Conv2D and Conv3D add to Paddle's layers, `theirs`, over so many axes.

    standardized: filters go through `ops.standardize` before they are used; `weight` is what is learned.
    """

    axes: int
    theirs: type[nn.Layer]
    channels_first: str

    def __init__(
        self, *arguments: object, implementation: str = "auto", standardized: bool = False, **options: object
    ):
        super().__init__(*arguments, **options)
        check_name(IMPLEMENTATIONS, implementation)
        self.implementation, self.standardized = implementation, standardized
        if standardized and self.geometry is None:
            raise ValueError("standardized convolution: expected channels first, and padding by zeros, in numbers")

    def filters(self) -> Tensor:
        """The weights that are used."""
        return standardize(self.weight) if self.standardized else self.weight

    @property
    def groups(self) -> int:
        return self._groups

    @property
    def geometry(self) -> list[int] | None:
        """Stride, padding and dilation, each along all axes; None where our functions have no words for the layer."""
        explicit = self._padding_mode == "zeros" and self._padding_algorithm == "EXPLICIT"
        if not explicit or self._data_format != self.channels_first:
            return None
        return along_axes(self.axes, self._stride, self._updated_padding, self._dilation)

    def forward(self, x: Tensor) -> Tensor:
        geometry, axes = self.geometry, self.axes
        if geometry is None or not (self.standardized or paddle.in_dynamic_mode()):
            return self.theirs.forward(self, x)  # super() is lost in Paddle 2.6 where a graph is made
        stride, padding, dilation = geometry[:axes], geometry[axes : 2 * axes], geometry[2 * axes :]
        return self.function(x, self.filters(), self.bias, stride, padding, dilation, self.groups, self.implementation)


class Conv2D(ConvNd, nn.Conv2D):
    """`conv2d` as a layer: paddle.nn.Conv2D with its arguments, parameters and names.

    x [N, C_in, H, W] -> [N, C_out, H', W']. Layers that `conv2d` has no words for (data_format "NHWC", padding modes
    that are not zeros) are computed as Paddle's.
    """

    axes, theirs, channels_first, function = 2, nn.Conv2D, "NCHW", staticmethod(conv2d)
