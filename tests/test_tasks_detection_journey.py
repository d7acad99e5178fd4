"""A small Mask R-CNN goes through every command: checked, trained, continued, evaluated, asked, exported."""

import json
import os
import shutil
import sys

import pytest
from conftest import ROOT, is_one_line, train_here
from PIL import Image
from visualdl import LogReader

from data import garment_scenes
from engine.config.yaml_text import write_yaml
from engine.errors import InputError
from engine.report.page import write_report
from engine.run import checkpoint
from engine.run.result import read_metrics
from engine.sweep.definition import load_sweep
from engine.sweep.folder import description, write_results

pytest.importorskip("pycocotools")
TINY = """
device: cpu
model:
  name: mask_rcnn
  depth: 18
  width: 4
  norm: bn
  norm_groups: 2
  bn_running_statistics: precise
  fpn_channels: 8
  fpn_norm: bn
  head_channels: 8
  box_head: 4conv1fc
  box_head_norm: bn
  box_head_features: 16
  mask_head_norm: gn
  anchor_sizes: [8, 16, 32, 64, 128]
  canonical_box_size: 36
  anchors_per_image: 32
  rois_per_image: 16
  proposals_before_nms: [50, 50]
  proposals_after_nms: [30, 20]
  detections_per_image: 5
  score_threshold: 0.0
data: {name: garment_scenes, train_images: 8, validation_images: 5, image_size: 64, fresh: false}
batch: {images_per_worker: 2, workers: 2}
optimizer: {base_lr: 0.01, reference_images_per_step: 4, nesterov: false, decay_norm_and_bias: false}
schedule: {name: cosine, epochs: 2}
bn_precise_images: 7
ema_decay: 0.5
reading: {evaluation_images: 3}
record: {every_steps: 1, sample_images: 2, histograms: false}
"""
LOSSES = ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"]
APS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The path of a config; its run `tiny` is trained."""
    folder = tmp_path_factory.mktemp("detection")
    path = folder / "tiny.yaml"
    path.write_text(TINY + f"output: {folder}\n")
    train_here("-c", path)
    return path


@pytest.fixture(scope="module")
def run(config):
    return config.parent / "tiny"


@pytest.fixture(scope="module")
def pictures(config):
    folder = config.parent / "pictures"
    (folder / "more").mkdir(parents=True)
    _, scenes = garment_scenes(2, 2, image_size=64)
    scenes.stored_picture(0).save(folder / "a.png")
    scenes.stored_picture(1).resize((100, 30)).save(folder / "more" / "A.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_losses_and_aps_are_recorded(run):
    windows, (first, last) = read_metrics(run, "train"), read_metrics(run, "eval")
    assert len(windows) == 4
    for window in windows:
        assert window["loss"] == pytest.approx(sum(window[name] for name in LOSSES), rel=1e-5)
    for evaluation in (first, last):
        for kind in ("mask", "box"):
            values = [evaluation[f"{kind}_{name}"] for name in APS]
            assert all(0 <= value <= 1 for value in values[:3]) and values[5] is None
    result = json.loads((run / "result.json").read_text())
    assert result["mask_ap_best"] == max(first["mask_ap"], last["mask_ap"]) and result["box_ap75_last"] is not None
    assert result["multiply_adds"] > 0


def test_killed_in_the_second_epoch_it_ends_with_the_same_bits(config, run, monkeypatch):
    from engine.train import loop

    real, calls = loop.train_step, []

    def failing(*arguments, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    monkeypatch.setattr(loop, "train_step", failing)
    with pytest.raises(KeyboardInterrupt):
        train_here("-c", config, "-o", "name=killed")
    monkeypatch.undo()
    train_here("-c", config, "-o", "name=killed", "-r", "auto")
    killed = config.parent / "killed"
    assert (killed / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert (killed / "samples.jpg").read_bytes() == (run / "samples.jpg").read_bytes()
    whole, again = (checkpoint.read(folder / "latest.pdparams") for folder in (run, killed))
    assert all((whole[name] == again[name]).all() for name in whole)


def test_passes_of_whole_workers_are_one_pass(config, run):
    train_here("-c", config, "-o", "name=passes", "batch.workers_per_pass=1", "schedule.epochs=1")
    one, passes = read_metrics(run, "train")[0], read_metrics(config.parent / "passes", "train")[0]
    for name in ("loss", *LOSSES, "gradient_norm"):
        assert passes[name] == pytest.approx(one[name], rel=1e-4), name


def test_it_is_evaluated(run_here, run, tmp_path):
    done = run_here("eval.py", "-c", run / "config.yaml", "--json", "--results", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    numbers, result = json.loads(done.stdout), json.loads((run / "result.json").read_text())
    assert (numbers["images"], numbers["skipped"], numbers["mask_ap_large"]) == (5, 0, None)
    assert numbers["mask_ap"] == result["mask_ap_best"] and len(numbers["classes"]) == 10
    results = json.loads((tmp_path / "results.segm.json").read_text())
    assert {entry["image_id"] for entry in results} <= set(range(1, 6))
    assert {entry["category_id"] for entry in results} <= set(range(1, 11))
    text = run_here("eval.py", "-c", run / "config.yaml").stdout
    assert "mask_ap_large: n/a" in text and "mask AP   box AP  objects  class" in text


def test_it_answers_with_pictures_beside_a_json(run_here, run, pictures, tmp_path):
    folder = tmp_path / "drawn"
    done = run_here("infer.py", "-c", run / "config.yaml", pictures, "--draw", folder, "--least", "0", "--top", "2")
    assert done.returncode == 1 and "1 of 3 pictures" in done.stderr
    answers = json.loads((folder / "answers.json").read_text())
    told = {os.path.relpath(answer["file"], pictures): answer for answer in answers}
    assert set(told) == {"a.png", os.path.join("more", "A.png"), "broken.png"}
    assert told["a.png"]["drawn"] == "a.png" and told[os.path.join("more", "A.png")]["drawn"] == "A_2.png"
    assert "error" in told["broken.png"] and len(told["a.png"]["objects"]) == 2
    wide = told[os.path.join("more", "A.png")]
    assert wide["size"] == [30, 100]
    for each in wide["objects"]:
        x1, y1, x2, y2 = each["box"]
        assert 0 <= x1 < x2 <= 100.01 and 0 <= y1 < y2 <= 30.01 and each["mask"]["size"] == [30, 100]
    assert Image.open(folder / "A_2.png").size == (1000, 300)
    assert set(os.listdir(folder)) == {"a.png", "A_2.png", "answers.json"}


@pytest.mark.parametrize(("tool", "more", "words"), [
    ("infer.py", ["PICTURES", "--least", "2"], "--least 2: expected a score from 0 to 1"),
    ("infer.py", ["PICTURES", "--draw", "PICTURES"], "holds the pictures themselves"),
    ("eval.py", ["--results", "no/such/folder/x.json"], "--results no/such/folder/x.json: expected a file in a folder"),
    ("eval.py", ["--confusion", "x.png"], "--confusion: a detector"),
    ("eval.py", ["--data", "LABELLED"], "data: its pictures have no boxes"),
])
def test_wrong_arguments_are_one_line(run_here, run, pictures, tool, more, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelled" / "Bag").mkdir(parents=True)
    shutil.copy(pictures / "a.png", tmp_path / "labelled" / "Bag")
    monkeypatch.setattr("engine.evaluation.evaluate", lambda *arguments: 1 / 0)  # all that comes before any work
    places = {"PICTURES": pictures, "LABELLED": tmp_path / "labelled"}
    done = run_here(tool, "-c", run / "config.yaml", *(places.get(each, each) for each in more))
    assert done.returncode == 2 and is_one_line(done.stderr) and words in done.stderr


def test_it_is_exported_and_its_data_are_checked(run_here, run, config):
    done = run_here("export_model.py", "-c", run / "config.yaml")
    assert done.returncode == 0, done.stderr
    assert (run / "export" / "inference.pdiparams").exists()
    done = run_here("check_data.py", "-c", config, "--json", "--output", config.parent / "checked")
    assert done.returncode in (0, 1), done.stderr
    assert sum(each["training"] for each in json.loads(done.stdout)["classes"]) > 8


@pytest.mark.parametrize(("form", "words"), [
    ("onnx", "onnx: model.name: mask_rcnn: has no ONNX form"),
    ("torch", "torch: model.name: mask_rcnn: torchvision has none that computes it"),
])
def test_a_form_that_detectors_lack_asks_for_no_package(run_here, run, form, words, tmp_path, monkeypatch):
    for package in ("onnx", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, package, None)
    done = run_here("export_model.py", "-c", run / "config.yaml", "--format", form, "--save-dir", tmp_path / "out")
    assert done.returncode == 2 and done.stderr == f"error: {words}; --format paddle takes it\n"
    assert not (tmp_path / "out").exists()


def test_a_sweep_knows_all_its_aps(config, run):
    path = config.parent / "swept.yaml"
    path.write_text(
        f"_BASE_: {config.name}\nschedule: {{epochs: 1}}\nsweep:\n  axes: {{box_head_norm: [bn, gn]}}\n"
        "  figures: [table_ap, figure_5]\n"
    )
    sweep = load_sweep(path)
    described = description(sweep)
    names = [described["measure"]["name"], *(measure["name"] for measure in described["more_measures"])]
    assert names == ["mask_ap", "mask_ap50", "mask_ap75", "box_ap", "box_ap50", "box_ap75"]
    sweep.folder.mkdir()
    for one in sweep.runs:
        shutil.copytree(run, one.config.folder)
        (one.config.folder / "config.yaml").write_text(one.config.to_yaml())
    (sweep.folder / "sweep.yaml").write_text(write_yaml(described))
    write_results(sweep, {"started": "2026-01-01T00:00:00", "seconds": 1.0, "processes": 1})
    write_report(sweep.folder)
    report = (sweep.folder / "report.md").read_text()
    assert "GN in the box head" in report and "box AP75, %" in report and "error" not in report.lower()


@pytest.mark.parametrize(("study", "quoted"), [
    ("from_scratch", ["39.5 59.8 43.6 35.2 56.9 37.6"]),
    ("fine_tuned", [
        "38.6 59.5 41.9 34.2 56.2 36.1", "39.5 60.0 43.2 34.4 56.4 36.3", "40.0 61.0 43.3 34.8 57.3 36.3",
        "40.3 61.0 44.0 35.7 57.9 37.7",
    ]),
    ("deformable", [
        "– 78.1 62.1 – – –", "36.6 – – 32.2 – –", "– 78.3 66.6 – – –", "– 78.6 63.3 – – –", "– 79.3 66.9 – – –",
        "43.1 – – 37.3 – –",
    ]),
])
def test_the_studies_stand_beside_the_papers(run, tmp_path, study, quoted):
    sweep = load_sweep(ROOT / "configs" / "sweeps" / f"scenes_{study}.yaml", [f"output={tmp_path}"])
    for one in sweep.runs:
        shutil.copytree(run, one.config.folder, ignore=shutil.ignore_patterns("*.pd*", "vdl"))
        (one.config.folder / "config.yaml").write_text(one.config.to_yaml())
    (sweep.folder / "sweep.yaml").write_text(write_yaml(description(sweep)))
    write_results(sweep, {"started": "2026-01-01T00:00:00", "seconds": 1.0, "processes": 1})
    write_report(sweep.folder)
    lines = (sweep.folder / "report.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| *")]
    assert [" ".join(cell.strip("*") for cell in row[1:]) for row in rows] == quoted
    assert "![What is found in the same pictures](figure_scenes.jpg)" in lines
    assert (sweep.folder / "report.html").read_text().count('src="data:image/jpeg;base64,') == 1
    width, height = Image.open(sweep.folder / "figure_scenes.jpg").size
    assert height > (1 + len(sweep.runs) // 3) * width / 4  # a row for each setting and one for what is annotated


def test_a_detector_wants_weights_or_to_learn_all(config):
    with pytest.raises(InputError, match="model.frozen: stem, c2 would keep random weights for ever"):
        train_here("-c", config, "-o", "name=frozen", "model.frozen=[stem,c2]")


def test_a_classifier_draws_nothing(run_here, trained, pictures):
    done = run_here("infer.py", "-c", trained / "config.yaml", pictures / "a.png", "--draw", "x")
    assert done.returncode == 2 and "--draw: a class is of the whole picture" in done.stderr
    assert not (trained / "samples.jpg").exists()
    done = run_here("eval.py", "-c", trained / "config.yaml", "--results", "x.json")
    assert done.returncode == 2 and "--results" in done.stderr


def test_the_dashboard_gets_pictures_with_answers(run):
    assert Image.open(run / "samples.jpg").size == (2 * 240, 2 * 240)
    reader = LogReader(file_path=str(next((run / "vdl").iterdir())))
    curves = set(reader.get_tags()["scalar"])
    assert {f"train/{name}" for name in LOSSES} <= curves and "eval/mask_ap50" in curves
    shown = reader.get_data("image", "eval/sample_0")
    assert len(shown) == 2 and len(reader.get_data("image", "eval/sample_1")) == 2
