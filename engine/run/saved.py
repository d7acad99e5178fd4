"""What a checkpoint must hold for a run to go on from it: checked before anything of the run is changed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import paddle
import pydantic
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from engine.errors import InputError
from engine.run.finite import not_finite


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, allow_inf_nan=False)


class _Best(Strict):
    model_config = pydantic.ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]  # the headline score, by its name
    epoch: PositiveInt
    step: PositiveInt


class _Position(Strict):
    metrics: NonNegativeInt
    visualdl: NonNegativeInt


class States(Strict):
    """STEM.pdstates: the fields of engine.run.progress.Progress and what goes with them."""

    epoch: NonNegativeInt
    step: NonNegativeInt
    steps_per_epoch: PositiveInt
    window: list[dict[str, float]]
    sums: dict[str, float]
    best: _Best | None
    train_seconds: NonNegativeFloat
    position: _Position | None
    optimizer: str
    scaler: dict = {}

    @pydantic.model_validator(mode="after")
    def _agree(self):
        first = self.epoch * self.steps_per_epoch
        if not first <= self.step <= first + self.steps_per_epoch:
            raise ValueError(f"step {self.step} is not in epoch {self.epoch + 1}, of {self.steps_per_epoch} steps each")
        if any("loss" not in numbers or numbers.keys() != self.window[0].keys() for numbers in self.window):
            raise ValueError("window: its steps have not all the same numbers, or no loss")
        if self.best and self.best.step > self.step:
            raise ValueError(f"best: of step {self.best.step}, behind step {self.step}")
        return self


def check_states(states: dict, stem: Path) -> States:
    """What STEM.pdstates holds. Raises InputError where something is missing or of the wrong kind."""
    try:
        return States.model_validate(states)
    except pydantic.ValidationError as failure:
        raise InputError(
            f"{stem}.pdstates: {first_error(failure)}; expected one that tools/train.py wrote"
        ) from None


def first_error(failure: pydantic.ValidationError) -> str:
    """The first thing that is wrong, as `key: what was wanted, what came`."""
    error = failure.errors()[0]
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"lacks {where}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r:.60}"


def check_weights(state: Mapping, own: Mapping, stem: Path, ending: str = ".pdparams") -> None:
    """Raise InputError unless STEM.pdparams, or .pdema, has the arrays of the model's state `own`, and finite ones."""
    for name in sorted(own.keys() | state.keys()):
        found, wanted = state.get(name), own.get(name)
        if found is not None and not isinstance(found, np.ndarray):
            raise InputError(f"{stem}{ending}: {name} is a {type(found).__name__}, expected an array")
        shapes = [list(value.shape) if value is not None else "nothing" for value in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{stem}: of another architecture: {name} is {shapes[0]} there, {shapes[1]} in this model"
            )
        kind = str(wanted.dtype).rpartition(".")[2]
        if found.dtype.name != kind:
            raise InputError(f"{stem}{ending}: {name} is {found.dtype.name}, expected {kind}")
    _check_finite(state, f"{stem}{ending}")


def check_optimizer(state: Mapping, parameters: Iterable[paddle.Tensor], stem: Path) -> None:
    """Raise InputError unless STEM.pdopt has for every parameter the same accumulators, of fitting shapes, and sound.

    Paddle notices what is missing only at the first step, and takes an empty state for a fresh start.
    """
    found = {}
    for parameter in parameters:
        prefix = f"{parameter.name}_"
        found[parameter.name] = {name.removeprefix(prefix) for name in state if name.startswith(prefix)}
        for kind in sorted(found[parameter.name]):
            value, shape = state[prefix + kind], list(parameter.shape)
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                came = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
                raise InputError(f"{stem}.pdopt: {prefix}{kind} is {came}, expected an array of floats")
            if list(value.shape) != shape and value.size != 1:  # one number: a power of Adam's beta
                raise InputError(f"{stem}.pdopt: {prefix}{kind} is {list(value.shape)}, expected {shape}")
    wanted = set().union(*found.values())
    for name, kinds in found.items():
        if not kinds or kinds != wanted:
            raise InputError(f"{stem}.pdopt: lacks the state of {name}; expected one of the same model")
    _check_finite(state, f"{stem}.pdopt")


def check_scaler(state: Mapping, own: Mapping, stem: Path) -> None:
    """Raise InputError unless the loss scaling's state is like the scaler's `own`."""
    for name, value in own.items():
        if not isinstance(state.get(name), type(value)) or np.size(state[name]) != np.size(value):
            raise InputError(f"{stem}.pdstates: scaler: {name} is {state.get(name)!r:.60}, expected one like {value!r}")


def _check_finite(values, path):
    if name := not_finite(values):
        raise InputError(f"{path}: {name} holds numbers that are not finite; go on from an older checkpoint")
