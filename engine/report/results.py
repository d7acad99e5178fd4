"""A sweep's results: its runs, the settings whose seeds they are, and lines of settings along an axis."""

import json
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.report.labels import AXIS_TEXT, NORMS, RUNNING, place_of_norm, span
from engine.report.records import (
    CHANNELS,
    DEFORMABLE,
    DEPTH,
    DILATED,
    FRAMES,
    GROUPS,
    IMAGES,
    MODEL,
    NORM,
    OFFSET_RATE,
    POOLING,
    ROI_OFFSET_RATE,
    SEED,
    VERSION,
    Description,
    Session,
    read_environment,
    read_results,
    read_sessions,
    read_sweep_file,
)
from engine.run.measure import MEDIAN_OF, Measure
from engine.run.result import read_metrics, read_precise
from models.norm import GROUPED

EPS = "model.norm_eps"
CONVOLUTION = (DEFORMABLE, VERSION, DILATED)  # together they say what kind the 3x3 convolutions are

ONLY_OF = {  # values that of these norms matter to one kind; to another norm all may
    GROUPS: GROUPED, CHANNELS: GROUPED, RUNNING: ("bn", "brn"), "bn_precise_images": ("bn",),
    "model.bn_momentum": ("bn", "sync_bn", "brn"),
    **dict.fromkeys(("model.brn_r_max", "model.brn_d_max", "model.brn_relax_steps"), ("brn",)),
}


def matters_to(key: str, norm: str | None) -> bool:
    """Whether a config key can have an influence on a run of this norm."""
    return norm not in NORMS or norm in ONLY_OF.get(key, NORMS)


def means_nothing(key: str, norm: str | None, channels_per_group: int | None, value: Callable[[str], Any]) -> bool:
    """Whether a config key has no influence on a run of this norm, whose other keys have these values."""
    has_offsets = {VERSION: value(DEFORMABLE) not in ([], "[]"), ROI_OFFSET_RATE: value(POOLING) not in (None, "align")}
    has_offsets[OFFSET_RATE] = any(has_offsets.values())
    if not has_offsets.get(key, True):
        return True
    return bool(not matters_to(key, norm) or key == GROUPS and channels_per_group)


class Average(NamedTuple):
    """Over seeds. `deviation` is the sample standard deviation, None of one seed."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Setting:
    """The runs that differ in nothing but their seed. `values`: by axis; of ONLY_OF, None where it means nothing."""

    values: dict[str, Any]
    runs: list[dict]

    @cached_property
    def finished(self) -> list[dict]:
        """One run a seed."""
        return list({run["seed"]: run for run in reversed(self.runs) if run["state"] == "finished"}.values())[::-1]

    @property
    def seeds(self) -> int:
        """How many there would be if all had finished."""
        return len({run["seed"] for run in self.runs})

    def average(self, column: str) -> Average | None:
        return average([run[column] for run in self.finished])


@dataclass(frozen=True)
class Line:
    """Settings that differ in one axis only, by its value."""

    label: str
    norm: str | None
    settings: dict[Any, Setting]


@dataclass(frozen=True)
class SweepResults:
    folder: Path
    file: Description
    runs: list[dict]  # rows of results.csv: numbers are numbers, what is empty is None; see also `read_results`

    @property
    def measure(self) -> Measure:
        return self.file.measure

    @property
    def statistic(self) -> str:
        """The column of results.csv that tells how good a run is."""
        return f"{self.measure.name}_{self.file.statistic}"

    @property
    def median(self) -> str:
        """Such as `median of the last 5`: of fewer than MEDIAN_OF evaluations where runs have no more."""
        every = [step for step in self.values("evaluate_every_epochs") if type(step) is int and step > 0] or [1]
        counts = {min(MEDIAN_OF, math.ceil(run["epochs"] / step)) for run in self.runs for step in every}
        return f"median of the last {' or '.join(map(str, sorted(counts)))}"

    @property
    def samples(self) -> str:
        """What a batch is made of."""
        return "clips" if any(self.values(FRAMES)) else "images"

    @cached_property
    def axes(self) -> dict[str, list]:
        """Every axis but the seed, with the values that the runs have; norm and images per worker are always there.

        Of sets of values both the names and the config keys.
        """
        keys = dict.fromkeys([*self.file.names, NORM, *(key for key in self.file.keys if key != SEED), IMAGES])
        values = {key: list(dict.fromkeys(self._value_of(run, key) for run in self.runs)) for key in keys}
        values[NORM].sort(key=place_of_norm)
        values[IMAGES].sort(reverse=True)
        return values

    @cached_property
    def settings(self) -> list[Setting]:
        """In the order of the axes: sets as given, norms as in the paper, images per worker from many to few."""
        runs = {}
        for run in self.runs:
            runs.setdefault(tuple(self._value_of(run, key) for key in self.axes), []).append(run)

        places = [{value: place for place, value in enumerate(values)} for values in self.axes.values()]

        def place(values):
            return [of[value] for value, of in zip(values, places, strict=True)]

        return [Setting(dict(zip(self.axes, key, strict=True)), runs[key]) for key in sorted(runs, key=place)]

    def _value_of(self, run, key):
        def value(key):
            return run[key] if key in run else self.file.value(key)

        nothing = means_nothing(key, run["norm"], run["norm_channels_per_group"], value)
        return None if nothing else run[key]

    def values(self, key: str) -> list[Any]:
        """The values of a config key in the whole sweep: an axis's, or the one that all runs share."""
        return self.axes[key] if key in self.axes else [self.file.value(key)]

    def varied(self, key: str) -> list[Any]:
        """The values of an axis; none where all settings that it matters to have the same."""
        return self._varied[key]

    @cached_property
    def _varied(self):
        varied = {}
        for key in self.axes:
            matters = [one for one in self.settings if matters_to(key, one.values[NORM])]
            values = list(dict.fromkeys(setting.values[key] for setting in matters))
            varied[key] = values if values[1:] else []
        return varied

    def label(self, setting: Setting, without: Iterable[str] = (), otherwise: str = "") -> str:
        """The norm, and what else tells this setting from others, such as `GN, G = 16`; or its set of values by name.

        Where there is nothing to say: `otherwise`, or the model's name.
        """
        names = [axis for axis in self.file.names if axis not in without]
        parts = [str(setting.values[axis]) for axis in names if setting.values[axis] is not None]
        said = {*self.file.names, *(self.file.in_sets if parts else ())}
        for key in (key for key in self.axes if key not in said):
            value = setting.values[key]
            if key in CONVOLUTION:
                kind = self.convolution(setting)
                if key not in without and kind not in parts:
                    parts.append(kind)
                continue
            meaningless = value is None and key in (NORM, OFFSET_RATE, ROI_OFFSET_RATE, *ONLY_OF)
            if not meaningless and key not in without and (key == NORM or self.varied(key)):
                text = AXIS_TEXT[key](value) if key in AXIS_TEXT else None
                if key == DEPTH:
                    model = setting.values.get(MODEL, self.file.value(MODEL))
                    text = f"{'VGG' if model == 'vgg' else 'ResNet'}-{value}"
                plain = value if isinstance(value, str) else json.dumps(value)
                parts.append(text or f"{key.rpartition('.')[2]}={plain}")
        return ", ".join(parts) or otherwise or str(self.file.value("model.name") or "network")

    def convolution(self, setting: Setting) -> str:
        """What kind the 3x3 convolutions are, such as `plain`, `dilated in c5`, `DCNv2 in c3–c5`."""
        deformable, version, dilated = (setting.values.get(key, self.values(key)[0]) for key in CONVOLUTION)
        kinds = ((f"DCNv{version}" if version else "DCN", deformable), ("dilated", dilated))
        parts = [f"{name} in {span(stages)}" for name, stages in kinds if stages not in (None, [], "[]")]
        return ", ".join(parts) or "plain"

    def lines(self, along: str, among: list[Setting] | None = None) -> list[Line]:
        """Settings put together into lines along one axis: nothing but that axis differs within a line."""
        lines = {}
        for setting in self.settings if among is None else among:
            rest = tuple(value for key, value in setting.values.items() if key != along)
            line = lines.setdefault(rest, Line(self.label(setting, [along]), setting.values[NORM], {}))
            line.settings[setting.values[along]] = setting
        return list(lines.values())

    def rivals(self, setting: Setting) -> dict[str, Setting]:
        """BN in otherwise the same setting, by how it is called. Several where BN itself was varied.

        Sets of values with a norm in them count by what they say, not by their names.
        """
        own = [NORM, EPS, *ONLY_OF, *self.file.names_with(NORM)]
        common = {key: value for key, value in setting.values.items() if key not in own}
        return {
            self.label(other, common): other
            for other in self.settings
            if other.values[NORM] == "bn" and common.items() <= other.values.items()
        }

    def precise(self, setting: Setting, measure: Measure | None = None) -> Average | None:
        """By BN's precise statistics the measure, or another than the headline; None where a run does not have it."""
        found = [read_precise(self.folder / run["run"], measure or self.measure) for run in setting.finished]
        return None if None in found else average(found)

    def curve(self, setting: Setting, kind: str) -> tuple[list[int], list[Average]]:
        """The epochs, and the measure in each over the seeds. kind: "epoch" is training, "eval" validation."""
        curves = [self._curve(run, kind) for run in setting.finished]
        epochs = sorted(set.intersection(*map(set, curves))) if curves else []
        return epochs, [average([curve[epoch] for curve in curves]) for epoch in epochs]

    def _curve(self, run, kind):
        records = read_metrics(self.folder / run["run"], kind, measures=[self.measure])
        return {record["epoch"]: record[self.measure.name] for record in records}

    @cached_property
    def is_trained(self) -> bool:
        """Whether training gives the measure too: of what it does not minimise, evaluation alone may know."""
        finished = [run["run"] for run in self.runs if run["state"] == "finished"]
        epochs = (read_metrics(self.folder / run, "epoch") for run in finished)
        return any(self.measure.name in record for records in epochs for record in records)

    def environments(self, keys: Iterable[str]) -> list[dict]:
        """These facts of env.json, for each finished run that has one."""
        finished = [run["run"] for run in self.runs if run["state"] == "finished"]
        return [facts for run in finished if (facts := read_environment(self.folder / run, keys))]

    def sessions(self) -> list[Session]:
        return read_sessions(self.folder)


def average(values: list[float]) -> Average | None:
    if not values:
        return None
    return Average(statistics.fmean(values), statistics.stdev(values) if values[1:] else None, len(values))


def read_sweep(folder: Path) -> SweepResults:
    """Read sweep.yaml and results.csv. Raises InputError, one line, where they are missing or damaged."""
    file = read_sweep_file(folder)
    return SweepResults(folder, file, read_results(folder, file))
