"""Give a model the weights of another: fine-tuning, other norms, other heads."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import paddle
from paddle import nn

from models.norm import LAYERS
from models.weights.layout import is_folded, widened
from models.weights.network import described
from ops import FrozenBatchNorm

BATCH_NORMS = ("weight", "bias", "_mean", "_variance")
Norms = Literal["same", "any"]  # which norms of a file are taken: those of the model's kind, or any


@dataclass(frozen=True)
class WeightsReport:
    """Names by what became of them. `reshaped` holds (name, shape in the file, shape in the model).

    Of those that matched, `converted` maps the names that had another dtype to it, and `still` are running variances
    with channels of 0, which nothing ever moved. `other_norms` are the norms that stay as they were, for the file has
    norms of another kind there; their entries are in no other list. `sizes` says in words where the file's network is
    another than the model.
    """

    matched: list
    missing: list
    unexpected: list
    reshaped: list
    converted: dict = field(default_factory=dict)
    still: list = field(default_factory=list)
    other_norms: list = field(default_factory=list)
    sizes: str = ""

    def __str__(self) -> str:
        shapes = [f"{name} {list(found)} for {list(wanted)}" for name, found, wanted in self.reshaped]
        return "; ".join([
            f"{len(self.matched)} matched", *self.remarks,
            *_counted(**{
                "norms left as they were, for the file's are of another kind": self.other_norms,
                "missing": self.missing, "unexpected": self.unexpected, "another shape": shapes,
            }),
            *filter(None, [self.sizes]),
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


def load_weights(model: nn.Layer, state: Mapping[str, np.ndarray], norms: Norms = "same") -> WeightsReport:
    """Put the arrays of `state` into the entries of `model` that have their name and shape; report the rest.

    Floats of another precision become the model's; bfloat16 comes as uint16, which is how NumPy holds Paddle's. Norms
    are taken from norms of the same kind, with running statistics or without: gamma and beta of the one make no sense
    in the other, where `norms` is "any" they are taken all the same. Raises ValueError, and changes nothing, where not
    one entry fits, or one that is frozen has none that does, or one that fits cannot be a weight: numbers that are not
    finite or no floats, variances below 0 or all of them 0, frozen gammas of 0.
    """
    own = model.state_dict()
    sizes = _sizes(state, own)
    other_norms = _other_norms(model, state) if norms == "same" else []
    outside = {name for name in (*own, *state) if name.rpartition(".")[0] in other_norms}
    count, state = len(state), {name: value for name, value in state.items() if name not in outside}
    shared = own.keys() & state.keys()
    matched = sorted(name for name in shared if list(own[name].shape) == list(state[name].shape))
    values = {name: _value(name, state[name], own[name]) for name in matched}
    names = {name: _dtype_name(state[name]) for name in matched}
    report = WeightsReport(
        matched=matched,
        missing=sorted(own.keys() - state.keys() - outside),
        unexpected=sorted(state.keys() - own.keys()),
        reshaped=sorted(
            (name, tuple(state[name].shape), tuple(own[name].shape)) for name in shared - set(matched)
        ),
        converted={name: dtype for name, dtype in names.items() if not str(own[name].dtype).endswith(f".{dtype}")},
        still=[name for name in matched if _is_variance(name) and not values[name].all()],
        other_norms=other_norms,
        sizes=sizes,
    )
    if not matched:
        raise ValueError(f"none of its {count} arrays fits the model: {report}")
    _check_frozen(frozen_entries(model), values)
    for name, value in values.items():
        own[name].set_value(paddle.to_tensor(value).astype(own[name].dtype))
    return report


def _other_norms(model, state):
    """The norms of a model in whose place a state has norms of another kind."""
    norms = {name: layer for name, layer in model.named_sublayers() if isinstance(layer, LAYERS)}
    ours, theirs = (_more_entries(norms, names) for names in (model.state_dict(), state))
    return [
        name for name, layer in norms.items() if f"{name}.weight" in state
        and not (_is_of_kind(layer, state.get(f"{name}._mean"), state.get(f"{name}._variance"))
                 and ours[_part(name)] == theirs[_part(name)])
    ]


def _more_entries(norms, names):
    """What norms have beyond batch norm's entries, in the parts of a network (backbone, heads …): {part: {entry}}.

    A norm of its own kind has them where it is activated alone, so that one layer does not tell.
    """
    more = {_part(norm): set() for norm in norms}
    for name in names:
        norm, _, entry = name.rpartition(".")
        if norm in norms and entry not in BATCH_NORMS:
            more[_part(norm)].add(entry)
    return more


def _part(name):
    return name.partition(".")[0]


def _is_of_kind(layer, mean, variance):
    """Whether a norm is of the kind whose running statistics, None where there are none, these are."""
    is_batch_norm = mean is not None or variance is not None
    if not hasattr(layer, "_mean"):
        return not is_batch_norm
    # What is folded into gamma and beta cannot be taken over by the statistics of a batch.
    live = not isinstance(layer, FrozenBatchNorm)
    return is_batch_norm and not (live and variance is not None and is_folded(variance))


def _sizes(state, own):
    """Where a file's network and a model are not of one size, which they are."""
    found, wanted = (described({name: tuple(value.shape) for name, value in each.items()}) for each in (state, own))
    return f"the file has a {found}, the model is a {wanted}" if found and wanted and found != wanted else ""


def frozen_entries(model: nn.Layer) -> set[str]:
    """The names in a model's state of what no training moves: frozen parameters, and all of frozen batch norms."""
    # Paddle's sync BN keeps its running statistics among its parameters, without a gradient: they move all the same.
    names = {
        name for name, parameter in model.named_parameters()
        if parameter.stop_gradient and name.rpartition(".")[2] not in ("_mean", "_variance")
    }
    for name, layer in model.named_sublayers():
        if isinstance(layer, FrozenBatchNorm):
            names |= {f"{name}.{entry}" for entry in layer.state_dict()}
    return names


def _check_frozen(names, values):
    """ValueError unless what never learns gets all that it will ever have, and lets something through."""
    if lacking := sorted(names - values.keys()):
        raise ValueError(
            f"has no {lacking[0]} that fits, and what is frozen never learns it; frozen batch norm wants a BN network's"
        )
    for name in sorted(names):
        if name.endswith(".weight") and values[name].ndim == 1 and not values[name].any():
            raise ValueError(f"{name} is 0 in all channels; frozen, it would stay so for ever")


def _value(name, array, entry):
    """An array as the floats that a model's entry can take. ValueError where they make no sense there."""
    if not entry.is_floating_point():
        return array
    array = widened(array)
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


def _is_variance(name):
    return name.rpartition(".")[2] == "_variance"  # of batch norm, in all its kinds


def _dtype_name(array):
    return "bfloat16" if array.dtype == np.uint16 else array.dtype.name
