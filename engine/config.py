"""From YAML files and the command line to one typed, frozen Config, and back.

The schema lives where the values are used: the `model` section is the signature of `models.resnet` (and of the
classifier on top), the `data` section that of the data set's builder. The other sections stand here.
"""

import difflib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_type_hints

import pydantic
import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from data import DATASETS
from data.archives import MOST_FILES
from engine.errors import InputError
from engine.yaml_text import parse_value, read_yaml, write_yaml
from models import Classifier, resnet

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Batch(Section):
    """How many images make a step, and which of them share batch statistics, by one of three protocols.

    paper: `workers` do `images_per_worker` each, as GPUs do; the step follows, and the rate follows the step.
    norm_batch: `images_per_step` stay the same, and so does the rate; only who shares statistics changes.
    single: one worker, which is what a user with one GPU and a smaller batch has.

    None stands for what follows; after validation every number is there.
    """

    protocol: Literal["paper", "norm_batch", "single"] = "paper"
    images_per_worker: PositiveInt = 32  # the paper's "batch size": what BN sees
    workers: PositiveInt | None = None  # over all devices, each carries workers / devices; paper: 8 unless given
    images_per_step: PositiveInt | None = None  # norm_batch wants it
    workers_per_pass: PositiveInt | None = None  # None: all of a device; fewer save memory (gradients accumulate)

    @pydantic.model_validator(mode="after")
    def _fill_in(self):
        if self.protocol == "norm_batch":
            if self.images_per_step is None:
                raise ValueError("protocol norm_batch wants images_per_step, from which the workers follow")
            if self.images_per_step % self.images_per_worker:
                raise ValueError(
                    f"{self.images_per_step} images per step do not divide into workers of {self.images_per_worker}"
                )
            workers = self.images_per_step // self.images_per_worker
        else:
            workers = 1 if self.protocol == "single" else self.workers or 8
        images = workers * self.images_per_worker
        for name, given, follows in (
            ("workers", self.workers, workers), ("images_per_step", self.images_per_step, images),
        ):
            if given not in (None, follows):
                raise ValueError(f"protocol {self.protocol} makes {name} {follows}, not {given}; leave it out or null")
            object.__setattr__(self, name, follows)  # the section is frozen for everybody else
        return self


class Optimizer(Section):
    name: Literal["momentum", "adam", "adamw"] = "momentum"
    base_lr: NonNegativeFloat = 0.1
    reference_images_per_step: PositiveInt | None = 256  # lr = base_lr * images_per_step / this; None: lr = base_lr
    momentum: Fraction = 0.9
    nesterov: bool = True
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    weight_decay: NonNegativeFloat = 1e-4
    decay_norm_and_bias: bool = True  # False spares every vector: gamma, beta and biases
    offset_lr_multiplier: NonNegativeFloat | None = None  # None: the papers' 1 for DCN v1 and 0.1 for v2
    clip_norm: PositiveFloat | None = None  # global L2 norm of the gradients of a step


class Schedule(Section):
    name: Literal["step", "cosine"] = "step"
    epochs: PositiveInt = 100
    milestones: tuple[PositiveInt, ...] = (30, 60, 90)  # step: after so many epochs the rate is multiplied by factor
    factor: PositiveFloat = 0.1
    final_lr: NonNegativeFloat = 0.0  # cosine: where it ends
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_start: Fraction = 0.0  # of the rate that the warm-up leads to


class Amp(Section):
    """Mixed precision on a GPU, as Paddle calls it: O1 computes what can stand it in the smaller type, O0 nothing."""

    level: Literal["O0", "O1"] = "O0"
    dtype: Literal["float16", "bfloat16"] = "float16"


class Reading(Section):
    processes: NonNegativeInt = 2  # that decode pictures; sets in memory need none
    evaluation_images: PositiveInt = 200  # a step of evaluation
    max_unpacked_gb: PositiveFloat | None = None  # of archives; None: 100 times their own size, 1 GB at least
    max_unpacked_files: PositiveInt = MOST_FILES  # and folders


class Checkpoint(Section):
    every_minutes: PositiveFloat = 5.0
    every_epochs: PositiveInt = 1
    keep: NonNegativeInt = 2  # how many epoch_N stay


class Record(Section):
    every_steps: PositiveInt = 10
    histograms: bool = True
    sample_images: NonNegativeInt = 8
    offsets: NonNegativeInt = 0  # validation pictures on which VisualDL shows what deformable layers look at


class Expect(Section):
    """What a run's last evaluation must reach; `tools/train.py --check` fails where it does not."""

    top1_error_below: Fraction


def _section(name, *builders, derived=()):
    """The section `name` made of the signatures of builders, less the arguments that the program derives."""
    fields: dict[str, Any] = {"name": (Literal[name], name)}
    for builder in builders:
        hints = get_type_hints(builder.__init__ if inspect.isclass(builder) else builder, include_extras=True)
        for parameter in inspect.signature(builder).parameters.values():
            if parameter.name not in derived:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (hints[parameter.name], default)
    return pydantic.create_model(f"{name}_section", __base__=Section, **fields)


def arguments(section: Section, builder) -> dict:
    """The values of `section` that `builder` takes."""
    return {name: getattr(section, name) for name in inspect.signature(builder).parameters if hasattr(section, name)}


DERIVED = ("backbone", "num_classes", "in_channels", "bn_images_per_worker")
MODEL_SECTIONS = {"resnet": _section("resnet", resnet, Classifier, derived=DERIVED)}
DATA_SECTIONS = {name: _section(name, builder) for name, builder in DATASETS.items()}


def _one_of(sections):
    if len(sections) == 1:
        return next(iter(sections.values()))
    return Annotated[Union[tuple(sections.values())], Field(discriminator="name")]  # noqa: UP007


class Config(Section):
    name: Annotated[str, Field(pattern=r"^[^/.][^/]*(/[^/.][^/]*)*$")]  # of the run; None in a file: the file's own
    output: str = "output"  # the run's folder is output/name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Literal["auto", "cpu", "gpu"] = "auto"
    deterministic: bool = False  # on a GPU: slower algorithms that give the same bits each time
    pretrained: str | None = None  # a .pdparams file to start from; what does not fit is reported and left out
    model: _one_of(MODEL_SECTIONS) = MODEL_SECTIONS["resnet"]()
    data: _one_of(DATA_SECTIONS)
    batch: Batch = Batch()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    amp: Amp = Amp()
    ema_decay: Fraction | None = None  # of an average of the weights, used in evaluation; None: none
    bn_precise_images: PositiveInt = 1000  # training images behind the statistics of bn_running_statistics: precise
    reading: Reading = Reading()
    evaluate_every_epochs: PositiveInt = 1
    checkpoint: Checkpoint = Checkpoint()
    record: Record = Record()
    expect: Expect | None = None

    @pydantic.field_validator("record")
    @classmethod
    def _offsets_are_there(cls, record, info):
        model = info.data.get("model")  # None where it is wrong itself
        if record.offsets and model and not model.deformable_stages:
            raise ValueError(f"offsets: {record.offsets} pictures want deformable layers; set model.deformable_stages")
        return record

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name

    @property
    def lr(self) -> float:
        """The rate that the schedule starts from: it follows the images per step."""
        reference = self.optimizer.reference_images_per_step
        return self.optimizer.base_lr * (self.batch.images_per_step / reference if reference else 1.0)

    def to_yaml(self) -> str:
        """Every value; `load_config` of it gives this Config again."""
        return write_yaml(self.model_dump(mode="json"))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file over its `_BASE_`, put `key.sub=value` overrides over it, check everything.

    A mapping is merged key by key, a list replaced; where `data.name` or `model.name` changes, that section starts
    anew. `_BASE_` is a path, or a list of them, relative to the file. Override values are YAML; an index addresses
    an element of a list (`schedule.milestones.0=20`). Raises InputError, one line, for anything that does not fit.
    """
    values, origins = read_values(path, overrides)
    if "sweep" in values:
        raise InputError(f"{path}: describes a sweep of many runs; use tools/sweep.py")
    return make_config(values, origins, path)


def read_values(path: str | Path, overrides: Iterable[str] = ()) -> tuple[dict, dict]:
    """What a YAML file, its bases and the overrides say together, unchecked, and which of them said each key."""
    values, origins = {}, {}
    for source, mapping in _read_with_bases(Path(path), ()):
        merge_values(values, mapping, str(source), origins)
    for override in overrides:
        _override(values, override, origins)
    if values.get("name") is None:
        values["name"] = Path(path).stem
    return values, origins


def make_config(values: dict, origins: dict, path: str | Path, schema: type[Section] = Config):
    """Check such values and make them a Config, or what another `schema` says. Raises InputError."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: holds what is no number, text, list or mapping ({error})") from None
    try:
        return schema.model_validate_json(text, strict=True)
    except pydantic.ValidationError as failure:
        raise InputError(_one_line(failure.errors()[0], origins, str(path), schema)) from None


def _read_with_bases(path, above):
    """(path, mapping) of every file that `path` builds on, farthest first."""
    if path.resolve() in above:
        raise InputError(f"{path}: _BASE_ leads back to this file")
    values = read_yaml(path)
    bases = values.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"{path}: _BASE_: expected a path or a list of paths, got {bases!r}")
    for base in bases:
        yield from _read_with_bases(path.parent / base, (*above, path.resolve()))
    yield path, values


def merge_values(values: dict, new: Mapping, source: str, origins: dict, at=()) -> None:
    """Put `new` over `values` in place; `origins` learns which source gave each key."""
    if at in (("model",), ("data",)) and "name" in new and new["name"] != values.get("name"):
        values.clear()
    for key, value in new.items():
        here = (*at, str(key))
        if isinstance(value, Mapping):
            if not isinstance(values.get(key), dict):
                values[key] = {}
            origins[here] = source
            merge_values(values[key], value, source, origins, here)
        else:
            values[key] = value
            origins[here] = source


def _override(values, text, origins):
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"-o {text}: expected key=value, for example -o schedule.epochs=10")
    try:
        value = parse_value(value)
    except yaml.YAMLError as error:
        raise InputError(f"-o {text}: not a YAML value: {' '.join(str(error).split())}") from None
    *path, last = key.split(".")
    source, parent = f"-o {text}", values
    for part in path:
        parent = parent.get(part) if isinstance(parent, dict) else None
    if parent is None and last.isdigit():  # an element of a list that no file mentions: of its default
        parent = _default_list(path)
        merge_values(values, _nested(path, parent), source, origins)
    if isinstance(parent, list):
        if not last.isdigit() or int(last) >= len(parent):
            raise InputError(f"{source}: expected an index from 0 to {len(parent) - 1} behind {'.'.join(path)}")
        parent[int(last)] = value
        origins[tuple(path)] = source
        return
    merge_values(values, _nested([*path, last], value), source, origins)


def _nested(path, value):
    for part in reversed(path):
        value = {part: value}
    return value


def _default_list(path):
    """The list that the schema has at this place where nothing is given; an empty one where it has none."""
    value = Config.model_fields.get(path[0])
    value = value and value.default
    for part in path[1:]:
        value = getattr(value, part, None)
    return list(value) if isinstance(value, tuple) else []


def _one_line(error, origins, path, schema):
    """A pydantic error as `where: key: what came and what was wanted`."""
    location = [part for part in error["loc"] if not (part in DATA_SECTIONS and error["loc"][0] == "data")]
    location = [str(part) for part in location]
    source = next((origins[at] for n in range(len(location), 0, -1) if (at := tuple(location[:n])) in origins), path)
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], _keys_at(error["loc"][:-1], schema), n=1)
        message = "unknown key" + (f"; did you mean {close[0]}?" if close else "")
    elif error["type"] == "missing":
        message = "missing; it has no default"
    elif error["type"] == "union_tag_invalid":
        location.append("name")
        message = f"expected one of {', '.join(DATA_SECTIONS)}, got {error['input'].get('name')!r}"
    elif error["type"] == "union_tag_not_found":
        location.append("name")
        message = f"missing; expected one of {', '.join(DATA_SECTIONS)}"
    elif error["type"] == "value_error":
        message = str(error["ctx"]["error"])
    else:
        message = f"{message.replace('input should', 'should')}, got {error['input']!r}"
    return f"{source}: {'.'.join(location)}: {message}"


def _keys_at(location, schema):
    """The keys that the section at this place of the schema has."""
    section: Any = schema
    for part in location:
        if part in DATA_SECTIONS and section is DATA_SECTIONS:
            section = DATA_SECTIONS[part]
        elif part == "data":
            section = DATA_SECTIONS
        else:
            kinds = section.model_fields[part].annotation
            section = next((kind for kind in (kinds, *get_args(kinds)) if hasattr(kind, "model_fields")), Section)
    return list(section.model_fields)


def config_keys() -> list[str]:
    """Every dotted key that a config may have, whatever its data set."""

    def walk(section, at):
        for name, field in section.model_fields.items():
            kinds = (field.annotation, *get_args(field.annotation))
            kinds = DATA_SECTIONS.values() if (*at, name) == ("data",) else kinds
            inner = [kind for kind in kinds if hasattr(kind, "model_fields")]
            for kind in inner:
                yield from walk(kind, (*at, name))
            if not inner:
                yield ".".join((*at, name))

    return list(dict.fromkeys(walk(Config, ())))
