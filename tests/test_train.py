"""The journey of a run: train, evaluate, look, infer, export, refuse what is wrong."""

import json
import re
import statistics

import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT, run_tool
from PIL import Image
from visualdl import LogReader

from data import DATASETS
from engine.build import build_model
from engine.config import load_config
from engine.run.checkpoint import read_weights
from engine.run.result import read_metrics
from engine.sweep.definition import load_sweep


def test_a_run_leaves_all_its_records(trained):
    names = {path.name for path in trained.iterdir()}
    for stem in ("latest", "best", "epoch_2", "epoch_3"):
        assert {f"{stem}.pdparams", f"{stem}.pdopt", f"{stem}.pdstates"} <= names
    assert "epoch_1.pdparams" not in names  # rotated away
    assert not [name for name in names if name.endswith((".new", ".part"))]
    config = load_config(trained / "config.yaml")
    assert config.schedule.epochs == 3 and config.model.depth == 18
    environment = json.loads((trained / "env.json").read_text())
    assert environment["paddle"] == paddle.__version__ and environment["command"][0] == "train.py"


def test_metrics_and_result_agree(trained):
    evaluations = read_metrics(trained, "eval")
    errors = [record["top1_error"] for record in evaluations]
    assert [record["epoch"] for record in evaluations] == [1, 2, 3] and [r["step"] for r in evaluations] == [6, 12, 18]
    result = json.loads((trained / "result.json").read_text())
    assert result["top1_error_median_last_5"] == statistics.median(errors)
    assert result["top1_error_best"] == min(errors) == errors[result["best_epoch"] - 1]
    assert result["images_per_step"] == 8 and result["lr"] == 0.1
    windows = read_metrics(trained, "train")
    assert [record["step"] for record in windows] == list(range(2, 19, 2))
    assert windows[0]["lr"] == pytest.approx(0.1 * (1 + np.cos(np.pi / 18)) / 2)  # of step 1, the window's last
    assert all(record["gradient_norm"] > 0 and record["parameter_norm"] > 0 for record in windows)
    for record in read_metrics(trained, "epoch"):
        inside = [window["loss"] for window in windows if window["epoch"] == record["epoch"]]
        assert record["loss"] == pytest.approx(statistics.mean(inside))


def test_it_learns(trained):
    losses = [record["loss"] for record in read_metrics(trained, "epoch")]
    assert losses[-1] < losses[0]


def test_log_lines_follow_the_convention(trained):
    log = (trained / "train.log").read_text()
    pattern = (
        r"\[Train\]\[Epoch 1/3\]\[Iter: 6/6\] lr: [\d.e-]+, loss: [\d.]+, top1_error: [\d.]+, batch_cost: [\d.]+s, "
        r"reader_cost: [\d.]+s, ips: [\d.]+ images/s, eta: \d+:\d\d:\d\d"
    )
    assert re.search(pattern, log)
    assert re.search(r"\[Eval\]\[Epoch 3\] loss: [\d.]+, top1_error: [\d.]+", log)


def test_visualdl_has_the_curves_pictures_histograms_and_values(trained):
    (file,) = (trained / "vdl").iterdir()
    reader = LogReader(file_path=str(file))
    tags = reader.get_tags()
    scalars = {
        "train/loss", "train/top1_error", "train/lr", "train/gradient_norm", "train/parameter_norm",
        "train/images_per_second", "epoch/loss", "epoch/top1_error", "eval/loss", "eval/top1_error",
    }
    assert scalars <= set(tags["scalar"])
    curve = reader.get_data("scalar", "eval/top1_error")
    assert [point.id for point in curve] == [1, 2, 3]  # epochs
    assert [point.value for point in curve] == pytest.approx([r["top1_error"] for r in read_metrics(trained, "eval")])
    assert {"eval/sample_0", "eval/sample_1"} <= set(tags["image"])
    assert "weights/fc.weight" in tags["histogram"]
    (point,) = reader.get_data("hyper_parameters", tags["hyper_parameters"][0])
    values = {info.name: info for info in point.hparam.hparamInfos}
    assert values["model/norm"].string_value == "gn" and values["batch/images_per_worker"].int_value == 2
    assert not [name for name in values if "." in name]  # which the dashboard's table shows as an empty cell


def test_eval_repeats_the_best_evaluation(trained):
    done = run_tool("eval.py", "-c", trained / "config.yaml", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    best = min(read_metrics(trained, "eval"), key=lambda record: record["top1_error"])
    assert printed["images"] == 12 and printed["top1_error"] == best["top1_error"]
    assert printed["loss"] == pytest.approx(best["loss"], rel=1e-6)


def test_infer_names_pictures_and_agrees_with_the_model(trained, tmp_path):
    _, validation = DATASETS["synthetic"](3, 48, 12, 12, 1)
    for index in range(3):
        Image.fromarray(validation.images[index, 0]).save(tmp_path / f"{index}.png")
    done = run_tool("infer.py", "-c", trained / "config.yaml", tmp_path, "--json", "--top", 2)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)
    assert [len(prediction["top"]) for prediction in predictions] == [2, 2, 2]
    model = build_model(load_config(trained / "config.yaml"), validation)
    model.set_state_dict(read_weights(trained / "best"))
    model.eval()
    batch = validation.batch(np.arange(3), seed=0, epoch=0)
    expected = paddle.nn.functional.softmax(model({"image": paddle.to_tensor(batch["image"])})).numpy()
    for row, prediction in zip(expected, predictions, strict=True):
        assert prediction["top"][0]["class"] == validation.classes[int(row.argmax())]
        assert prediction["top"][0]["probability"] == pytest.approx(row.max(), abs=1e-5)
    text = run_tool("infer.py", "-c", trained / "config.yaml", tmp_path / "1.png").stdout
    assert text.startswith(f"{tmp_path / '1.png'}: ") and "%" in text


def test_exported_model_gives_the_same_and_needs_no_project(trained, tmp_path):
    done = run_tool("export_model.py", "-c", trained / "config.yaml", "--save-dir", tmp_path / "export")
    assert done.returncode == 0, done.stderr
    loaded = paddle.jit.load(str(tmp_path / "export" / "inference"))
    model = build_model(load_config(trained / "config.yaml"), DATASETS["synthetic"](3, 48, 12, 12, 1)[0])
    model.set_state_dict(read_weights(trained / "best"))
    model.eval()
    image = paddle.randn([5, 1, 12, 12])
    expected = paddle.nn.functional.softmax(model({"image": image}))
    assert float((loaded(image) - expected).abs().max()) < 1e-5
    preparation = json.loads((tmp_path / "export" / "preparation.json").read_text())
    assert preparation["image_shape"] == [1, 12, 12] and len(preparation["classes"]) == 3


def test_fine_tuning_reports_what_fitted(trained, tiny):
    done = run_tool(
        "train.py", "-c", tiny, "-o", f"pretrained={trained / 'best.pdparams'}", "data.classes=2", "schedule.epochs=1",
        "model.deformable_stages=[c5]",
    )
    assert done.returncode == 0, done.stderr
    assert "matched" in done.stdout and "fc.bias [3] for [2]" in done.stdout and "offset" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.base_lrr=1"], "-o optimizer.base_lrr=1: optimizer.base_lrr: unknown key; did you mean base_lr?"),
        (["model.norm_groups=5"], "model: group norm: 5 groups do not divide 8 channels"),
        (["batch.workers=100"], "200 images per step, but the set has 48"),
        (["batch.workers_per_pass=3"], "batch.workers_per_pass: 3 does not divide a device's 4 workers"),
        (["data={name: fashion_mnist, root: /nowhere}"], "/nowhere: no such folder"),
        (["data={name: image_folder, root: /nowhere}"], "/nowhere: no such folder"),
        (["pretrained=/nowhere.pdparams"], "/nowhere.pdparams: no such file"),
        (["amp.level=O1"], "amp.level: O1 needs a GPU"),
        (["output=/proc/nothing"], "/proc/nothing/tiny: cannot be written"),
        (["model.width=0"], "model: width: 0, expected 1 or more"),
        (["schedule.warmup_epochs=3"], "schedule.warmup_epochs: 3.0, more than the 2 epochs"),
        (["device=gpu"], "device: gpu was asked for, but Paddle sees none"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tiny, tmp_path, run_here, overrides, words):
    done = run_here("train.py", "-c", tiny, "-o", *overrides)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0], done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "output").exists()


def test_bad_input_of_the_other_commands(trained, tmp_path, run_here):
    config = ["-c", trained / "config.yaml"]
    (tmp_path / "file").write_text("no picture")
    (tmp_path / "empty").mkdir()
    for tool, arguments, words in (
        ("eval.py", [*config, "-w", "epoch_77"], f"{trained / 'epoch_77'}.pdparams: no such file"),
        ("eval.py", [*config, "-o", "data.image_size=16"], "normalisation than the model was trained with"),
        ("eval.py", [*config, "-o", "model.width=4"], "does not fit this config's model"),
        ("eval.py", ["-c", "configs/quickstart.yaml", "-o", f"output={tmp_path}"], "preparation.json: no such file"),
        ("infer.py", [*config, tmp_path / "empty"], "no pictures in this folder"),
        ("infer.py", [*config, tmp_path / "nothing.png"], "no such picture or folder"),
        ("infer.py", [*config, tmp_path / "file", "--top", "0"], "--top 0: expected 1 or more"),
        ("export_model.py", [*config, "--save-dir", tmp_path / "file" / "x"], "cannot be written"),
    ):
        done = run_here(tool, *arguments)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 2 and len(errors) == 1 and words in errors[0], (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_run_is_never_overwritten(trained):
    before = {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    same = ["-c", trained / "config.yaml"]
    refused = run_tool("train.py", *same)
    assert refused.returncode == 2 and "already holds a run; continue it with -r auto" in refused.stderr
    other = run_tool("train.py", *same, "-r", "auto", "-o", "model.norm=bn")
    assert other.returncode == 2 and "its run has model.norm: gn, this config bn" in other.stderr
    assert {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


def test_resuming_a_checkpoint_of_another_architecture_leaves_nothing(trained, tiny, tmp_path):
    done = run_tool("train.py", "-c", tiny, "-r", trained / "best", "-o", "model.width=12")
    assert done.returncode == 2 and "of another architecture" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "output").exists()


def test_diverging_stops_with_the_step(tiny):
    done = run_tool("train.py", "-c", tiny, "-o", "optimizer.base_lr=1e30")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: the loss is nan at step" in done.stderr or "error: the loss is inf at step" in done.stderr


def test_expectation_is_checked_when_asked(tiny):
    for bound, check, status in ((0.0, ["--check"], 1), (0.0, [], 0), (1.0, ["--check"], 0)):
        done = run_tool(
            "train.py", "-c", tiny, *check, "-o", f"expect.top1_error_below={bound}", "schedule.epochs=1",
            f"name=expect_{bound}_{len(check)}",
        )
        assert done.returncode == status, done.stderr


def test_every_config_of_the_project_is_valid():
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert paths
    for path in paths:
        root = next((name for name in ("imagenet", "kinetics") if name in str(path)), None)
        overrides = [f"data.root=/data/{root}"] if root else []
        sweep = path.parent.name == "sweeps"
        configs = [run.config for run in load_sweep(path, overrides).runs] if sweep else [load_config(path, overrides)]
        assert all(yaml.safe_load(config.to_yaml()) for config in configs)
        header = "".join(line for line in path.read_text().splitlines() if line.startswith("#"))
        tool = "tools/sweep.py" if sweep else "tools/train.py"
        assert f"{tool} -c {path.relative_to(ROOT)}" in header, f"{path}: the header lacks its command"
