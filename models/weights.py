"""Give a model the weights of another: fine-tuning, other norms, other heads."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WeightsReport:
    """Names by what became of them. `reshaped` holds (name, shape in the file, shape in the model)."""

    matched: list
    missing: list
    unexpected: list
    reshaped: list

    def __str__(self):
        parts = [f"{len(self.matched)} matched"]
        shapes = [f"{name} {list(found)} for {list(wanted)}" for name, found, wanted in self.reshaped]
        for what, names in (("missing", self.missing), ("unexpected", self.unexpected), ("another shape", shapes)):
            if names:
                shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
                parts.append(f"{len(names)} {what} ({shown})")
        return "; ".join(parts)


def load_weights(model, state: Mapping[str, np.ndarray]) -> WeightsReport:
    """Put the arrays of `state` into the entries of `model` that have their name and shape; report the rest.

    Raises ValueError, and changes nothing, where not one entry fits.
    """
    own = model.state_dict()
    shared = own.keys() & state.keys()
    matched = {name: state[name] for name in shared if list(own[name].shape) == list(state[name].shape)}
    report = WeightsReport(
        matched=sorted(matched),
        missing=sorted(own.keys() - state.keys()),
        unexpected=sorted(state.keys() - own.keys()),
        reshaped=sorted(
            (name, tuple(state[name].shape), tuple(own[name].shape)) for name in shared - matched.keys()
        ),
    )
    if not matched:
        raise ValueError(f"none of its {len(state)} arrays fits the model: {report}")
    for name, value in matched.items():
        own[name].set_value(value)
    return report
