"""Folders of runs that somebody else made: evaluated, asked, exported, looked at and gone on with."""

import functools
import json
import pickle
import tempfile
from pathlib import Path

from conftest import TINY, train_here, write_run
from test_weights_hostile import Runs

from data import Preparation
from data.transforms import MEAN, STD
from hostile.files import ESCAPES, class_folders, link, pipe, sparse, written

FOLDER_DATA = "{name: image_folder, root: nowhere, image_size: 12, resize_short: 12}"


@functools.cache
def files_of(kind):
    """The files of a run by name: of one that names cats and dogs, or of one that was trained for an epoch."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        if kind == "pets":
            write_run(folder, Preparation(("cat", "dog"), (3, 12, 12), MEAN, STD, 12), FOLDER_DATA)
        else:
            written(Path(place) / "run.yaml", f"{TINY.replace('tiny', 'run')}output: {place}\n")
            train_here("-c", Path(place) / "run.yaml", "-o", "schedule.epochs=1", "record.sample_images=0")
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def run(folder, kind="pets"):
    place = folder / "output" / "run"
    for name, content in files_of(kind).items():
        content = content.replace(b"output: /tmp", b"output: /nowhere") if name == "config.yaml" else content
        written(place / name, content)
    return place


def spoiled(spoil, *arguments, tool="eval.py"):
    """A run in which `spoil(its folder)` changes something, asked about pictures of cats and dogs."""

    def make(folder):
        place = run(folder)
        class_folders(folder / "pets")
        spoil(place)
        given = arguments or (["--data", folder / "pets"] if tool == "eval.py" else [])
        given = [str(each).replace("FOLDER", str(folder)) for each in given]
        more = ["-o", "reading.processes=0"] if tool == "eval.py" else []
        return [tool, "-c", place / "config.yaml", *given, *more]

    return make


def asked(*arguments, tool="eval.py"):
    return spoiled(lambda place: None, *arguments, tool=tool)


def resumed(spoil, *arguments):
    """A run that was trained for an epoch, in which `spoil(its folder)` changes something, and that is to go on."""

    def make(folder):
        place = run(folder, "trained")
        spoil(place)
        more = ["-o", "schedule.epochs=2", "reading.processes=0"]
        return ["train.py", "-c", place / "config.yaml", *more, "-r", *(arguments or ["auto"])]

    return make


def said(**values):
    """preparation.json with other values."""

    def spoil(place):
        path = place / "preparation.json"
        written(path, json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def put(name, content):
    return lambda place: written(place / name, content)


def piped(name):
    return lambda place: pipe(place / name)


def linked(name, target="../../precious"):
    """A file of the run that leads to another's."""

    def spoil(place):
        written(place.parent.parent / "precious", "kept\n" * 9999)
        path = place / name
        if path.is_dir():
            path.rename(place / "was")
            (place.parent.parent / "elsewhere").mkdir()
            target_of = "../../elsewhere"
        else:
            target_of = target
        link(path, target_of if "/" not in name else f"../{target_of}")

    return spoil


def states(**values):
    def spoil(place):
        path = place / "latest.pdstates"
        written(path, pickle.dumps({**pickle.loads(path.read_bytes()), **values}, 2))

    return spoil


def wider(place):
    path = place / "config.yaml"
    written(path, path.read_text().replace("width: 8", "width: 12"))


LEADS = r"is a link, a pipe or a folder; expected an ordinary file, to write to"
CASES = {
    # what a picture becomes
    "no preparation": (
        spoiled(lambda place: (place / "preparation.json").unlink()), r"preparation\.json: no such file",
    ),
    "an empty preparation": (spoiled(put("preparation.json", "")), r"preparation\.json: damaged"),
    "a preparation that is a list": (spoiled(put("preparation.json", "[1]")), r"preparation\.json: damaged"),
    "a preparation in itself": (spoiled(put("preparation.json", "[" * 100_000)), r"preparation\.json: damaged"),
    "a preparation of no text": (spoiled(put("preparation.json", b"\xff\xfe{}")), r"preparation\.json: damaged"),
    "a preparation that is a pipe": (spoiled(piped("preparation.json")), r"preparation\.json: is no ordinary file"),
    "a preparation that is a device": (
        spoiled(lambda place: link(place / "preparation.json", "/dev/zero")), r"preparation\.json: is no ordinary file",
    ),
    "a preparation of 1 TB": (spoiled(lambda place: sparse(place / "preparation.json", 10**12)), r"is too long"),
    "a preparation with more": (spoiled(said(code="import os")), r"preparation\.json: damaged \(code: "),
    "pictures of two channels": (spoiled(said(image_shape=[2, 12, 12])), r"damaged \(image_shape"),
    "pictures of no side": (spoiled(said(image_shape=[3, 0, 12])), r"damaged \(image_shape"),
    "pictures of huge sides": (
        spoiled(said(image_shape=[3, 10**5, 10**5], resize_short=10**5)), r"preparation\.json: dam",
    ),
    "pictures of 10^40 sides": (spoiled(said(image_shape=[3, 10**40, 1])), r"preparation\.json: damaged"),
    "a short side of 10^9": (spoiled(said(resize_short=10**9)), r"once its short side is scaled to 1000000000"),
    "a deviation of 0": (spoiled(said(std=[0, 1, 1])), r"damaged \(std"),
    "a mean that is none": (spoiled(said(mean=[float("nan"), 1, 1])), r"damaged \(mean"),
    "two means": (spoiled(said(mean=[0.5, 0.5])), r"damaged \(mean and std"),
    "classes that are numbers": (spoiled(said(classes=[1, 2])), r"damaged \(classes"),
    "one class more": (spoiled(said(classes=["cat", "dog", "owl"])), r"does not fit this config's model: .*fc"),
    "no classes": (spoiled(said(classes=[])), r"best|classes|preparation"),
    "a filter that there is not": (spoiled(said(interpolation="lanczos")), r"damaged \(interpolation"),
    # its config
    "a config that is a pipe": (spoiled(piped("config.yaml")), r"config\.yaml: is a pipe"),
    "a config of nothing": (spoiled(put("config.yaml", "")), r"config\.yaml: expected a mapping"),
    "a config of another network": (
        spoiled(wider),
        r"does not fit this config's model",
    ),
    # its weights
    "no weights": (
        spoiled(lambda place: (place / "best.pdparams").unlink()),
        r"has neither best\.pdparams nor latest; no checkpoint is there",
    ),
    "empty weights": (spoiled(put("best.pdparams", b"")), r"best\.pdparams: "),
    "weights of code": (
        spoiled(lambda place: written(place / "best.pdparams", pickle.dumps({"a": Runs(place.parent / "mark")}, 2))),
        r"best\.pdparams: .*mkdir, which is refused",
    ),
    "weights of one number": (spoiled(put("best.pdparams", pickle.dumps(1, 2))), r"holds a int, expected a dictionary"),
    "weights of words": (spoiled(put("best.pdparams", pickle.dumps({"fc.weight": "x"}, 2))), r"holds no weights"),
    "weights with an escape": (spoiled(put("best.pdparams", pickle.dumps({ESCAPES: 1}, 2))), r"is no name of an array"),
    "weights of a zip": (spoiled(put("best.pdparams", b"PK\3\4" + bytes(99))), r"best\.pdparams: "),
    "weights of 1 TB": (spoiled(lambda place: sparse(place / "best.pdparams", 10**12)), r"more than the 2,147,483,648"),
    "weights that are a pipe": (spoiled(piped("best.pdparams")), r"best\.pdparams: is a pipe"),
    "weights that are a device": (spoiled(lambda place: link(place / "best.pdparams", "/dev/zero")), r"is a device"),
    "weights that are not there": (asked("-w", "epoch_9"), r"epoch_9\.pdparams: no such file; there are best"),
    "weights by a way out": (asked("-w", "../../../none"), r"none\.pdparams: no such file; "),
    "weights with an escape in their name": (asked("-w", ESCAPES), r"\\x1b.*no such file; there are best"),
    "weights with a NUL in their name": (asked("-w", "a\0b"), r"NUL"),
    # what it is asked
    "data that are not there": (
        asked("--data", "FOLDER/none"), r"none: no such folder; wanted a folder of class folders",
    ),
    "data of other classes": (asked("--data", "FOLDER"), r"no class of the model"),
    "a confusion of another kind": (asked("--confusion", "FOLDER/x.exe"), r"x\.exe"),
    "results into nowhere": (asked("--results", "FOLDER/none/x.json"), r"--results .*expected a file in a folder"),
    "views of pictures": (asked("--data", "FOLDER/pets", "--views", "10x3"), r"no such setting|views"),
    "views of words": (asked("--views", "axb"), r"axb: expected clips x crops"),
    "precise without BN": (asked("--data", "FOLDER/pets", "--precise"), r"--precise: is not for model\.norm gn"),
    "a picture that is not there": (asked("FOLDER/none.png", tool="infer.py"), r"none\.png: no such picture"),
    "a folder of no pictures": (asked("FOLDER/output", tool="infer.py"), r"no pictures in this folder"),
    "a picture's name too long": (asked("x" * 300, tool="infer.py"), r"x+….*too long"),
    "a picture with an escape": (asked(ESCAPES, tool="infer.py"), r"\\x1b.*: no such picture"),
    "no guesses": (asked("FOLDER/pets", "--top", "0", tool="infer.py"), r"--top 0: expected 1 or more"),
    "a score beyond 1": (
        asked("FOLDER/pets", "--least", "nan", tool="infer.py"), r"--least nan: expected a score from 0",
    ),
    "classes drawn over the pictures": (
        asked("FOLDER/pets/cat/0.png", "--draw", "FOLDER/pets/cat", tool="infer.py"), r"a class is of the whole pic",
    ),
    "an export of another form": (
        asked("--format", "caffe", tool="export_model.py"), r"--format: invalid choice: 'caffe'",
    ),
    "an export into a file": (
        asked("--save-dir", "FOLDER/pets/cat/0.png", tool="export_model.py"), r"0\.png.*(cannot be written|expected)",
    ),
    "offsets of none": (asked("--image", "FOLDER/pets", tool="show_offsets.py"), r"no deformable|deformable"),
    "nothing to show": (asked("--position", "1,1", tool="show_offsets.py"), r"nothing to show; give --image FILE"),
    # to go on with
    "states of code": (
        resumed(lambda place: written(place / "latest.pdstates", pickle.dumps({"a": Runs(place / "mark")}, 2))),
        r"latest\.pdstates: .*mkdir, which is refused",
    ),
    "states of a list": (resumed(put("latest.pdstates", pickle.dumps([1], 2))), r"holds a list, expected a dictionary"),
    "states of nothing": (resumed(put("latest.pdstates", pickle.dumps({}, 2))), r"latest\.pdstates: lacks epoch"),
    "a step beyond its epoch": (
        resumed(states(step=10**12)), r"latest\.pdstates: step 1000000000000 is not in epoch 2",
    ),
    "a step that is a text": (resumed(states(step=ESCAPES)), r"latest\.pdstates: step: .*valid integer"),
    "other epochs": (resumed(states(steps_per_epoch=3, epoch=2)), r"its epochs have 3 steps, this config's 6"),
    "records that are lost": (
        resumed(put("metrics.jsonl", "")), r"metrics\.jsonl: has 0 bytes, the checkpoint knew of",
    ),
    "an optimizer of another": (resumed(states(optimizer="Adam")), r"its optimizer is Adam, this config's Momentum"),
    "no moments": (resumed(put("latest.pdopt", pickle.dumps({}, 2))), r"latest\.pdopt: lacks the state of"),
    "classes that are a pipe": (resumed(piped("data.json")), r"data\.json: is no ordinary file"),
    "noted classes that are numbers": (resumed(put("data.json", '{"classes": [1]}')), r"data\.json: classes\.0"),
    "classes of 1 TB": (resumed(lambda place: sparse(place / "data.json", 10**12)), r"data\.json: has more than"),
    "another's classes": (
        resumed(put("data.json", f'{{"classes": ["{chr(0x202e)}a"]}}')), r"its classes were \\u202ea",
    ),
    "a lock that is a pipe": (resumed(piped(".lock")), r"\.lock: " + LEADS),
    "a lock that leads away": (resumed(linked(".lock", "../../new")), r"\.lock: " + LEADS),
    "records that lead away": (resumed(linked("metrics.jsonl")), r"metrics\.jsonl: " + LEADS),
    "records that are a pipe": (resumed(piped("metrics.jsonl")), r"metrics\.jsonl: "),
    "a log that leads away": (resumed(linked("train.log")), r"train\.log: " + LEADS),
    "curves that lead away": (resumed(linked("vdl/vdlrecords.train.log")), r"vdlrecords\.train\.log: " + LEADS),
    "a folder of curves that leads away": (resumed(linked("vdl")), r"vdl: is a link; expected a folder"),
    "a checkpoint of none": (
        resumed(lambda place: None, "epoch_77"), r"-r epoch_77: .*there are: best, epoch_1, latest",
    ),
}
