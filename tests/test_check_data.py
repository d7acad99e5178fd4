"""What tools/check_data.py finds in folders made for it, and in the sets that come along."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, run_tool
from PIL import Image

from data import DATASETS, Preparation
from data.check import duplicates, survey
from engine.check_data.findings import findings
from engine.check_data.report import describe_data, report_text, write_data_report
from engine.check_data.samples import choose_samples, write_data_sheet
from engine.errors import InputError
from engine.tasks.class_findings import class_counts, class_findings

CONFIG = ROOT / "configs" / "my_images.yaml"


def picture(seed, width=40, height=30, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def class_folders(root, classes=("cat", "猫 dog"), train=4, validation=2):
    """PNG files 0.png, 1.png, … of different noise."""
    seed = 0
    for split, count in (("train", train), ("val", validation)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                picture(seed).save(root / split / name / f"{number}.png")
                seed += 1
    return root


def sets(root, **settings):
    return DATASETS["image_folder"](root=str(root), image_size=16, resize_short=20, **settings)


def found(root, kind=None, limit=None, **settings):
    """Text and items of what is found in a folder."""
    datasets = sets(root)
    surveys = [survey(dataset, limit=limit) for dataset in datasets]
    return [(each.text, each.items) for each in classified(datasets, surveys, **settings) if kind in (None, each.kind)]


def classified(datasets, surveys, images_per_step=1, **settings):
    """What is found in sets to be classified."""
    of_task = class_findings(datasets, surveys)
    return findings(datasets, surveys, images_per_step=images_per_step, task_findings=of_task, **settings)


def described(datasets):
    surveys = [survey(dataset) for dataset in datasets]
    found = classified(datasets, surveys)
    return describe_data("mine", "image_folder", datasets, surveys, found, class_counts(datasets))


def test_nothing_is_wrong_with_good_pictures(tmp_path):
    assert found(class_folders(tmp_path), kind="problem") == []


def test_mean_and_deviation_of_pictures_that_count_the_same(tmp_path):
    class_folders(tmp_path, train=1, validation=1)
    Image.new("RGB", (300, 200), (255, 0, 51)).save(tmp_path / "train" / "cat" / "0.png")
    Image.new("RGB", (10, 20), (0, 0, 153)).save(tmp_path / "train" / "猫 dog" / "0.png")
    seen = survey(sets(tmp_path)[0])
    np.testing.assert_allclose(seen.mean, [0.5, 0, 0.4], atol=1e-12)
    np.testing.assert_allclose(seen.deviation, [0.5, 0, 0.2], atol=1e-12)
    train, _ = DATASETS["fashion_mnist"](train_images=300)
    seen = survey(train)  # all of one size: as over all pixels
    np.testing.assert_allclose(seen.mean, [train.images.mean() / 255], rtol=1e-9)
    np.testing.assert_allclose(seen.deviation, [train.images.std() / 255], rtol=1e-9)
    assert seen.sizes.tolist() == [[28, 28]] * 300 and seen.modes == {"L": 300}


def test_every_broken_file_is_named_and_none_stops(tmp_path):
    class_folders(tmp_path)
    cut, text, empty = (tmp_path / path for path in ("train/cat/1.png", "train/猫 dog/0.png", "val/cat/1.png"))
    cut.write_bytes(cut.read_bytes()[:200])
    text.write_text("no picture")
    empty.write_bytes(b"")
    ((said, items),) = found(tmp_path, kind="problem")
    assert said.startswith("3 broken files; training would stop") and "on_corrupt_image=skip" in said
    assert [any(str(path) in item for item in items) for path in (cut, text, empty)] == [True] * 3
    assert found(tmp_path, on_corrupt_image="skip", kind="problem") == []
    assert found(tmp_path, on_corrupt_image="skip")[0][1] == items


def test_the_same_picture_in_other_formats(tmp_path):
    class_folders(tmp_path)
    train, val = tmp_path / "train", tmp_path / "val"
    picture(50, mode="L").save(train / "cat" / "grey.png")
    Image.open(train / "cat" / "grey.png").convert("RGB").save(val / "cat" / "as_rgb.bmp")
    picture(51).save(train / "猫 dog" / "photo.jpg")
    Image.open(train / "猫 dog" / "photo.jpg").save(val / "猫 dog" / "saved again.png")
    Image.open(train / "cat" / "0.png").save(train / "猫 dog" / "a cat.png", optimize=True)
    Image.open(val / "cat" / "0.png").save(val / "cat" / "twice.webp", lossless=True)
    for number, pixel in enumerate(((0, 0), (39, 29))):  # the smallest difference is one
        almost = picture(52)
        almost.putpixel(pixel, (1, 2, 3))
        almost.save(train / "cat" / f"almost {number}.png")
    picture(53, 30, 40).save(train / "cat" / "upright.png")
    Image.frombytes("RGB", (40, 30), picture(53, 30, 40).tobytes()).save(train / "cat" / "lying.png")
    across, contradicting = found(tmp_path, kind="problem")
    assert across[0].startswith("2 pictures in training and in validation")
    assert across[1] == (
        f"{train}/cat/grey.png (training, cat) = {val}/cat/as_rgb.bmp (validation, cat)",
        f"{train}/猫 dog/photo.jpg (training, 猫 dog) = {val}/猫 dog/saved again.png (validation, 猫 dog)",
    )
    assert contradicting[0].startswith("1 picture in several classes") and "a cat.png" in contradicting[1][0]
    within = [items for text, items in found(tmp_path, kind="note") if "more than once" in text]
    assert [len(items) for items in within] == [1] and "twice.webp" in within[0][0]


def test_duplicates_among_arrays_and_in_none():
    datasets = DATASETS["fashion_mnist"](train_images=100, validation_images=50)
    datasets[0].images[[7, 30]] = datasets[1].images[3]
    surveys = [survey(dataset) for dataset in datasets]
    assert duplicates(surveys) == [[(0, 7), (0, 30), (1, 3)]]
    for each in surveys:
        each.fingerprints, each.indices = each.fingerprints[:0], each.indices[:0]
    assert duplicates(surveys) == []


def test_modes_sizes_and_peculiarities(tmp_path):
    class_folders(tmp_path, train=1, validation=1)
    folder = tmp_path / "train" / "cat"
    picture(62, mode="CMYK").save(folder / "cmyk.jpg")
    picture(63, mode="P").save(folder / "palette.png")
    picture(64, mode="RGBA").save(folder / "alpha.png")
    picture(65, 12, 30, mode="L").save(folder / "small.png")
    picture(66, 200, 170).save(folder / "huge.bmp")
    for name in ("phone.HEIC", "notes.txt", "a.psd", "b.psd", "empty"):
        (folder / name).touch()
    train, validation = sets(tmp_path)
    seen = survey(train, threads=2)
    assert seen.broken == [] and seen.modes == Counter({"RGB": 3, "CMYK": 1, "P": 1, "RGBA": 1, "L": 1})
    assert not list(found(tmp_path, kind="problem"))
    notes = {re.split(r"[,;]|\.resize", text)[0]: items for text, items in found(tmp_path, kind="note")}
    assert {"1 picture smaller than data.image_size (16)", "1 picture over 8 times as large as data"} <= notes.keys()
    assert "1 picture with an alpha channel" in notes
    assert notes["1 picture of the format .heic: not taken"] == (f"{folder}: 1",)
    assert notes["2 pictures of the format .psd: not taken"] == (f"{folder}: 2",)
    report = described((train, validation))
    assert report["sizes"] == {"smallest": [12, 30], "median": [40, 30], "largest": [200, 170]}


def test_dark_pictures_and_files_of_several(tmp_path):
    class_folders(tmp_path)
    cat = tmp_path / "train" / "cat"
    Image.new("RGB", (20, 20), (15, 0, 3)).save(cat / "dark.png")  # 12 bits in 16, of which Pillow keeps the upper 8
    Image.new("RGB", (20, 20), (200, 0, 3)).save(cat / "red.png")
    picture(92).save(cat / "phone.jpg", "mpo", save_all=True, append_images=[picture(93)])
    picture(90).save(cat / "moves.gif", save_all=True, append_images=[picture(91)])
    notes = dict(found(tmp_path, kind="note"))
    assert "1 file with several pictures, of which the first is taken" in notes
    (text,) = (text for text in notes if "all but black" in text)
    assert text.startswith("1 picture") and notes[text] == (f"{cat}/dark.png (training, cat)",)


def test_no_name_writes_a_line_of_its_own(tmp_path):
    class_folders(tmp_path)
    name = tmp_path / "train" / "cat" / "x\n\nno problems found\x1b[2J.png"
    name.write_bytes(b"")
    text = report_text(described(sets(tmp_path)))
    assert "no problems found" not in text.splitlines() and "\x1b" not in text
    assert "x\\n\\nno problems found\\x1b[2J.png" in text


def test_uneven_and_missing_classes_small_sets_and_large_steps(tmp_path):
    class_folders(tmp_path, train=1)
    for number in range(12):
        picture(70 + number).save(tmp_path / "train" / "cat" / f"more {number}.png")
    texts = [text for text, _ in found(tmp_path)]
    assert "uneven classes in training: 13 of cat, 1 of 猫 dog" in texts
    assert "4 validation pictures: each one is 25.0 % of the error" in texts
    (problem,) = found(tmp_path, images_per_step=16, kind="problem")
    assert problem[0].startswith("14 training pictures for a step of 16")
    (tmp_path / "train.txt").write_text("train/cat/0.png 0\ntrain/猫 dog/0.png 1\n")
    (tmp_path / "val.txt").write_text("val/cat/0.png 0\ngone.png 0\n")
    datasets = sets(tmp_path, train="train.txt", validation="val.txt")
    broken, missing, *_ = classified(datasets, [survey(dataset) for dataset in datasets])
    assert "no such image" in broken.items[0] and missing.text == "no validation picture of 1 class"


def test_a_limit_opens_pictures_from_the_whole_set(tmp_path):
    class_folders(tmp_path, train=20)
    told = []
    seen = survey(sets(tmp_path)[0], limit=5, advance=told.append)
    assert seen.indices.tolist() == [0, 10, 20, 29, 39] and seen.opened == sum(told) == 5
    assert [text for text, _ in found(tmp_path, limit=5)][-1].startswith("9 of 44 pictures were opened")


def test_the_report_whole_and_shortened(tmp_path):
    root = class_folders(tmp_path, classes=[f"class {number:02}" for number in range(12)], train=1, validation=1)
    report = described(sets(root))
    assert json.loads(json.dumps(report)) == report
    whole, short = report_text(report), report_text(report, 10, "there.txt")
    assert "class 11" in whole and "class 11" not in short and "… 2 more in there.txt" in short
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_data_report(report, tmp_path / "file" / "folder")
    text, values = write_data_report(report, tmp_path / "new" / "folder")
    assert text.read_text(encoding="utf-8") == whole + "\n" and json.loads(values.read_text(encoding="utf-8")) == report


class Unlabelled:
    """A set of which only the labels are not told."""

    labels = None

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getattr__(self, name):
        return getattr(self.dataset, name)


def test_sets_without_labels_are_described_without_classes(tmp_path):
    train, validation = DATASETS["synthetic"](train_images=20, validation_images=10, image_size=12, channels=1)
    train.images[4] = train.images[13] = validation.images[2]
    datasets = Unlabelled(train), Unlabelled(validation)
    surveys = [survey(dataset) for dataset in datasets]
    assert not class_counts(datasets) and not list(class_findings(datasets, surveys))
    found = findings(datasets, surveys, images_per_step=1)
    assert [each.items for each in found] == [("image 4 (training) = image 13 (training) = image 2 (validation)",)]
    text = report_text(describe_data("mine", "gratings", datasets, surveys, found))
    assert text.startswith("mine: gratings\n  20 training pictures\n  10 validation pictures\n\nwidth x height")
    assert write_data_sheet(datasets[0], np.arange(20), 3, tmp_path / "samples.png").stat().st_size > 500


def test_what_is_labelled_twice_is_for_the_task_to_tell():
    datasets = DATASETS["synthetic"](train_images=20, validation_images=10, image_size=12)
    datasets[0].images[3] = datasets[1].images[5]
    surveys = [survey(dataset) for dataset in datasets]
    assert findings(datasets, surveys, images_per_step=1) == []
    problem, few = classified(datasets, surveys)
    assert problem.items == ("image 3 (training, 54 degrees) = image 5 (validation, 90 degrees)",)
    assert problem.kind == "problem" and few.text == "10 validation pictures: each one is 10.0 % of the error"


def test_samples_come_from_all_classes():
    labels = np.repeat([0, 1, 2, 7], [90, 3, 5, 1])
    chosen = choose_samples(labels, np.arange(99))
    assert labels[chosen].tolist() == [0, 0, 1, 1, 2, 2, 7] and len(set(chosen)) == 7
    assert choose_samples(labels, np.array([91])) == [91]
    many = np.repeat(np.arange(100), 2)
    assert len(set(many[choose_samples(many, np.arange(200))])) == 8


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("name", ["synthetic", "warped_fashion_mnist", "composed", "image_folder"])
def test_the_sheet_shows_what_the_network_sees(tmp_path, name, monkeypatch):
    settings = {
        "synthetic": {"train_images": 20, "validation_images": 10, "image_size": 12},
        "warped_fashion_mnist": {"train_images": 20, "validation_images": 10, "image_size": 32},
        "composed": {"train_images": 20, "validation_images": 10, "image_size": 32},
        "image_folder": {"root": str(class_folders(tmp_path, classes=("a$b$ $", "猫"))), "image_size": 16},
    }[name]
    train, _ = DATASETS[name](**settings)
    drawn = []
    monkeypatch.setattr(Preparation, "shown", lambda _, image: drawn.append(image) or np.zeros((1, 1, 3)))
    path = write_data_sheet(train, np.arange(8), 3, tmp_path / "samples.png")
    with Image.open(path) as sheet:
        assert sheet.width == 1480
    first = choose_samples(train.labels, np.arange(8))[0]
    np.testing.assert_array_equal(drawn[0], train.preparation(train.stored_picture(first)))
    for epoch in range(6):
        np.testing.assert_array_equal(drawn[1 + epoch], train.batch(np.array([first]), seed=3, epoch=epoch)["image"][0])


def test_the_command(tmp_path, run_here):
    root = class_folders(tmp_path / "my photos", train=20, validation=4)
    done = run_tool("check_data.py", "-c", CONFIG, "-o", f"data.root={root}", f"output={tmp_path}", "name=mine")
    assert done.returncode == 0, done.stderr
    assert "\n        20           4  1 猫 dog\n" in done.stdout
    files = [tmp_path / "mine" / "data" / name for name in ("report.txt", "report.json", "samples.png")]
    assert done.stdout.splitlines()[-3:] == list(map(str, files)) and all(file.stat().st_size > 500 for file in files)
    (root / "train" / "cat" / "5.png").write_bytes(b"")
    options = ["-o", f"data.root={root}", "--output", tmp_path / "there", "--json", "--limit", 40]
    done = run_here("check_data.py", "-c", CONFIG, *options)
    assert done.returncode == 1 and json.loads(done.stdout)["findings"][0]["kind"] == "problem"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["report.json", "report.txt", "samples.png"]


def test_from_a_folder_of_class_folders_to_names_on_pictures(tmp_path):
    root = class_folders(tmp_path / "photos", train=10, validation=1) / "train"  # without a split
    small = ["data.image_size=16", "data.resize_short=20", "model.depth=18", "model.width=8", "schedule.epochs=1",
             "schedule.warmup_epochs=0"]
    done = run_tool("train.py", "-c", CONFIG, "-o", f"data.root={root}", f"output={tmp_path}", "device=cpu", *small)
    assert done.returncode == 0, done.stderr
    assert "[Eval][Epoch 1]" in done.stdout and "[Iter: 1/1]" in done.stdout  # 16 of 20 pictures are one step
    done = run_tool("infer.py", "-c", tmp_path / "my_images" / "config.yaml", "--json", root / "cat" / "0.png")
    assert done.returncode == 0, done.stderr
    assert {guess["class"] for guess in json.loads(done.stdout)[0]["top"]} == {"cat", "猫 dog"}
