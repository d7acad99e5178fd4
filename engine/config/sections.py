"""What a config may say: one typed, frozen Config of sections.

The schema lives where the values are used: the `model` section is the signatures of a model's builders in
`models.MODELS`, the `data` section that of a data set's in `data.DATASETS`. The other sections stand here.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pydantic
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from data import DATASETS
from data.archives import MOST_FILES
from data.user_path import UserPath, check_length
from engine.config.yaml_text import write_yaml
from engine.terminal import printable
from models import MODELS

LONGEST_NAME = 900  # bytes of a run's name; a path below it is to stay below 4,096
Fraction = Annotated[float, Field(ge=0, le=1)]
LARGEST = 2**31 - 1  # that sizes and numbers have in Paddle, NumPy and VisualDL, each of which ends otherwise beyond


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @pydantic.field_validator("*")
    @classmethod
    def _whole_numbers_are_small(cls, value):
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int):
                _check_size(number)
        return value


def _check_size(number, what="should"):
    if abs(number) > LARGEST:
        raise ValueError(f"{what} be less than or equal to {LARGEST}, got {number}")


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
        _check_size(images, "images_per_step should")
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
    backbone_lr_multiplier: NonNegativeFloat = 1.0  # of all but the head, which starts anew in fine-tuning
    offset_lr_multiplier: NonNegativeFloat | None = None  # None: the papers' (convolutions v1 1, v2 0.1; RoIs 0.01, 1)
    roi_offset_lr_multiplier: NonNegativeFloat | None = None  # of RoI pooling alone; None: as the line above says
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
    responses: str | None = None  # of a convolution, such as conv5_3: percentiles of what it gives, before its norm
    offsets: NonNegativeInt = 0  # validation pictures on which VisualDL shows what deformable layers look at


def _bounds(expect):
    for key in expect:
        if not re.fullmatch(r"\w+_(below|above)", key):
            raise ValueError(f"{key}: expected a metric with _below or _above behind it, such as top1_error_below")
    return expect


# What a run's last evaluation must reach: `<metric>_below` or `<metric>_above` -> number; `tools/train.py --check`
# fails where it does not.
Expect = Annotated[
    dict[str, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1), AfterValidator(_bounds)
]


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


def arguments(section: Section, builder: Callable, **derived: Any) -> dict:
    """The values of `section` that `builder` takes, and those of `derived`."""
    values = {**derived, **dict(section)}
    return {name: values[name] for name in inspect.signature(builder).parameters if name in values}


DERIVED = ("backbone", "num_classes", "in_channels", "bn_images_per_worker", "images_per_worker", "masks")
MODEL_SECTIONS = {name: _section(name, *builders, derived=DERIVED) for name, builders in MODELS.items()}
DATA_SECTIONS = {name: _section(name, builder) for name, builder in DATASETS.items()}


def _one_of(sections):
    if len(sections) == 1:
        return next(iter(sections.values()))
    return Annotated[Union[tuple(sections.values())], Field(discriminator="name")]  # noqa: UP007


def _folder_name(name):
    check_length(name, LONGEST_NAME)
    if any(part != part.strip() or part != printable(part) for part in name.split("/")):
        raise ValueError(f"{name!r}: has blanks at an end, or characters that do not show; it becomes a folder's name")
    return name


FolderName = Annotated[str, Field(pattern=r"^[^/.][^/]*(/[^/.][^/]*)*$"), AfterValidator(_folder_name)]


class Config(Section):
    name: FolderName  # of the run; None in a file: the file's own
    output: UserPath = "output"  # the run's folder is output/name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Literal["auto", "cpu", "gpu"] = "auto"
    deterministic: bool = False  # on a GPU: slower algorithms that give the same bits each time
    pretrained: UserPath | None = None  # weights to start from, of any kind; what does not fit is told and left out
    pretrained_norms: Literal["same", "any"] = "same"  # any: gamma and beta also from norms of another kind
    pretrained_stride_in: Literal["3x3", "1x1"] | None = None  # of its bottlenecks; None: as the file tells
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
        if record.offsets and model and not getattr(model, "deformable_stages", ()):
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


def sections_at(section: type[Section], key: str) -> list[type[Section]]:
    """The sections that may stand at a key: several where a name chooses among them, none where a value stands."""
    kinds = section.model_fields[key].annotation if key in section.model_fields else None
    return [kind for kind in (kinds, *get_args(kinds)) if hasattr(kind, "model_fields")]


def default_name(section: type[Section], key: str) -> str | None:
    """The name of the section that stands at a key where none is named."""
    return getattr(section.model_fields[key].default, "name", None)


def is_text(annotation: Any) -> bool:
    """Whether a key takes any text, or nothing but text and null."""
    kinds = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return is_text(kinds[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(kind is NoneType or is_text(kind) for kind in kinds)
    return annotation is str


def config_keys() -> list[str]:
    """Every dotted key that a config may have, whatever its model and its data set."""

    def walk(section, at):
        for name in section.model_fields:
            inner = sections_at(section, name)
            for kind in inner:
                yield from walk(kind, (*at, name))
            if not inner:
                yield ".".join((*at, name))

    return list(dict.fromkeys(walk(Config, ())))
