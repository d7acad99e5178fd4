"""What a sweep ran, in words: for titles, captions and the report. Fractions become percent here."""

from collections.abc import Iterable
from typing import Any

from engine.report.labels import AXIS_TEXT
from engine.report.records import DEFORMABLE, FROZEN, OFFSET_RATE, PRETRAINED
from engine.report.results import Average, Setting, SweepResults
from engine.run.measure import TOP1_ERROR, Measure

NOUNS = {TOP1_ERROR.name: "error"}  # shorter than its own words, as in the paper's figures
NETWORKS = {
    "resnet": "ResNet", "vgg": "VGG", "mask_rcnn": "Mask R-CNN of ResNet", "faster_rcnn": "Faster R-CNN of ResNet",
    "i3d": "I3D ResNet",
}
DATASETS = {
    "fashion_mnist": "Fashion-MNIST", "warped_fashion_mnist": "warped Fashion-MNIST", "cifar10": "CIFAR-10",
    "composed": "composed images", "garment_scenes": "scenes of garments", "garment_clips": "composed clips",
    "video_folder": "a folder of videos", "coco": "a set in COCO’s format",
    "cifar100": "CIFAR-100", "synthetic": "synthetic gratings", "image_folder": "a folder of images",
}
EMBEDDED = ({"fashion_mnist"}, {"warped_fashion_mnist"})  # a part of them lies in the repository
MOST = 5  # settings with missing seeds that a caption names
RUNNING_STATISTICS = {
    "first": "the first worker’s running statistics",
    "mean": "the mean of all workers’ running statistics",
    "precise": "precise statistics (computed anew from {} training images)",
}


def noun(measure: Measure) -> str:
    """What the measure is called on the page."""
    return NOUNS.get(measure.name, measure.words)


def heading(measure: Measure) -> str:
    """Of a column or an axis with numbers of the measure: `error, %`."""
    return f"{noun(measure)}{', %' * measure.percent}"


def in_percent(sweep: SweepResults) -> str:
    """What the numbers of a table are: `error in percent`."""
    return f"{noun(sweep.measure)}{' in percent' * sweep.measure.percent}"


def in_points(sweep: SweepResults) -> str:
    """What a caption ends with where there are differences of percentages."""
    return "; differences in percentage points" * sweep.measure.percent


def scaled(measure: Measure, value: float) -> float:
    """As it stands on the page: in percent where it is a percentage."""
    return 100 * value if measure.percent else value


def number_of(measure: Measure, value: float) -> str:
    """A value of the measure without its unit, which the heading has: `12.34`, or `0.8712`."""
    return measure.text(value).removesuffix(" %").replace("-", "−")


def difference(measure: Measure, points: float) -> str:
    """Of a value less another, with its sign, whichever of them is better; in percentage points where it has any."""
    return signed(points, 2 if measure.percent else 4)


def signed(points: float, digits: int) -> str:
    return f"{points:+.{digits}f}".replace("-", "−")


def error_text(sweep: SweepResults, setting: Setting | None, measure: Measure | None = None) -> str:
    """`12.34 ± 0.05`: mean and sample deviation over seeds, and how many seeds where some are missing.

    measure: another than the sweep's headline.
    """
    if setting is None:
        return ""
    measure = measure or sweep.measure
    return average_text(measure, setting.average(f"{measure.name}_{sweep.file.statistic}")) + missing_text(setting)


def missing_text(setting: Setting) -> str:
    """` (2 of 3)` where a setting has not all its seeds, behind what those say that it has."""
    lacks = len(setting.finished) < setting.seeds
    return f" ({len(setting.finished)} of {setting.seeds})" * lacks


def average_text(measure: Measure, found: Average | None) -> str:
    """`12.34 ± 0.05`; a dash where there is nothing."""
    if found is None:
        return "–"
    deviation = f" ± {number_of(measure, found.deviation)}" if found.deviation is not None else ""
    return number_of(measure, found.mean) + deviation


def gap(sweep: SweepResults, setting: Setting | None, other: Setting | None) -> float | None:
    """The measure of one less that of the other, in percentage points where it is a percentage."""
    averages = [one.average(sweep.statistic) if one else None for one in (setting, other)]
    return scaled(sweep.measure, averages[0].mean - averages[1].mean) if all(averages) else None


def statistic(sweep: SweepResults) -> str:
    """Which number of a run it is, and which way is better unless that is down, as of an error."""
    name = "last evaluation" if sweep.file.statistic == "last" else f"{sweep.median} evaluations"
    return f"{name}{'' if sweep.measure.lower_is_better else ' (higher is better)'}"


def listed(values: Iterable[Any], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *values, last = list(map(str, values)) or [""]
    return f"{', '.join(values)} {word} {last}" if values else last


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def network(sweep: SweepResults) -> str:
    depth, width = _values(sweep, "model.depth"), _values(sweep, "model.width")
    names = [NETWORKS.get(name, f"network {name}") for name in _names(sweep, "model.name") or ["resnet"]]
    text = listed(f"{name}-{value}" for name in names for value in depth) if depth else listed(names)
    return text if width in ([], [64]) else f"{text} (width {listed(width)})"


def dataset(sweep: SweepResults) -> str:
    """Such as `composed images (16,000 new training images an epoch and 2,000 validation images)`."""
    names = listed(DATASETS.get(name, name) for name in _names(sweep, "data.name") or ["unknown data"])
    kind = "clips" if _values(sweep, "data.train_clips") else "images"
    train, validation = _values(sweep, f"data.train_{kind}"), _values(sweep, f"data.validation_{kind}")
    some = [len(classes) for classes in _values(sweep, "data.classes") if isinstance(classes, list)]
    if set(_names(sweep, "data.name")) in EMBEDDED and not _values(sweep, "data.root"):
        names = f"a part of {names}"
        train, validation = train or [1200 * max(some, default=10)], validation or [200 * max(some, default=10)]
    names = f"{listed(some)} classes of {names}" if some else names
    if train and _values(sweep, "data.fresh") == [True]:
        train = [f"{listed(map(number, train))} new training {kind} an epoch"]
    else:
        train = [f"{listed(map(number, train))} training"] if train else []
    counts = [*train, *([f"{listed(map(number, validation))} validation"] if validation else [])]
    return f"{names} ({' and '.join(counts)} {kind})" if counts else names


def epochs(sweep: SweepResults) -> str:
    found = _column(sweep.runs, "epochs")
    return f"{listed(found)} epoch{'' if found == [1] else 's'}" if found else ""


def beginning(sweep: SweepResults) -> str:
    """Which weights training starts from, and what of them is frozen; empty where all start from random ones."""
    if not any(_values(sweep, PRETRAINED)):
        return ""
    starts = listed(map(AXIS_TEXT[PRETRAINED], sweep.values(PRETRAINED)), "or")
    parts = sweep.values(FROZEN)
    frozen = any(value not in (None, [], "[]") for value in parts)
    return f"training starts {starts}" + f", with {listed(map(AXIS_TEXT[FROZEN], parts), 'or')}" * frozen


def protocol(sweep: SweepResults) -> str:
    """How images make a step."""
    reference = "optimizer.reference_images_per_step"
    rate = _either(sweep, reference, "rate in proportion to the step", "the same rate for all")
    words = {
        "paper": "the paper’s protocol ({workers}, " + rate + ")",
        "norm_batch": "{images_per_step} images in every step at the same rate, only how many share statistics changes",
        "single": "one worker, " + rate,
    }
    parts = []
    for name in _column(sweep.runs, "protocol"):
        runs = [run for run in sweep.runs if run["protocol"] == name]
        numbers = {column: listed(_column(runs, column)) for column in ("workers", "images_per_step")}
        numbers["workers"] += " worker" if numbers["workers"] == "1" else " workers"
        parts.append(words[name].format(**numbers) if name in words else name)
    return "; or ".join(parts)


def bn_statistics(sweep: SweepResults) -> str:
    """Which statistics BN, and BRN, were evaluated with; empty where there is neither."""
    norms, there = (_column(sweep.runs, name) for name in ("norm", "evaluation_statistics"))
    names = [running_statistics(sweep, name) for name in RUNNING_STATISTICS if name in there]
    who = listed(norm.upper() for norm in ("bn", "brn") if norm in norms) or "BN"
    return f"{who} evaluated with {listed(names, 'or')}" if names else ""


def running_statistics(sweep: SweepResults, name: str) -> str:
    """One of RUNNING_STATISTICS as it is in this sweep."""
    return RUNNING_STATISTICS[name].format(listed(map(number, _values(sweep, "bn_precise_images") or ["many"])))


def recipe(sweep: SweepResults) -> str:
    """What was run, as a paragraph."""

    def said(key):
        return listed(map(number, _values(sweep, key)))

    def has(key):
        return any(_values(sweep, key))

    momentum = _either(sweep, "optimizer.nesterov", "Nesterov momentum", "momentum")
    momentum += f" {said('optimizer.momentum')}"
    kinds = {"momentum": f"SGD with {momentum}", "adam": "Adam", "adamw": "AdamW"}
    optimizer = " and ".join(kinds.get(name, name) for name in _names(sweep, "optimizer.name"))
    decayed = ("on every parameter", "not on gamma, beta and biases")
    everything = _either(sweep, "optimizer.decay_norm_and_bias", *decayed)
    reference, rate = "optimizer.reference_images_per_step", said("optimizer.base_lr")
    rate = f"The rate starts at {_either(sweep, reference, f'{rate} × images per step / {said(reference)}', rate)}"
    if has("schedule.warmup_epochs"):
        rate += f" after {(warm := said('schedule.warmup_epochs'))} epoch{'s' * (warm != '1')} of warm-up"
    kinds = {
        "cosine": f"falls to {said('schedule.final_lr')} along half a cosine",
        "step": f"is multiplied by {said('schedule.factor')} after epochs {said('schedule.milestones')}",
    }
    falls = [kinds[name] for name in _names(sweep, "schedule.name") if name in kinds]
    rate += f" and {listed(falls, 'or')}" if falls else ""
    deformable = any(stages not in (None, [], "[]") for stages in sweep.values(DEFORMABLE))
    branches = deformable and _values(sweep, OFFSET_RATE)
    offsets = f"Offset branches learn at {said(OFFSET_RATE)} of the rate" if branches else ""
    backbone = "optimizer.backbone_lr_multiplier"
    multiplied = any(times != 1 for times in _values(sweep, backbone))
    slower = f"The backbone learns at {said(backbone)} of the rate" if multiplied else ""
    clipped = f"Gradients are clipped to a norm of {said('optimizer.clip_norm')}" if has("optimizer.clip_norm") else ""
    counts, channels = (_column(sweep.runs, f"norm_{name}") for name in ("groups", "channels_per_group"))
    ways = [f"{listed(counts)} groups"] * bool(counts) + [f"{listed(channels)} channels in a group"] * bool(channels)
    groups = f"GN has {listed(ways, 'or')}" if ways else ""
    sentences = [
        f"{network(sweep)} on {dataset(sweep)}, {epochs(sweep)}", beginning(sweep), protocol(sweep),
        f"{optimizer}, weight decay {said('optimizer.weight_decay')} {everything}" if optimizer else "",
        rate if has("optimizer.base_lr") else "", slower, offsets, clipped, groups, bn_statistics(sweep),
    ]
    return " ".join(_sentence(sentence) for sentence in sentences if sentence)


def number(value: Any) -> str:
    """As short as it can be said, also a list of numbers; empty for None."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return listed(map(number, value))
    return f"{value:,}" if isinstance(value, int) else str(value or "")


def seeds(settings: list[Setting]) -> str:
    """How many seeds are behind the means of these settings."""
    counts = sorted({len(setting.finished) for setting in settings} - {0})
    if counts == [1]:
        return "one seed"
    deviation = "mean ± sample standard deviation over"
    return f"{deviation} {f'{counts[0]} to {counts[-1]}' if counts[1:] else counts[0]} seeds" if counts else "no seed"


def subtitle(sweep: SweepResults, settings: list[Setting], of_runs: bool = False) -> list[str]:
    """The lines above a figure, for one that goes its way alone. settings: with a mean in it; of_runs: and all runs."""
    how = f"{statistic(sweep)}; " * of_runs + seeds(settings) if settings else ""
    lines = [f"{network(sweep)} on {dataset(sweep)}, {epochs(sweep)}"], [how], [protocol(sweep), bn_statistics(sweep)]
    return [" ".join(_sentence(part) for part in line if part) for line in lines]


def missing(sweep: SweepResults, settings: list[Setting]) -> str:
    """A sentence on the settings that have not all their seeds; empty where all have."""
    lacking = [
        f"{sweep.label(setting)} has {len(setting.finished)} of {setting.seeds} seeds"
        for setting in settings
        if len(setting.finished) < setting.seeds
    ]
    more = [f"{len(lacking) - MOST} more settings lack seeds"] if lacking[MOST:] else []
    return f"Not complete: {'; '.join(lacking[:MOST] + more)}." if lacking else ""


def seeds_sentence(sweep: SweepResults, settings: list[Setting]) -> str:
    return f"{_sentence(seeds(settings))} {missing(sweep, settings)}".rstrip()


def conditions(sweep: SweepResults, settings: list[Setting]) -> str:
    """What the caption of a table ends with: seeds, network, data, epochs, protocol, BN's statistics."""
    facts = [f"{network(sweep)} on {dataset(sweep)}", epochs(sweep), protocol(sweep), bn_statistics(sweep)]
    return f"{seeds_sentence(sweep, settings)} {_sentence('; '.join(filter(None, facts)))}"


def _sentence(text):
    return text[0].upper() + text[1:] + "."


def _values(sweep, key):
    return [value for value in sweep.values(key) if value is not None]


def _names(sweep, key):
    return list(map(number, _values(sweep, key)))


def _either(sweep, key, yes, no):
    """`yes` where the key has a value that is not null, false or 0, else `no`; both where it has now this, now that."""
    found = set(map(bool, sweep.values(key)))
    return listed([yes] * (True in found) + [no] * (False in found), "or")


def _column(runs, name):
    return sorted({run[name] for run in runs if run[name] is not None}, reverse=True)
