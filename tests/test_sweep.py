"""What a sweep's file stands for, and what is refused."""

import time

import pytest
from conftest import is_one_line, write_sweep

from engine.config.yaml_text import write_yaml
from engine.errors import InputError
from engine.sweep.definition import load_sweep
from engine.sweep.folder import description


def test_a_run_for_each_point_of_the_grid(small):
    sweep = load_sweep(small)
    assert [run.name for run in sweep.runs[:3]] == [
        f"norm=bn,images_per_worker={images},seed={seed}" for images, seed in ((4, 0), (4, 1), (2, 0))
    ]
    assert len(sweep.runs) == 8
    last = sweep.runs[-1]
    assert last.values == {"model.norm": "gn", "batch.images_per_worker": 2, "seed": 1}
    assert (last.config.model.norm, last.config.batch.images_per_worker, last.config.seed) == ("gn", 2, 1)
    assert last.config.folder == small.parent / "output" / "small" / last.name
    assert (last.config.batch.images_per_step, last.config.lr, sweep.runs[0].config.lr) == (8, 0.1, 0.2)


def test_holes_and_several_grids(tmp_path):
    axes = "[{norm: [gn], norm_groups: [4, 2]}, {norm: [bn], model.bn_running_statistics: [first, mean]}]"
    sweep = load_sweep(write_sweep(tmp_path, axes, "  without: {norm: bn, bn_running_statistics: [mean]}\n"))
    assert [run.name for run in sweep.runs] == [
        "norm=gn,norm_groups=4", "norm=gn,norm_groups=2", "norm=bn,bn_running_statistics=first",
    ]
    holes = "  without: [{norm: gn, images_per_worker: 4}, {seed: 1}]\n"
    sweep = load_sweep(write_sweep(tmp_path, more=holes))
    assert [run.name for run in sweep.runs] == [
        f"norm={norm},images_per_worker={images},seed=0" for norm, images in (("bn", 4), ("bn", 2), ("gn", 2))
    ]


def test_any_key_can_be_an_axis(tmp_path):
    axes = "{deformable_stages: [[], [c4, c5]], optimizer.base_lr: [0.1, 1e-2], depth: [18], pretrained: [null]}"
    sweep = load_sweep(write_sweep(tmp_path, axes))
    assert sweep.runs[-1].name == "deformable_stages=c4+c5,base_lr=0.01,depth=18,pretrained=null"
    assert sweep.runs[-1].config.model.deformable_stages == ("c4", "c5")
    assert sweep.runs[-1].config.optimizer.base_lr == 0.01


def test_protocols_of_a_sweep(tmp_path):
    path = write_sweep(tmp_path, "{images_per_worker: [4, 2]}", name="fixed.yaml")
    options = ["batch.protocol=norm_batch", "batch.workers=null", "batch.images_per_step=8"]
    found = [(run.config.batch.workers, run.config.lr) for run in load_sweep(path, options).runs]
    assert found == [(2, 0.1), (4, 0.1)]
    options = ["batch.protocol=single", "batch.workers=null"]
    found = [(run.config.batch.workers, run.config.lr) for run in load_sweep(path, options).runs]
    assert found == [(1, 0.05), (1, 0.025)]


def test_axes_are_laid_over_the_file_together(tmp_path):
    """A data set's own keys survive the choice of the data set, in whatever order the axes are named."""
    axes = "{train_images: [16, 24], data.name: [synthetic, fashion_mnist]}"
    sweep = load_sweep(write_sweep(tmp_path, axes), ["batch.images_per_worker=1"])
    assert [(run.config.data.name, run.config.data.train_images) for run in sweep.runs] == [
        ("synthetic", 16), ("fashion_mnist", 16), ("synthetic", 24), ("fashion_mnist", 24),
    ]


def test_the_file_alone_need_not_be_a_config(tmp_path):
    path = write_sweep(tmp_path, "{images_per_worker: [8, 4]}")
    options = ["batch.protocol=norm_batch", "batch.workers=null", "batch.images_per_step=16"]
    sweep = load_sweep(path, [*options, "batch.workers_per_pass=1"])
    assert [run.config.batch.workers for run in sweep.runs] == [2, 4]
    assert sweep.shared["batch"] == {"protocol": "norm_batch", "images_per_step": 16, "workers_per_pass": 1}
    assert sweep.shared["schedule"]["epochs"] == 2 and "name" not in sweep.shared


def test_numbers_in_names_and_values_are_decimal(tmp_path):
    path = write_sweep(tmp_path, "{seed: [08, 010]}", name="0918.yaml")
    assert [run.config.seed for run in load_sweep(path).runs] == [8, 10]
    assert write_yaml({"name": "0918", "on": "on", "other": "1e3"}) == "name: '0918'\n'on': 'on'\nother: '1e3'\n"


def test_only(small):
    sweep = load_sweep(small)
    assert {run.name for run in sweep.only(["norm=gn", "images_per_worker=2"])} == {
        "norm=gn,images_per_worker=2,seed=0", "norm=gn,images_per_worker=2,seed=1",
    }
    assert len(sweep.only(["images_per_worker=2,4", "seed=0"])) == 4
    for bad, words in [
        ("norm=ln", "model.norm is never ln; expected bn, gn"),
        ("norms=bn", "norms is no axis of this sweep; did you mean model.norm?"),
        ("norm", "expected axis=value"), ("norm=bn,[", "model.norm is never"),
    ]:
        with pytest.raises(InputError, match=words):
            sweep.only([bad])


@pytest.mark.parametrize(
    ("axes", "more", "words"),
    [
        ("{nrom: [bn]}", "", "small.yaml: sweep.axes: nrom is no config key; did you mean model.norm?"),
        ("{groups: [4]}", "", "groups is no config key; did you mean model.norm_groups?"),
        ("{name: [a]}", "", "name can be|name is no config key"),
        ("{device: [cpu]}", "", "device is no config key"),
        ("{norm: [bn], model.norm: [gn]}", "", "sweep.axes: model.norm is there twice"),
        ("{output: [a]}", "", "output is no config key"),
        ("{seed: []}", "", "sweep.axes: seed: empty; expected a list"),
        ("{}", "", "sweep.axes: empty"),
        ("[]", "", "sweep.axes: empty"),
        ("{seed: 3}", "", r"sweep.axes.*seed: expected a list of values, or sets of values by name, got 3"),
        ("{norm: [bn, gm]}", "", "sweep.axes: model.norm: should be 'bn'.*got 'gm'"),
        ("{images_per_worker: [0]}", "", "sweep.axes: batch.images_per_worker: should be greater than 0"),
        ("{seed: [1, 1]}", "", "sweep.axes: seed: has 1 twice"),
        ("{pretrained: [a/b, a_b]}", "", "two runs would have the folder pretrained=a_b"),
        ("{seed: [1]}", "  without: {seed: 2}\n", "sweep.without: seed is never 2"),
        ("{seed: [1]}", "  without: {}\n", "sweep.without: empty"),
        ("{seed: [1]}", "  without: {seed: 1}\n", "sweep.without: leaves no run"),
        ("{seed: [1]}", "  without: {norm: bn}\n", "sweep.without: norm is no axis"),
        ("{seed: [1]}", "  figure: [figure_1]\n", "sweep.figure: unknown key; did you mean figures?"),
        ("{seed: [1]}", "  figures: [figure_9]\n", "figure_9"),
        ("{seed: [1]}", "  figures: [figure_1]\n", "figure_1.*images_per_worker"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, axes, more, words):
    with pytest.raises(InputError, match=words) as caught:
        load_sweep(write_sweep(tmp_path, axes, more))
    assert "\n" not in str(caught.value)


def test_bad_commands_touch_nothing(small, tmp_path, run_here):
    groups = write_sweep(tmp_path, "{norm_groups: [4, 3]}", name="groups.yaml")
    many = write_sweep(tmp_path, "{images_per_worker: [2, 64]}", name="many.yaml")
    for arguments, words in [
        (["-c", small, "-o", "seed=3"], "-o seed: is an axis"),
        (["-c", small, "-o", "model={norm: bn}"], "-o model: is an axis of this sweep, or holds one"),
        (["-c", small, "-o", "pretrained=/nowhere.pdparams"], "/nowhere.pdparams"),
        (["-c", small, "-o", "model.nrom=bn"], "did you mean norm"),
        (["-c", small, "--only", "norm=xx"], "--only norm=xx"),
        (["-c", small, "--jobs", "0"], "--jobs 0: expected 1 or more"),
        (["-c", small, "--devices", "0"], "Paddle sees no GPU"),
        (["-c", tmp_path / "tiny.yaml"], "no section `sweep`"),
        (["-c", groups], "norm_groups=3: model: group norm"),
        (["-c", many], "images_per_worker=64: 256 images per step"),
    ]:
        done = run_here("sweep.py", *arguments)
        assert done.returncode == 2 and words in done.stderr, (arguments, done.stderr)
        assert is_one_line(done.stderr) and not done.stdout
    assert not (tmp_path / "output").exists()


def test_a_million_runs_are_refused_before_they_are_made(tmp_path):
    numbers = list(range(1000))
    axes = f"{{seed: {numbers}, epochs: {numbers}}}"
    began = time.process_time()
    with pytest.raises(InputError, match="sweep.axes: make 1,000,000 runs; sweep.max_runs .1,000. must be raised"):
        load_sweep(write_sweep(tmp_path, axes))
    assert time.process_time() - began < 2
    four = write_sweep(tmp_path, "[{seed: [0, 1]}, {norm: [bn, gn]}]")
    with pytest.raises(InputError, match="make 4 runs; sweep.max_runs .3."):
        load_sweep(four, ["sweep.max_runs=3"])
    assert "max_runs" not in description(load_sweep(four, ["sweep.max_runs=4"]))  # of no influence on a run


def test_texts_of_a_sweep_are_taken_as_they_are_typed(tmp_path):
    path = write_sweep(tmp_path, "{pretrained: ['1e3', 'my weights #1', null], base_lr: [0.1, 0.010]}")
    sweep = load_sweep(path, ["sweep.title=runs #1", "name=2024"])
    assert (sweep.section.title, sweep.name) == ("runs #1", "2024")
    for typed, name in [("1e3", "1e3"), ("my weights #1", "my_weights__1"), ("null", "null")]:
        assert {run.name.partition(",")[0] for run in sweep.only([f"pretrained={typed}"])} == {f"pretrained={name}"}
    assert len(sweep.only(["base_lr=1e-2"])) == 3
    with pytest.raises(InputError, match="pretrained is never my weights; expected"):
        sweep.only(["pretrained=my weights"])
    with pytest.raises(InputError, match="sweep.axes: pretrained: should be a valid string, got 1000; .* wants quotes"):
        load_sweep(write_sweep(tmp_path, "{pretrained: [1000]}"))


def test_a_name_that_no_folder_can_have(tmp_path):
    path = write_sweep(tmp_path, f"{{pretrained: [{'x' * 300}]}}")
    with pytest.raises(InputError, match="pretrained=xxx.*too long"):
        load_sweep(path)
