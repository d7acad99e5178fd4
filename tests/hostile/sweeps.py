"""Files of sweeps, and the folders that they find."""

from hostile.files import ESCAPES, SYNTHETIC, TINY, link, pipe, sparse, written


def sweep(axes, *arguments, more="", there=None):
    """A sweep of these axes, planned; where `there` puts something in the place of its folder, to be run."""

    def make(folder):
        text = f"{TINY}{SYNTHETIC}output: {folder / 'output'}\nname: swept\nsweep:\n  axes: {axes}\n{more}"
        path = written(folder / "swept.yaml", text)
        if there:
            there(folder / "output" / "swept")
        return ["sweep.py", "-c", path, *(["--dry-run"] if not there else []), *arguments]

    return make


def found(there):
    return sweep("{seed: [0, 1]}", there=there)


CASES = {
    "axes of nothing": (sweep("null"), r"sweep\.axes"),
    "axes that are a text": (sweep("seed"), r"sweep\.axes.*got 'seed'"),
    "an axis of no key": (
        sweep(f'{{"{ESCAPES.encode("unicode_escape").decode()}": [1]}}'), r"\\x1b.* is no config key",
    ),
    "an axis that is an output": (sweep("{output: [/tmp/a, /tmp/b]}"), r"output is no config key"),
    "an axis that is a name": (sweep("{name: [../../x]}"), r"name"),
    "a value that is a mapping": (sweep("{model: [{name: vgg}]}"), r"model"),
    "a value twice": (sweep("{seed: [1, 1]}"), r"seed: has 1 twice"),
    "values that share a folder": (sweep("{pretrained: [a/b, a_b]}"), r"two runs would have the folder pretrained=a_b"),
    "a value too long for a folder": (sweep(f"{{pretrained: [{'p' * 250}]}}"), r"too long a name for a run's folder"),
    "lists in each other": (sweep(f"{{schedule.milestones: {'[' * 40 + ']' * 40}}}"), r"more than 32 lists"),
    "a million runs": (
        sweep(f"{{seed: {list(range(1000))}, schedule.epochs: {list(range(1, 1001))}}}"),
        r"make 1,000,000 runs; sweep\.max",
    ),
    "10^30 runs": (
        sweep("{" + ", ".join(f"{key}: {list(range(1, 1001))}" for key in (
            "seed", "schedule.epochs", "bn_precise_images", "batch.workers", "record.every_steps", "evaluation_images",
            "evaluate_every_epochs", "keep", "model.depth", "optimizer.base_lr",
        )) + "}"), r"make 1,000,000,000,000,000,000,000,000,000,000 runs",
    ),
    "more runs than there may be": (sweep("{seed: [1]}", more="  max_runs: 0\n"), r"max_runs"),
    "a set without a name": (sweep("{arm: {'': {seed: 1}}}"), r"a set without a name"),
    "a set of a list": (sweep("{arm: {a: [1]}}"), r"expected config keys with values, got \[1\]"),
    "sets of a name with an escape": (sweep('{"a\\eb": {a: {seed: 1}}}'), r"a\\x1bb' names sets of values"),
    "sets that say one thing twice": (sweep("{arm: {a: {seed: 1}}, seed: [1]}"), r"seed is said by arm and by seed"),
    "a set that is a column": (sweep("{state: {a: {seed: 1}}}"), r"state is a column of results\.csv"),
    "a hole in nothing": (sweep("{seed: [1]}", more="  without: {norm: bn}\n"), r"norm is no axis of this sweep"),
    "a hole that is all": (sweep("{seed: [1]}", more="  without: [{seed: [1]}]\n"), r"leaves no run"),
    "a figure of none": (sweep("{seed: [1]}", more="  figures: [figure_9]\n"), r"figure_9"),
    "figures of a mapping": (sweep("{seed: [1]}", more="  figures: {a: 1}\n"), r"sweep\.figures"),
    "a title of a list": (sweep("{seed: [1]}", more="  title: [x]\n"), r"sweep\.title"),
    "a statistic of none": (sweep("{seed: [1]}", more="  statistic: best\n"), r"sweep\.statistic"),
    "no devices": (sweep("{seed: [1]}", more="  devices_per_run: 0\n"), r"devices_per_run"),
    "a key of no sweep": (sweep("{seed: [1]}", more="  figure: [figure_1]\n"), r"unknown key; did you mean figures"),
    "two tasks": (sweep("{model.name: [resnet, mask_rcnn]}"), r"sweep\.axes|model"),
    "a run that cannot be": (sweep("{norm_groups: [4, 3]}"), r"norm_groups=3: "),
    "an override of an axis": (sweep("{seed: [1]}", "-o", "seed=3"), r"-o seed: is an axis of this sweep"),
    "only what is not there": (sweep("{seed: [1]}", "--only", f"seed={ESCAPES}"), r"--only seed=\\x1b.*seed is never"),
    "only a word": (sweep("{seed: [1]}", "--only", "seed"), r"--only seed: expected axis=value"),
    "no jobs": (sweep("{seed: [1]}", "--jobs", "0"), r"--jobs 0: expected 1 or more"),
    "devices of words": (sweep("{seed: [1]}", "--devices", "a,b"), r"--devices|GPU"),
    "no sweep at all": (
        lambda folder: ["sweep.py", "--dry-run", "-c", written(folder / "x.yaml", TINY + SYNTHETIC)],
        r"no section `sweep`",
    ),
    "a file in its place": (found(lambda place: written(place, "kept")), r"swept: is there and is no sweep's folder"),
    "another's folder in its place": (
        found(lambda place: written(place / "thesis.tex", "kept")), r"is no sweep's folder",
    ),
    "another's sweep": (
        found(lambda place: written(place / "sweep.yaml", "file: other.yaml\n")), r"holds the sweep of other",
    ),
    "a description of code": (
        found(lambda place: written(place / "sweep.yaml", "a: !!python/object/apply:os.system [x]\n")),
        r"python/object",
    ),
    "a description that is a pipe": (found(lambda place: pipe(place / "sweep.yaml")), r"sweep\.yaml: is a pipe"),
    "a description of 1 TB": (
        found(lambda place: sparse(place / "sweep.yaml", 10**12)), r"sweep\.yaml: is larger than",
    ),
    "a description that is a device": (
        found(lambda place: link(place / "sweep.yaml", "/dev/zero")), r"is a pipe, socket or",
    ),
    "a lock that is a pipe": (found(lambda place: pipe(place / ".lock")), r"\.lock: is a link, a pipe or a folder"),
    "runners that lead away": (found(lambda place: [
        written(place / ".lock", ""), link(place / ".runners", written(place.parent.parent / "precious", "kept")),
    ]), r"\.runners: is a link"),
}
