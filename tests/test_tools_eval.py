"""The commands that use a trained model, on other pictures and with pieces of its run missing or damaged."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import is_one_line, picture, write_run
from PIL import Image

from data import Preparation
from data.idx import CLASSES
from data.transforms import MEAN, STD

PETS = ("cat", "dog", "owl")
FOLDER = "{name: image_folder, root: /nowhere, image_size: 16, resize_short: 16}"


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """The config of a run on class folders that are not there any more."""
    preparation = Preparation(PETS, (3, 16, 16), MEAN, STD, 16)
    return write_run(tmp_path_factory.mktemp("runs") / "pets", preparation, FOLDER)


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Class folders with 12 owls and 8 cats, all different."""
    root, numbers = tmp_path_factory.mktemp("new"), np.random.default_rng(0)
    for name, count in (("owl", 12), ("cat", 8)):
        (root / name).mkdir()
        for number in range(count):
            colours = numbers.integers(0, 256, (3, 3, 3), np.uint8)
            Image.fromarray(colours).resize((20, 18)).save(root / name / f"{number}.png")
    return root


def answers(run_here, config, *paths):
    """{file: class} by infer.py."""
    done = run_here("infer.py", "-c", config, *paths, "--json")
    return {each["file"]: each["top"][0]["class"] for each in json.loads(done.stdout)}


def test_a_labelled_folder_whole_counted_as_infer_names_its_pictures(run_here, pets, new):
    done = run_here("eval.py", "-c", pets, "--data", new, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["images"] == 20 and told["skipped"] == 0
    expected = np.zeros((3, 3), int)
    for file, guess in answers(run_here, pets, new).items():
        expected[PETS.index(file.split("/")[-2]), PETS.index(guess)] += 1
    assert (expected.sum(axis=0) > 0).sum() > 1, "a model with one answer for all would show nothing"
    assert told["confusion"] == expected.tolist()
    assert [each["class"] for each in told["classes"]] == list(PETS)
    assert [each["images"] for each in told["classes"]] == [8, 0, 12]
    assert [each["wrong"] for each in told["classes"]] == (expected.sum(axis=1) - expected.diagonal()).tolist()
    assert told["top1_error"] == pytest.approx(1 - expected.trace() / 20)


def test_the_terminal_has_the_same_and_names_the_classes_that_are_not_there(run_here, pets, new, tmp_path):
    done = run_here("eval.py", "-c", pets, "--data", new, "--confusion", tmp_path / "figures" / "x.svg")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("[Eval] loss: ") and lines[0].endswith("(20 images)")
    assert lines[1].split() == ["error", "wrong", "images", "class"] and lines[4] == "no images of dog"
    assert "<svg" in (tmp_path / "figures" / "x.svg").read_text()


def test_archives_and_lists(run_here, pets, new, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.make_archive(tmp_path / "packed", "zip", new)
    whole = run_here("eval.py", "-c", pets, "--data", new, "--json").stdout
    assert run_here("eval.py", "-c", pets, "--data", tmp_path / "packed.zip", "--json").stdout == whole
    files = sorted(file.relative_to(new) for file in new.rglob("*.png"))
    (new / "list.txt").write_text("".join(f"{file} {PETS.index(file.parent.name)}\n" for file in files))
    listed = json.loads(run_here("eval.py", "-c", pets, "--data", new / "list.txt", "--json").stdout)
    (new / "list.txt").unlink()
    assert listed["confusion"] == json.loads(whole)["confusion"]


def test_a_model_of_arrays_takes_files(run_here, tmp_path):
    preparation = Preparation(CLASSES, (1, 28, 28), (0.2860,), (0.3530,))
    config = write_run(tmp_path / "runs" / "garments", preparation, "{name: fashion_mnist}")
    for name in ("T-shirt_top", "Ankle boot"):
        (tmp_path / "new" / name).mkdir(parents=True)
        picture(40, 30).save(tmp_path / "new" / name / "0.jpg")
    done = run_here("eval.py", "-c", config, "--data", tmp_path / "new", "--json")
    told = json.loads(done.stdout)
    assert told["images"] == 2 and "top5_error" in told
    assert [each["class"] for each in told["classes"] if each["images"]] == ["T-shirt/top", "Ankle boot"]


def test_broken_pictures_stop_it_or_are_skipped_and_counted(run_here, pets, tmp_path):
    (tmp_path / "cat").mkdir()
    picture(20, 20).save(tmp_path / "cat" / "good.png")
    (tmp_path / "cat" / "bad.png").write_text("no picture")
    done = run_here("eval.py", "-c", pets, "--data", tmp_path)
    assert done.returncode == 2 and "bad.png: cannot be read" in done.stderr and not done.stdout
    skip = ("-o", "data.on_corrupt_image=skip", "reading.processes=0")
    done = run_here("eval.py", "-c", pets, "--data", tmp_path, *skip)
    assert done.returncode == 0 and "(1 images, 1 skipped)" in done.stdout
    told = json.loads(run_here("eval.py", "-c", pets, "--data", tmp_path, "--json", *skip).stdout)
    assert (told["images"], told["skipped"]) == (1, 1) and told["classes"][0]["images"] == 1


def test_infer_goes_on_after_a_broken_picture_and_names_it_at_the_end(run_here, pets, tmp_path):
    for number in range(40):  # more than a batch
        picture(20, 20, shift=6 * number).save(tmp_path / f"{number:02}.png")
    whole = answers(run_here, pets, tmp_path)
    broken = [tmp_path / "07.png", tmp_path / "39.png"]
    broken[0].write_bytes(broken[0].read_bytes()[:60])
    broken[1].write_text("no picture")

    done = run_here("infer.py", "-c", pets, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        file for file in whole if file not in map(str, broken)
    ]
    said = done.stderr.splitlines()[-3:]
    assert said[0] == "error: 2 of 40 pictures cannot be read:"
    assert said[1].startswith(f"  {broken[0]}: ") and said[2].startswith(f"  {broken[1]}: ")

    done = run_here("infer.py", "-c", pets, tmp_path, "--json")
    assert done.returncode == 1 and "2 of 40" in done.stderr
    told = json.loads(done.stdout)
    assert [each["file"] for each in told] == list(whole)
    assert [each["file"] for each in told if "error" in each] == list(map(str, broken))
    assert {each["file"]: each["top"][0]["class"] for each in told if "top" in each}.items() < whole.items()


def test_infer_waits_for_no_pipe_and_says_what_it_passes_over(run_here, pets, tmp_path, caplog):
    picture(20, 20).save(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "phone.heic").write_text("")
    done = run_here("infer.py", "-c", pets, tmp_path)
    assert done.returncode == 1 and "good.png: " in done.stdout
    assert "1 of 2 pictures cannot be read" in done.stderr and "pipe.jpg: is a pipe" in done.stderr
    assert "not taken: 1 picture of the format .heic" in caplog.text


def test_infer_where_nothing_can_be_read(run_here, pets, tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    done = run_here("infer.py", "-c", pets, tmp_path / "x.png", "--json")
    assert done.returncode == 1 and "1 of 1 pictures cannot be read" in done.stderr
    (told,) = json.loads(done.stdout)
    assert told.keys() == {"file", "error"} and "x.png: cannot be read" in told["error"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "config.yaml").unlink(), "config.yaml: no such file"),
        (lambda run: (run / "preparation.json").unlink(), "preparation.json: no such file"),
        (lambda run: (run / "preparation.json").write_text('{"classes": ["a"'), "preparation.json: damaged"),
        (lambda run: (run / "preparation.json").write_text("{}"), "preparation.json: "),
        (lambda run: (run / "best.pdparams").unlink(), "pets: has neither best.pdparams nor latest; no"),
        (lambda run: (run / "best.pdparams").write_bytes((run / "best.pdparams").read_bytes()[:-9]), "best.pdparams: "),
        (lambda run: (run / "best.pdparams").write_bytes(b""), "best.pdparams: "),
        (lambda run: ((run / "best.pdparams").unlink(), (run / "best.pdparams").mkdir()), "best.pdparams: is a folder"),
    ],
)
def test_a_run_with_pieces_missing_or_damaged_is_one_line(run_here, new, tmp_path, damage, words):
    preparation = Preparation(PETS, (3, 16, 16), MEAN, STD, 16)
    config = write_run(tmp_path / "pets", preparation, FOLDER)
    damage(tmp_path / "pets")
    for tool, arguments in (("eval.py", ["--data", new]), ("infer.py", [new]), ("export_model.py", [])):
        done = run_here(tool, "-c", config, *arguments)
        assert done.returncode == 2 and is_one_line(done.stderr) and words in done.stderr, (tool, done.stderr)
        assert not done.stdout and not (tmp_path / "pets" / "export").exists()


def test_names_steer_no_terminal(run_here, new, tmp_path):
    preparation = Preparation(("cat", "\x1b[2Kno problems found\n", "owl"), (3, 16, 16), MEAN, STD, 16)
    config = write_run(tmp_path / "pets", preparation, FOLDER)
    (tmp_path / "a\x1b[31m.png").write_text("no picture")
    picture(20, 20).save(tmp_path / "b\x9b.png")
    for done in (
        run_here("eval.py", "-c", config, "--data", new, "--confusion", tmp_path / "x.png"),
        run_here("infer.py", "-c", config, *tmp_path.glob("*.png")),
    ):
        assert "no problems found\\n" in done.stdout and not {"\x1b", "\x9b"} & {*done.stdout, *done.stderr}


def test_weights_of_another_name_are_answered_with_those_that_are_there(run_here, pets, new):
    done = run_here("infer.py", "-c", pets, new, "-w", "bset")
    assert done.returncode == 2 and "pets/bset.pdparams: no such file; there are best" in done.stderr
