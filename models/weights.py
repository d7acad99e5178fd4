"""Give a model the weights of another: fine-tuning, other norms, other heads."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import paddle
from paddle import nn


@dataclass(frozen=True)
class WeightsReport:
    """Names by what became of them. `reshaped` holds (name, shape in the file, shape in the model).

    Of those that matched, `converted` maps the names that had another dtype to it, and `still` are running variances
    with channels of 0, which nothing ever moved.
    """

    matched: list
    missing: list
    unexpected: list
    reshaped: list
    converted: dict = field(default_factory=dict)
    still: list = field(default_factory=list)

    def __str__(self) -> str:
        shapes = [f"{name} {list(found)} for {list(wanted)}" for name, found, wanted in self.reshaped]
        return "; ".join([
            f"{len(self.matched)} matched", *self.remarks,
            *_counted(missing=self.missing, unexpected=self.unexpected, **{"another shape": shapes}),
        ])

    @property
    def remarks(self) -> list[str]:
        """What is worth a word though everything fits."""
        dtypes = [f"{count} converted from {dtype}" for dtype, count in Counter(self.converted.values()).items()]
        return dtypes + _counted(**{"with variances of 0 in some channels": self.still})


def _counted(**names_by_fate):
    """How many, and which: the first six."""
    return [
        f"{len(names)} {fate} ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})"
        for fate, names in names_by_fate.items() if names
    ]


def load_weights(model: nn.Layer, state: Mapping[str, np.ndarray]) -> WeightsReport:
    """Put the arrays of `state` into the entries of `model` that have their name and shape; report the rest.

    Floats of another precision become the model's; bfloat16 comes as uint16, which is how NumPy holds Paddle's. Raises
    ValueError, and changes nothing, where not one entry fits or one that does cannot be a weight: numbers that are not
    finite or no floats, variances below 0 or all of them 0.
    """
    own = model.state_dict()
    shared = own.keys() & state.keys()
    matched = sorted(name for name in shared if list(own[name].shape) == list(state[name].shape))
    values = {name: _value(name, state[name], own[name]) for name in matched}
    names = {name: _dtype_name(state[name]) for name in matched}
    report = WeightsReport(
        matched=matched,
        missing=sorted(own.keys() - state.keys()),
        unexpected=sorted(state.keys() - own.keys()),
        reshaped=sorted(
            (name, tuple(state[name].shape), tuple(own[name].shape)) for name in shared - set(matched)
        ),
        converted={name: dtype for name, dtype in names.items() if not str(own[name].dtype).endswith(f".{dtype}")},
        still=[name for name in matched if _is_variance(name) and not values[name].all()],
    )
    if not matched:
        raise ValueError(f"none of its {len(state)} arrays fits the model: {report}")
    for name, value in values.items():
        own[name].set_value(paddle.to_tensor(value).astype(own[name].dtype))
    return report


def _value(name, array, entry):
    """An array as the floats that a model's entry can take. ValueError where they make no sense there."""
    if not entry.is_floating_point():
        return array
    array = as_floats(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{name} is of {array.dtype}, expected floats")
    if entry.dtype != paddle.float64:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if broken := int((~np.isfinite(array)).sum()):
        raise ValueError(f"{name}: {broken} of its {array.size} values are not finite; they are of a diverged training")
    if _is_variance(name) and ((array < 0).any() or array.size and not array.any()):
        came = f"{array.min():g}" if array.any() else "nothing but 0"
        raise ValueError(f"{name}: a variance of {came} is of no training")
    return array


def as_floats(array: np.ndarray) -> np.ndarray:
    """An array with what is held as uint16, which is how NumPy holds Paddle's bfloat16, as float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


def _is_variance(name):
    return name.rpartition(".")[2] == "_variance"  # of batch norm, in all its kinds


def _dtype_name(array):
    return "bfloat16" if array.dtype == np.uint16 else array.dtype.name
