"""Whatever a config's or a sweep's file says, and whatever overrides, the end is a Config, a Sweep or one line.

FUZZ_EXAMPLES=10000 in the environment looks longer.
"""

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.config import Config, config_keys, load_config
from engine.errors import InputError
from engine.sweep.definition import Sweep, load_sweep
from engine.terminal import one_line

ODD = st.text("'\"[]{}:,#&*!|>-?%@`\\ \n\tab01.~/<=²\x1b\0\u202e\ud800\U0001f600", max_size=12)
KEYS = st.sampled_from([*config_keys(), *(key.rpartition(".")[2] for key in config_keys())]) | st.sampled_from(
    ["model", "data", "batch", "schedule.milestones.0", "_BASE_", "sweep", "expect", "arm", "a.b", "__class__", "<<"]
) | ODD
WORDS = st.sampled_from([
    "gn", "bn", "resnet", "vgg", "mask_rcnn", "i3d", "synthetic", "fashion_mnist", "coco", "step", "cosine", "paper",
    "single", "c5", "figure_1", "table_2", "top1_error_below", "../x", "/tmp/x", "~", "x" * 300, "x/" * 2000,
])
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2, 8, -1, 10**18, 10**400, 0.5, 1e-320])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=4,
)
CHOICES = st.lists(VALUES, max_size=3) | st.dictionaries(ODD, VALUES, max_size=2) | VALUES
SOUND = st.fixed_dictionaries({}, optional={  # else hardly a sweep would come to be
    "seed": st.lists(st.integers(0, 9), min_size=1, max_size=3), "norm": st.lists(WORDS | st.just("ln"), max_size=3),
    "images_per_worker": st.lists(NUMBERS, max_size=2), "arm": st.dictionaries(ODD, st.just({"ema_decay": 0.5})),
})
AXES = SOUND | st.dictionaries(KEYS, CHOICES, max_size=3)
OVERRIDES = st.lists(st.tuples(KEYS, VALUES | ODD), max_size=2)
SECTION = st.fixed_dictionaries({"axes": AXES | st.lists(AXES, max_size=2) | VALUES}, optional={
    "without": AXES | VALUES, "figures": st.lists(WORDS, max_size=2) | VALUES, "title": VALUES, "max_runs": NUMBERS,
    "statistic": VALUES, "devices_per_run": NUMBERS, "axis": VALUES,
})
KINDS = [None, True, "x", "", 0, -1, 2**31, 10**20, 0.5, 1e300, [], [[]], {}, {"name": []}, {"name": {}}, [{"a": 1}]]
EXAMPLES = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 100)), deadline=None, derandomize=True)
BASE = {"data": {"name": "synthetic"}, "output": "output"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "x.yaml"


def ended(load, file, values, overrides):
    """What `load` makes of these values, or the line that it ends in."""
    file.write_text(json.dumps(values), encoding="utf-8")
    texts = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides]
    try:
        return load(file, texts)
    except InputError as error:
        assert one_line(error).isprintable()
        return None


def lies_below(folder, output):
    """Whether a run's folder is one below where runs are to lie, whatever its name."""
    below = os.path.relpath(os.path.abspath(folder), os.path.abspath(output))
    return ".." not in Path(below).parts and below != "."


@pytest.mark.parametrize("key", [*config_keys(), "model", "data", "batch", "schedule", "sweep", "expect", "_BASE_"])
def test_any_kind_of_value_at_any_key_ends_in_a_config_or_in_one_line(file, key):
    """In a file over another, by an override, as an axis of a sweep."""
    *above, last = key.split(".")
    for value in KINDS:
        values = {above[0]: {**BASE.get(above[0], {}), last: value}} if above else {last: value}
        file.with_name("base.yaml").write_text(json.dumps(BASE))
        ended(load_config, file, {"_BASE_": "base.yaml", **values}, [])
        ended(load_config, file, BASE, [(key, value)])
        ended(load_sweep, file, {**BASE, "sweep": {"axes": {key: [value]}}}, [])


@EXAMPLES
@given(st.dictionaries(KEYS, VALUES, max_size=4), OVERRIDES)
@example({"model": {"name": "vgg"}}, [("model.depth", 16)])
@example({"model": {"name": []}}, [])
@example({}, [("model.name", {"a": 1})])
@example({}, [("batch.images_per_worker", 2**30)])
def test_any_values_end_in_a_config_or_in_one_line(file, values, overrides):
    config = ended(load_config, file, {**BASE, **values}, overrides)
    if config is not None:
        assert isinstance(config, Config) and lies_below(config.folder, config.output)
        file.write_text(config.to_yaml(), encoding="utf-8")
        assert load_config(file) == config


@EXAMPLES
@given(SECTION | VALUES, st.dictionaries(KEYS, VALUES, max_size=1), OVERRIDES, st.lists(ODD, max_size=1))
@example({"axes": {"norm": ["bn", "gn"], "arm": {"a": {"seed": 1}, "b": {"seed": 2}}}}, {}, [], ["norm=gn"])
def test_any_sweep_ends_in_a_sweep_or_in_one_line(file, section, values, overrides, only):
    sweep = ended(load_sweep, file, {**BASE, "sweep": section, **values}, overrides)
    if sweep is None:
        return
    assert isinstance(sweep, Sweep) and sweep.runs
    assert all(run.config.folder.parent == sweep.folder for run in sweep.runs)
    assert len({run.config.folder for run in sweep.runs}) == len(sweep.runs)
    try:
        assert sweep.only(only)
    except InputError as error:
        assert one_line(error).isprintable()
