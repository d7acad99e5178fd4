"""What deformable convolutions look at: sampling points and effective receptive fields.

Points are (y, x), 0 the centre of the first pixel or position. Whatever strides in our networks is padded by half its
kernel, so its position p looks at the positions around p * stride: position p of a feature map of stride s lies at
p * s in the image, which is the middle of its receptive field. (Detectors' (p + 0.5) * s - 0.5 is the middle of the
pixels that a position stands for; it is (s - 1) / 2 pixels off here.)
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from engine.errors import InputError
from ops import DeformConv2D, DeformRoIPool
from ops.deform_conv import MODULATION, pair, sampling_points

STACK = 3  # layers, as in the figure of arXiv:1703.06211
Positions = Sequence[tuple[int, int]]  # (y, x) of a layer's output


@dataclass(frozen=True)
class Sampling:
    """What one deformable layer did with N images. D deformable groups, K taps, H' x W' output positions.

    points and grid [N, D, K, H', W', 2]: where it sampled, and where it would with offsets of zero, in pixels of its
    input. modulation [N, D, K, H', W']: 1 is what it starts with (and what v1 always has). stride_in and stride_out:
    image pixels from one position of its input, and of its output, to the next. All arrays are float64.
    """

    name: str
    kernel: tuple[int, int]
    stride_in: int
    stride_out: int
    points: np.ndarray
    grid: np.ndarray
    modulation: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(H', W')."""
        return self.points.shape[3:5]

    @property
    def mean_length(self) -> float:
        """Of the offsets, in input pixels."""
        return float(np.linalg.norm(self.points - self.grid, axis=-1).mean())


def deformable_layers(model: nn.Layer) -> dict[str, DeformConv2D]:
    """The deformable convolutions of a model by name, in the order of the network."""
    return {name: layer for name, layer in model.named_sublayers() if isinstance(layer, DeformConv2D)}


def moves_bins(model: nn.Layer) -> bool:
    """Whether a model is a detector that pools boxes with bins that move."""
    return any(isinstance(layer, DeformRoIPool) for layer in model.sublayers())


def parse_position(text: str) -> tuple[int, int]:
    """`y,x` as two numbers: a place in the last layer's output. Raises InputError."""
    y, comma, x = text.partition(",")
    if not (comma and y.strip().isdecimal() and x.strip().isdecimal()):
        raise InputError(f"--position {text}: expected y,x, two whole numbers from 0 on, such as 2,1")
    return int(y), int(x)


def choose_layers(model: nn.Layer, wanted: Iterable[str] = ()) -> list[str]:
    """The names of the (at most) three layers to stack, lowest first: the last three, or the last three of `wanted`.

    A wanted name may be a part: c5 is all of that stage, c5.2 that block. Raises InputError where there is none; but
    a detector may have moving bins alone, and then they are none.
    """
    names = list(deformable_layers(model))
    if not names and moves_bins(model) and not wanted:
        return []
    if not names:
        more = ", or of a detector with model.roi_pooling=modulated" if hasattr(model, "rpn") else ""
        raise InputError(
            f"the model has no deformable layers; train one, for example with model.deformable_stages=[c5]{more}"
        )
    chosen = set()
    for part in wanted:
        found = [name for name in names if f".{part}." in f".{name}."]
        if not found:
            shown = [short(name) for name in names]
            close = difflib.get_close_matches(part, shown, n=1)
            advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(shown)}"
            raise InputError(f"layer {part}: no such deformable layer; {advice}")
        chosen.update(found)
    return [name for name in names if not chosen or name in chosen][-STACK:]


def short(name: str) -> str:
    """A layer's name without what all share."""
    return name.removeprefix("backbone.")


def collect(model: nn.Layer, image: paddle.Tensor, names: Iterable[str] | None = None) -> list[Sampling]:
    """Call the model with images, a tensor [N, C, H, W], and see what its deformable layers do, lowest first.

    `names` are those to look at; None: all.
    """
    seen = []

    def see(name, layer, inputs, output):
        (x,) = inputs
        offset, mask = layer.offset_and_mask(x)
        geometry = {key: pair(value) for key, value in layer.geometry.items()}
        kernel = tuple(layer.weight.shape[2:])
        points, grid = (
            np.stack([axis.numpy() for axis in sampling_points(given.astype("float64"), kernel, **geometry)], axis=-1)
            for given in (offset, paddle.zeros_like(offset))
        )
        modulation = np.ones(points.shape[:-1])
        if mask is not None:
            start = float(MODULATION[layer.modulation](paddle.zeros([])))
            modulation = mask.numpy().astype(np.float64).reshape(modulation.shape) / start
        strides = [stride_of(image.shape[2:], features.shape[2:]) for features in (x, output)]
        seen.append(Sampling(name, kernel, *strides, points, grid, modulation))

    layers = deformable_layers(model)
    with hooked(layers[name].register_forward_post_hook(partial(see, name)) for name in names or layers):
        with paddle.no_grad():
            model({"image": image})
    return seen


@contextlib.contextmanager
def offsets_of_zero(model: nn.Layer) -> Iterator[None]:
    """Inside it the model's deformable layers have their start's offsets and modulation: the plain network's grid."""
    with hooked(
        layer.offset.register_forward_post_hook(lambda branch, inputs, output: paddle.zeros_like(output))
        for layer in deformable_layers(model).values()
    ):
        yield


@contextlib.contextmanager
def hooked(hooks: Iterable) -> Iterator[None]:
    """Inside it these hooks of layers are there, and then removed."""
    hooks = list(hooks)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def stride_of(image_shape: Sequence[int], shape: Sequence[int]) -> int:
    """The stride of a feature map of H' x W' of an image of H x W: each halving rounds up, 28 becomes 14, 7, 4."""
    stride = 1
    while any(-(-size // stride) > positions for size, positions in zip(image_shape, shape, strict=True)):
        stride *= 2
    return stride


def stacked_points(stack: list[Sampling], position: tuple[int, int], image: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """All that one output position of a stack's last layer samples through the layers below it.

    stack: lowest first. Each sampling point is taken to the nearest position of the layer below; one that lies beyond
    its border reads zeros there and leads no further. Deformable group g samples through group g.
    Returns (points [P, 2] in image pixels, modulation [P], the product along the stack); P is D * 9^3 at most.
    """
    points, modulation = [], []
    for group in range(stack[-1].points.shape[1]):
        at, product = np.array([position]), np.ones(1)
        for layer, below in zip(reversed(stack), [*reversed(stack[:-1]), None], strict=True):
            row, column = at.T
            part = min(group, layer.points.shape[1] - 1)
            sampled = layer.stride_in * layer.points[image, part][:, row, column].reshape(-1, 2)
            product = (layer.modulation[image, part][:, row, column] * product).reshape(-1)
            if below is not None:
                at = np.floor(sampled / below.stride_out + 0.5).astype(int)
                inside = ((at >= 0) & (at < below.shape)).all(axis=1)
                at, product = at[inside], product[inside]
        points.append(sampled)
        modulation.append(product)
    return np.concatenate(points), np.concatenate(modulation)


def receptive_fields(model: nn.Layer, image: np.ndarray, name: str, positions: Positions) -> np.ndarray:
    """The effective receptive fields (arXiv:1811.11168) of one layer's output at some positions.

    image [C, H, W] -> float32 [P, H, W]: the gradient of the output, summed over its channels, with respect to each
    pixel, absolute and summed over the pixel's channels. All paths count, shortcuts and offset branches too.
    """
    outputs = []
    pixels = paddle.to_tensor(np.stack([image] * len(positions)))  # one copy for each position
    pixels.stop_gradient = False
    layer = deformable_layers(model)[name]
    with hooked([layer.register_forward_post_hook(lambda layer, inputs, output: outputs.append(output))]):
        model({"image": pixels})
    activation = sum(outputs[0][copy, :, y, x].sum() for copy, (y, x) in enumerate(positions))
    (gradient,) = paddle.grad(activation, pixels)
    return gradient.abs().sum(axis=1).numpy()


class Looked(NamedTuple):
    """What one position looks at, by the fixed grid or by the learned one."""

    points: np.ndarray  # [P, 2]
    modulation: np.ndarray  # [P]
    field: np.ndarray  # [H, W]


class Position(NamedTuple):
    label: str
    y: int
    x: int
    plain: Looked
    deformed: Looked


@dataclass(frozen=True)
class StackView:
    """A picture, a stack of layers, and what some positions of its last layer look at through them."""

    image: np.ndarray  # [C, H, W], as the network sees it
    stack: list[Sampling]
    positions: list[Position]


def look(model: nn.Layer, image: np.ndarray, names: list[str], positions: Positions = ()) -> StackView:
    """See through the layers `names`, lowest first, of a model in evaluation mode on one prepared image [C, H, W].

    positions: (y, x) of the last layer's output; none: the object's centre, its border and the background, as
    far as the picture tells. Raises InputError where a position lies outside.
    """
    pixels = paddle.to_tensor(image[None])
    stack = collect(model, pixels, names)
    with offsets_of_zero(model):
        plain = collect(model, pixels, names)
    (height, width), top = stack[-1].shape, names[-1]
    for y, x in positions:
        if not (0 <= y < height and 0 <= x < width):
            raise InputError(
                f"position {y},{x}: outside the {height} x {width} positions of {short(top)}; "
                f"y is 0 to {height - 1}, x 0 to {width - 1}"
            )
    labels = {f"position {y}, {x}": (y, x) for y, x in positions} or telling_positions(image, stack[-1])
    at = list(labels.values())
    fields = receptive_fields(model, image, top, at)
    with offsets_of_zero(model):
        plain_fields = receptive_fields(model, image, top, at)
    return StackView(image, stack, [
        Position(
            label, *place,
            plain=Looked(*stacked_points(plain, place), plain_field),
            deformed=Looked(*stacked_points(stack, place), field),
        )
        for (label, place), plain_field, field in zip(labels.items(), plain_fields, fields, strict=True)
    ])


def object_pixels(image: np.ndarray) -> np.ndarray:
    """A guess where the object of a picture [C, H, W] is: what differs more than the rest from the border's colour.

    bool [H, W]; nowhere in a picture of one colour.
    """
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    difference = np.abs(image - np.median(border, axis=1)[:, None, None]).sum(axis=0)
    limit = difference.mean()
    for _ in range(20):  # Ridler and Calvard's threshold: midway between the means of what lies on either side of it
        above = difference > limit
        limit = (difference[above].mean() + difference[~above].mean()) / 2 if above.any() else limit
    return difference > limit


def telling_positions(image: np.ndarray, layer: Sampling) -> dict[str, tuple[int, int]]:
    """Positions of a layer's output that tell something about a picture [C, H, W]: {what it is: (y, x)}."""
    there = np.argwhere(object_pixels(image))
    places = np.argwhere(np.ones(layer.shape))
    if not len(there):
        return {"centre of the picture": tuple(int(size) // 2 for size in layer.shape)}
    pixels = layer.stride_out * places
    from_object = np.array([np.linalg.norm(there - pixel, axis=1).min() for pixel in pixels])
    from_centre = np.linalg.norm(pixels - there.mean(axis=0), axis=1)
    wanted = {
        "centre of the object": -from_centre,
        "border of the object": np.where(from_object <= 1, from_centre, -from_object),  # the outermost on it
        "background": np.where(from_object > layer.stride_out / 2, from_object, -np.inf),
    }
    found = {}
    for label, worth in wanted.items():
        worth[[tuple(place) in found.values() for place in places]] = -np.inf
        if worth.max() > -np.inf:
            found[label] = tuple(map(int, places[np.argmax(worth)]))
    return found
