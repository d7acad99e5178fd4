"""The folder of a run: where it is, may it be used, and what describes the run in it."""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import PositiveFloat, PositiveInt

from data import ClipPreparation, DetectionPreparation, Preparation
from engine.config import Config, load_config
from engine.config.yaml_text import read_yaml
from engine.environment import describe
from engine.errors import InputError
from engine.files import read_text, write_text, writing_into
from engine.run.data_identity import DataIdentity, data_changes, read_data_identity, write_data_identity
from engine.run.locks import claim
from engine.run.saved import Strict, first_error

CONFIG_FILE, RESULT_FILE = "config.yaml", "result.json"
PREPARATION_FILE = "preparation.json"  # class names and how a picture becomes an input
# What a run cannot change on its way,
FIXED = ("seed", "model", "data", "batch", "ema_decay", "bn_precise_images", "optimizer.name")
FREE = ("data.root", "batch.workers_per_pass")  # but for where the data lie and what memory there is
PLACE = ("name", "output")  # where the run itself lies, which the folder says
MOST_NUMBERS = 2**26  # of a prepared image or clip


def run_folder(config_path: str | Path, config: Config, overrides: Iterable[str] = ()) -> Path:
    """Where a run lies: beside its own config.yaml, however that was moved or is reached; else where the config says.

    overrides: those that the config was read with; one of name or output asks for another place than beside.
    """
    path = Path(config_path)
    beside = path.parent
    moved = any(override.partition("=")[0].strip() in ("name", "output") for override in overrides)
    if moved or path.name != CONFIG_FILE or not (beside / PREPARATION_FILE).exists():
        return config.folder
    return config.folder if beside.resolve() == config.folder.resolve() else beside


def load_run_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """`load_config`, and where it is a run's own config.yaml, the Config of that run where it lies now."""
    config = load_config(path, overrides)
    return in_folder(config, run_folder(path, config, overrides))


def in_folder(config: Config, folder: Path) -> Config:
    """The config of a run that lies in `folder`: with its name, and that of its sweep, where the folders have them.

    Raises InputError where no run can have the folder's name.
    """
    if folder == config.folder:
        return config
    parts = Path(config.name).parts
    place = folder.resolve()
    if place.parts[-len(parts):] == parts:
        name, output = config.name, place.parents[len(parts) - 1]
    else:
        name, output = place.name, place.parent
    try:
        return Config.model_validate({**config.model_dump(), "name": name, "output": str(output)})
    except pydantic.ValidationError as failure:
        raise InputError(f"{folder}: no run can lie there: {first_error(failure)}") from None


def check_folder(config: Config, identity: DataIdentity, *, resume: bool) -> list[str]:
    """Raise InputError where the run's folder holds a run and `resume` is False, or a run that is not this one.

    Returns what may differ and does, as texts.
    """
    folder = config.folder
    if not (folder / CONFIG_FILE).exists():
        return []
    claim(folder)
    if not resume:
        raise _holds_a_run(folder)
    changes = []
    for key, was, is_now in changes_since(config):
        if key.startswith(FIXED) and key not in FREE:
            raise InputError(f"{folder}: its run has {key}: {was}, this config {is_now}; choose -o name=...")
        if key not in PLACE:
            changes.append(f"changed since it began: {key}: {was} -> {is_now}")
    if others := data_changes_since(folder, identity):
        what, was, is_now = others[0]
        raise InputError(
            f"{folder}: its {what} were {was}; here they are {is_now}; give it the data that it began with, or choose "
            "-o name=..."
        )
    return changes


def check_source(stem: Path, config: Config, identity: DataIdentity) -> list[str]:
    """Raise InputError where another run's checkpoint was trained on other classes than `identity` has.

    Returns what else differs, as texts. Of the run's own checkpoint `check_folder` knows.
    """
    if stem.parent.resolve() == config.folder.resolve():
        return []
    changes = []
    for what, was, is_now in data_changes_since(stem.parent, identity):
        if what == "classes":
            raise InputError(
                f"{stem}: its {what} were {was}; here they are {is_now}; as pretrained=... it can be used all the same"
            )
        changes.append(f"others than those of {stem}: its {what} were {was}; here they are {is_now}")
    return changes


def data_changes_since(folder: Path, identity: DataIdentity) -> list[tuple[str, str, str]]:
    """(what, before, now) of the data that are not those of the run in a folder, as far as it has noted them."""
    before = read_data_identity(folder)
    if before is None and (folder / PREPARATION_FILE).exists():  # of an older version
        before = DataIdentity(classes=list(read_preparation(folder).classes))
    return data_changes(before, identity) if before else []


def changes_since(config: Config) -> list[tuple]:
    """(key, before, now) of every value that is not what it was when the run in the config's folder began."""
    written = config.folder / CONFIG_FILE
    if not written.exists():
        return []
    try:
        before = yaml.safe_load(load_config(written).to_yaml())  # with the defaults of keys that are newer than it
    except InputError:
        before = read_yaml(written)
    return list(differences(before, yaml.safe_load(config.to_yaml())))


def make_folder(config: Config, preparation: Preparation, identity: DataIdentity, *, finished: bool) -> None:
    """Make the run's folder with config.yaml, env.json, preparation.json and data.json.

    Unless the run is finished, a result that lies there is of fewer epochs, or of another course, and goes. Of one that
    is, env.json stays: it says where the run was trained.
    Raises InputError where another process has begun a run in the folder since `check_folder` saw none.
    """
    with writing_into(config.folder):
        if claim(config.folder) and (config.folder / CONFIG_FILE).exists():
            raise _holds_a_run(config.folder)
        if not finished:
            (config.folder / RESULT_FILE).unlink(missing_ok=True)
        write_text(config.folder / CONFIG_FILE, config.to_yaml())
        if not (finished and (config.folder / "env.json").exists()):
            write_text(config.folder / "env.json", json.dumps(describe(), indent=2) + "\n")
        write_preparation(config.folder, preparation)
        write_data_identity(config.folder, identity)


def _holds_a_run(folder):
    return InputError(f"{folder}: already holds a run; continue it with -r auto, or choose -o name=...")


def differences(before: Any, now: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, before, now) of every value that differs."""
    if isinstance(now, dict):
        before = before if isinstance(before, dict) else {}
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), (*at, key))
    elif before != now:
        yield ".".join(at), before, now


def write_preparation(folder: Path, preparation: Preparation) -> None:
    """What inference needs beside the weights."""
    text = json.dumps(dataclasses.asdict(preparation), indent=2, ensure_ascii=False)
    write_text(folder / PREPARATION_FILE, text + "\n")


class _PreparationFile(Strict):
    """preparation.json, as `Preparation` says."""

    model_config = pydantic.ConfigDict(extra="forbid")
    classes: list[str]  # none where the task has none
    image_shape: tuple[Literal[1, 3], PositiveInt, PositiveInt]
    mean: list[float]
    std: list[PositiveFloat]
    resize_short: PositiveInt | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    @pydantic.model_validator(mode="after")
    def _fits_into_memory(self):
        if math.prod(self.image_shape) > MOST_NUMBERS:
            raise ValueError(f"image_shape: more than {MOST_NUMBERS:,} numbers")
        return self

    @pydantic.model_validator(mode="after")
    def _channels_agree(self):
        if not len(self.mean) == len(self.std) == self.image_shape[0]:
            raise ValueError(f"mean and std: expected {self.image_shape[0]} numbers each, one a channel")
        return self

    @pydantic.model_validator(mode="after")
    def _sizes_agree(self):
        if self.resize_short is not None and self.resize_short < max(self.image_shape[-2:]):
            raise ValueError(f"resize_short: {self.resize_short}, less than the {max(self.image_shape[-2:])} of a side")
        return self


class _DetectionPreparationFile(_PreparationFile):
    """The same of a `DetectionPreparation`."""

    image_shape: tuple[Literal[3], PositiveInt, PositiveInt]
    resize_short: PositiveInt
    resize_long: PositiveInt
    category_ids: list[int]

    @pydantic.model_validator(mode="after")
    def _sizes_agree(self):
        if self.resize_short > self.resize_long:
            raise ValueError(f"resize_short: {self.resize_short}, more than the resize_long of {self.resize_long}")
        if len(self.category_ids) != len(self.classes):
            raise ValueError(f"category_ids: {len(self.category_ids)} of {len(self.classes)} classes")
        return self


class _ClipPreparationFile(_PreparationFile):
    """The same of a `ClipPreparation`."""

    image_shape: tuple[Literal[1, 3], PositiveInt, PositiveInt, PositiveInt]
    stride: PositiveInt
    fps: PositiveFloat | None


KINDS = {  # by a word that no other kind's file has
    '"resize_long"': (DetectionPreparation, _DetectionPreparationFile),
    '"stride"': (ClipPreparation, _ClipPreparationFile),
}


def read_preparation(folder: Path) -> Preparation:
    """The class names and picture preparation that training wrote into a folder. Raises InputError."""
    path = folder / PREPARATION_FILE
    try:
        text = read_text(path, "no such file; expected a folder that tools/train.py made")
        made, file = next((kind for word, kind in KINDS.items() if word in text), (Preparation, _PreparationFile))
        return made(**file.model_validate_json(text).model_dump())
    except InputError:
        raise
    except pydantic.ValidationError as failure:
        raise InputError(f"{path}: damaged ({first_error(failure)})") from None
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})") from None
