"""What a run is compared with when it goes on, where it lies, and what is refused in one line, with nothing written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY, picture, run_tool, train_here, write_sweep

from data import DATASETS, DataError
from engine.config import load_config
from engine.errors import InputError
from engine.run import checkpoint
from engine.run.data_identity import data_changes, data_identity
from engine.run.folder import in_folder, read_preparation, run_folder
from engine.sweep.definition import load_sweep
from engine.sweep.folder import open_sweep_folder
from engine.sweep.plan import identities_of, make_plans

FOLDER_DATA = "data={name: image_folder, root: %s, image_size: 12, resize_short: 12}"


def make_pictures(root, classes, each=10):
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            picture(12, 12, shift=20 * number + index).save(root / name / f"{index}.png")
    return root


def listing(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture(scope="module")
def began(tmp_path_factory):
    """A folder with pictures of cats and dogs in data/, and a finished run of one epoch on them in output/tiny/."""
    folder = tmp_path_factory.mktemp("began")
    make_pictures(folder / "data", ["cat", "dog"])
    write_tiny(folder)
    train_here("-c", folder / "tiny.yaml", "-o", "schedule.epochs=1", FOLDER_DATA % (folder / "data"))
    return folder


def write_tiny(folder):
    (folder / "tiny.yaml").write_text(TINY + f"output: {folder / 'output'}\n")


@pytest.fixture
def two(began, tmp_path):
    """A copy of that run: the options that it was trained with, its pictures and its folder."""
    shutil.copytree(began, tmp_path, dirs_exist_ok=True)
    write_tiny(tmp_path)
    return ["-c", tmp_path / "tiny.yaml", "-o", "schedule.epochs=1"], tmp_path / "data", tmp_path / "output" / "tiny"


# The data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: (data / "dog").rename(data / "ape"), "its classes were cat, dog; here they are ape, cat"),
        (lambda data: make_pictures(data, ["eel"]), "its classes were cat, dog; here they are cat, dog, eel"),
        (lambda data: picture(12, 12).save(data / "cat" / "new.png"), "images were 16; here they are 17"),
        (lambda data: (data / "dog" / "3.png").rename(data / "dog" / "x.png"), "as many others, or in another order"),
        (lambda data: (data / "dog" / "3.png").rename(data / "cat" / "13.png"), "images were "),
    ],
)
def test_other_data_are_noticed_before_anything_is_written(two, change, words):
    options, data, folder = two
    change(data)
    before = listing(folder)
    for resume in ("auto", "epoch_1", folder / "latest"):
        with pytest.raises(InputError, match="here they are") as raised:
            train_here(*options, FOLDER_DATA % data, "-r", resume)
        assert words in str(raised.value) and len(str(raised.value).splitlines()) == 1
    assert listing(folder) == before


def test_data_may_be_moved(two, tmp_path):
    options, data, folder = two
    moved = data.rename(tmp_path / "elsewhere")
    before = (folder / "data.json").read_bytes()
    train_here(*options, FOLDER_DATA % moved, "-r", "auto")
    assert (folder / "data.json").read_bytes() == before


def test_a_run_of_an_older_version_goes_on_and_its_classes_are_compared(two):
    options, data, folder = two
    (folder / "data.json").unlink()
    picture(12, 12).save(data / "cat" / "new.png")  # which it has not noted
    train_here(*options, FOLDER_DATA % data, "-r", "auto")
    assert json.loads((folder / "data.json").read_text())["training"]["images"] == 17
    (folder / "data.json").unlink()
    (data / "dog").rename(data / "ape")
    with pytest.raises(InputError, match="its classes were cat, dog; here they are ape, cat"):
        train_here(*options, FOLDER_DATA % data, "-r", "auto")


def test_another_runs_checkpoint_wants_its_classes_but_not_its_images(two, tmp_path):
    options, data, folder = two
    (data / "cat" / "3.png").rename(data / "cat" / "x.png")
    train_here(*options, FOLDER_DATA % data, "schedule.epochs=2", "name=third", "-r", folder)
    assert f"others than those of {folder}/latest: its training images were" in (
        tmp_path / "output" / "third" / "train.log"
    ).read_text()
    (data / "dog").rename(data / "ape")
    with pytest.raises(InputError, match="latest: its classes were cat, dog; here they are ape, cat"):
        train_here(*options, FOLDER_DATA % data, "schedule.epochs=2", "name=other", "-r", folder / "latest")
    assert not (tmp_path / "output" / "other").exists()


def test_digests_tell_labels_pictures_and_order_apart():
    train, validation = DATASETS["fashion_mnist"](None, 20, 10)
    before = data_identity(train, validation)
    assert not data_changes(before, data_identity(*DATASETS["fashion_mnist"](None, 20, 10)))
    digests = [train.digest()]
    train.labels = train.labels[::-1]
    digests.append(train.digest())
    train.images = train.images.copy()
    train.images[0, 0, 0, 0] ^= 1
    digests.append(train.digest())
    train.keep(np.arange(20)[::-1])
    digests.append(train.digest())
    assert len(set(digests)) == 4
    assert data_changes(before, data_identity(train, validation))[0][0] == "training images"
    warped = [DATASETS["warped_fashion_mnist"](None, images, 10)[0].digest() for images in (20, 20, 30)]
    assert warped[0] == warped[1] != warped[2]


def test_of_many_classes_the_first_other_one_is_named():
    train, validation = DATASETS["synthetic"](12, 24, 24, 8)
    before = data_identity(train, validation)
    after = before.model_copy(update={"classes": [*before.classes[:9], "x", *before.classes[10:]]})
    assert data_changes(before, after) == [("classes", "12, that of label 9 135 degrees", "12, that of label 9 x")]


def test_a_sweep_notices_other_data(tmp_path):
    data = make_pictures(tmp_path / "data", ["cat", "dog"])
    path = write_sweep(tmp_path, "{seed: [0, 1]}")
    options = [FOLDER_DATA % data, "schedule.epochs=1"]
    sweep = load_sweep(path, options)

    def opened():
        return open_sweep_folder(sweep, identities_of(sweep, make_plans(sweep, sweep.runs[:1])))

    assert opened() == []
    for run in sweep.runs:
        run.config.folder.mkdir(parents=True)
        (run.config.folder / "config.yaml").write_text(run.config.to_yaml())
        train_here("-c", run.config.folder / "config.yaml", "-r", "auto")
    assert opened() == []
    (data / "dog").rename(data / "ape")
    lines = opened()
    assert len(lines) == 2 and lines[0].startswith("seed=0: classes: cat, dog -> ape, cat and ")
    assert sorted(path.name for path in (tmp_path / "output" / "small.changed").iterdir()) == ["seed=0.1", "seed=1.1"]
    assert not (sweep.runs[0].config.folder).exists()


# Where a run lies


def test_a_moved_run_goes_on_where_it_is(two, tmp_path, monkeypatch):
    options, data, folder = two
    moved = folder.rename(tmp_path / "archive")
    train_here("-c", moved / "config.yaml", "-r", "auto", "-o", "schedule.epochs=2")
    assert not folder.exists()
    assert checkpoint.load(moved / "latest")[".pdstates"]["epoch"] == 2
    assert json.loads((moved / "result.json").read_text())["epochs"] == 2
    monkeypatch.chdir(tmp_path / "data")
    train_here("-c", "../archive/config.yaml", "-r", "auto", "-o", "schedule.epochs=3")
    assert checkpoint.load(moved / "latest")[".pdstates"]["epoch"] == 3
    with pytest.raises(InputError, match="archive: already holds a run"):
        train_here("-c", "../archive/config.yaml")


def test_another_name_or_output_asks_for_another_place(two, tmp_path):
    moved = two[2].rename(tmp_path / "archive")
    own = load_config(moved / "config.yaml")
    for overrides, place in (
        ([], moved), (["seed=1"], moved), (["name=b"], Path(own.output) / "b"), (["output=o"], Path("o/tiny")),
    ):
        config = load_config(moved / "config.yaml", overrides)
        assert run_folder(moved / "config.yaml", config, overrides) == place
        assert in_folder(config, place).folder.resolve() == place.resolve()
    shutil.copy(moved / "config.yaml", tmp_path / "mine.yaml")
    assert run_folder(tmp_path / "mine.yaml", own) == own.folder  # no run's own


def test_a_run_of_a_moved_sweep_keeps_its_name(tiny, tmp_path):
    config = load_config(tiny, ["name=figure/seed=0"])
    moved = in_folder(config, tmp_path / "there" / "figure" / "seed=0")
    assert (moved.name, moved.folder) == ("figure/seed=0", tmp_path / "there" / "figure" / "seed=0")
    assert in_folder(config, tmp_path / "there" / "other").name == "other"
    with pytest.raises(InputError, match="no run can lie there"):
        in_folder(config, tmp_path / ".hidden")


# What is asked for


def test_a_folder_and_the_runs_own_names_are_understood(two, tmp_path):
    options, data, folder = two
    options = [*options, FOLDER_DATA % data]
    train_here(*options, "schedule.epochs=2", "name=from_folder", "-r", folder)
    assert "continuing at step 2, epoch 2" in (tmp_path / "output" / "from_folder" / "train.log").read_text()
    for name in ("latest", "best", "epoch_1", "epoch_1.pdparams"):
        train_here(*options, "-r", name)
    for name in ("epoch_7", folder / "epoch_7"):
        with pytest.raises(InputError, match="epoch_7: no checkpoint there; in that folder there are: best, epoch_1, "):
            train_here(*options, "-r", name)


def test_fewer_epochs_than_there_are_is_refused(two):
    options, data, folder = two
    options = [*options, FOLDER_DATA % data]
    train_here(*options, "schedule.epochs=3", "evaluate_every_epochs=2", "-r", "auto")
    before = listing(folder)
    for epochs, words in ((1, "is in epoch 3 already"), (2, "is in epoch 3 already")):
        with pytest.raises(InputError, match=words):
            train_here(*options, f"schedule.epochs={epochs}", "evaluate_every_epochs=2", "-r", "auto")
    assert listing(folder) == before
    more = ["name=cut", "evaluate_every_epochs=2"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("engine.train.validation.evaluate_epoch", lambda *arguments, **more: 1 / 0)
        train_here(*options, *more, "schedule.epochs=3")
    with pytest.raises(InputError, match="epoch 1 was not evaluated and cannot be the last"):
        train_here(*options, *more, "schedule.epochs=1", "-r", "epoch_1")


def test_a_result_of_fewer_epochs_goes_when_the_run_goes_on(two, monkeypatch):
    options, data, folder = two
    monkeypatch.setattr("engine.train.loop.train_step", lambda *arguments, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_here(*options, FOLDER_DATA % data, "schedule.epochs=2", "-r", "auto")
    assert not (folder / "result.json").exists()


def test_where_a_finished_run_was_trained_stays_on_record(two):
    options, data, folder = two
    (folder / "env.json").write_text('{"commit": "of then"}')
    train_here(*options, FOLDER_DATA % data, "-r", "auto")
    assert json.loads((folder / "env.json").read_text()) == {"commit": "of then"}
    train_here(*options, FOLDER_DATA % data, "schedule.epochs=2", "-r", "auto")
    assert "numpy" in json.loads((folder / "env.json").read_text())


def test_what_only_a_beginning_needs_is_not_asked_for(two, tmp_path):
    options, data, folder = two
    weights = shutil.copy(folder / "latest.pdparams", tmp_path / "weights.pdparams")
    options = [*options, FOLDER_DATA % data, f"pretrained={weights}", "name=tuned"]
    train_here(*options)
    (tmp_path / "weights.pdparams").unlink()
    train_here(*options, "schedule.epochs=2", "-r", "auto")
    with pytest.raises(InputError, match="weights.pdparams: no such file"):
        train_here(*options, "name=another")


# The best


def test_a_new_run_claims_no_best_of_the_run_it_comes_from(two, tmp_path):
    options, data, folder = two
    train_here(*options, FOLDER_DATA % data, "schedule.epochs=2", "name=new", "optimizer.base_lr=0", "-r", folder)
    new = tmp_path / "output" / "new"
    assert checkpoint.load(new / "best")[".pdstates"]["best"]["epoch"] == 2
    assert json.loads((new / "result.json").read_text())["best_epoch"] == 2


def test_a_best_whose_files_are_lost_is_not_claimed(two):
    options, data, folder = two
    for file in (*folder.glob("best.*"), *folder.glob("epoch_1.*")):
        file.unlink()
    states = checkpoint.load(folder / "latest")[".pdstates"]
    assert states["best"] == {**states["best"], "step": states["step"]}  # of latest itself: it is there
    train_here(*options, FOLDER_DATA % data, "-r", "auto", "-o", "schedule.epochs=2", "optimizer.base_lr=0")
    assert checkpoint.load(folder / "best")[".pdstates"]["epoch"] == 1
    for file in (*folder.glob("best.*"), *folder.glob("epoch_1.*")):
        file.unlink()
    train_here(*options, FOLDER_DATA % data, "-r", "auto", "-o", "schedule.epochs=3", "optimizer.base_lr=0")
    assert checkpoint.load(folder / "best")[".pdstates"]["best"]["epoch"] == 3


# Damaged files


def damage(folder, ending, change):
    contents = checkpoint.load(folder / "latest")
    change(contents[ending])
    checkpoint.save(folder / "latest", contents)


@pytest.mark.parametrize(
    ("ending", "change", "words"),
    [
        (".pdstates", lambda s: s.update(epoch="two"), "epoch: "),
        (".pdstates", lambda s: s.update(step=-1), "step: "),
        (".pdstates", lambda s: s.update(step=5000), "step 5000 is not in epoch 2"),
        (".pdstates", lambda s: s.update(window=[{"loss": "a"}]), "window.0.loss: "),
        (".pdstates", lambda s: s.update(window=[{"top1_error": 1.0}]), "or no loss"),
        (".pdstates", lambda s: s.update(sums=None), "sums: "),
        (".pdstates", lambda s: s.update(best=3), "best: "),
        (".pdstates", lambda s: s.update(best={**s["best"], "top1_error": float("nan")}), "best.top1_error: "),
        (".pdstates", lambda s: s.update(position={"metrics": 1}), "lacks position.visualdl"),
        (".pdstates", lambda s: s.update(train_seconds=[1]), "train_seconds: "),
        (".pdstates", lambda s: s.pop("best"), "lacks best"),
        (".pdstates", lambda s: s.pop("optimizer"), "lacks optimizer"),
        (".pdstates", lambda s: s.update(optimizer=np.zeros(3)), "optimizer: "),
        (".pdopt", lambda s: s.clear(), "lacks the state of"),
        (".pdopt", lambda s: s.pop("linear_0.b_0_velocity_0"), "lacks the state of linear_0.b_0"),
        (".pdopt", lambda s: s.update({"linear_0.b_0_velocity_0": np.zeros(7, "float32")}), "is [7], expected [2]"),
        (".pdopt", lambda s: s.update({"linear_0.b_0_velocity_0": "no"}), "is str, expected an array of floats"),
        (".pdopt", lambda s: s.update({"linear_0.b_0_velocity_0": np.full(2, np.nan, "float32")}), "are not finite"),
        (".pdparams", lambda s: s.update({"fc.bias": 5}), "fc.bias is a int, expected an array"),
        (".pdparams", lambda s: s.update({"fc.bias": np.zeros(2)}), "fc.bias is float64, expected float32"),
        (".pdparams", lambda s: s.update({"fc.bias": np.full(2, np.inf, "float32")}), "fc.bias holds numbers"),
        (".pdparams", lambda s: s.pop("fc.bias"), "fc.bias is nothing there"),
    ],
)
def test_a_damaged_checkpoint_is_one_line_and_leaves_all_as_it_is(two, ending, change, words):
    options, data, folder = two
    damage(folder, ending, change)
    before = listing(folder)
    with pytest.raises((InputError, DataError)) as raised:
        train_here(*options, FOLDER_DATA % data, "-r", "auto", "-o", "schedule.epochs=2")
    message = str(raised.value)
    assert words in message and "latest" in message and "\n" not in message
    assert listing(folder) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": "abc"}, "classes: "), ({"classes": None}, "classes: "), ({"classes": [1, 2]}, "classes.0: "),
        ({"image_shape": [3, 12]}, "image_shape"), ({"image_shape": [2, 12, 12]}, "image_shape.0: "),
        ({"mean": [0.5]}, "mean and std: expected 3 numbers each"), ({"std": [0, 1, 1]}, "std.0: "),
        ({"mean": [None, 0.5, 0.5]}, "mean.0: "), ({"resize_short": "all"}, "resize_short: "),
        ({"resize_short": 3}, "less than the 12"), ({"interpolation": 1}, "interpolation: "), ({"more": 1}, "more: "),
    ],
)
def test_a_damaged_preparation_is_one_line(two, change, words):
    path = two[2] / "preparation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError) as raised:
        read_preparation(two[2])
    assert words in str(raised.value) and "preparation.json: damaged" in str(raised.value)
    path.write_text("[" * 100000)
    with pytest.raises(InputError, match="preparation.json: damaged"):
        read_preparation(two[2])


@pytest.mark.parametrize("content", ["", "[]", '{"classes": 3}', '{"classes": [], "training": {"images": "x"}}', "\0"])
def test_a_damaged_data_record_is_one_line(two, content):
    options, data, folder = two
    (folder / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"data\.json: "):
        train_here(*options, FOLDER_DATA % data, "-r", "auto")


def test_a_command_says_so_with_status_2(two):
    options, data, folder = two
    (data / "dog").rename(data / "ape")
    done = run_tool("train.py", *options, FOLDER_DATA % data, "-r", "auto")
    assert done.returncode == 2
    words = f"error: {folder}: its classes were cat, dog; here they are ape, cat; "
    assert done.stderr.splitlines()[-1].startswith(words)
    assert yaml.safe_load((folder / "config.yaml").read_text())["name"] == "tiny"
