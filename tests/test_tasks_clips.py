"""Clips through every tool, as images go: trained, resumed, evaluated, asked, exported, looked at."""

import json
import re
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import is_one_line, train_here
from PIL import Image

from data import DATASETS, ClipPreparation, DataError
from engine.build import build_data, build_labelled, build_loaders, build_model, check_model, load_pretrained
from engine.check_data.samples import of_clips, write_data_sheet
from engine.config import load_config
from engine.errors import InputError
from engine.run import checkpoint
from engine.run.checkpoint import read_weights
from engine.run.folder import read_preparation, write_preparation
from engine.tasks import task_of
from engine.tasks.classification import SIDE
from engine.tasks.export import export
from models import Classifier, ClipClassifier, i3d, resnet

CONFIG = """
device: cpu
model: {name: i3d, depth: 18, width: 4, stem: small, stem_frames: 3, stem_time_stride: 1, norm: NORM, norm_groups: 2}
data: {name: garment_clips, train_clips: 24, validation_clips: 10, frames: 4, image_size: 16}
batch: {images_per_worker: 2, workers: 4}
optimizer: {base_lr: 0.05, reference_images_per_step: 8}
schedule: {name: cosine, epochs: 2}
reading: {evaluation_images: 4, processes: 0}
record: {every_steps: 1, sample_images: 2, histograms: false}
bn_precise_images: 8
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "clips.yaml"
    path.write_text(CONFIG.replace("NORM", "gn") + f"output: {tmp_path / 'output'}\n")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, to be read only."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "clips.yaml").write_text(CONFIG.replace("NORM", "gn") + f"output: {folder}\n")
    train_here("-c", folder / "clips.yaml")
    return folder / "clips"


def frames_of(dataset, index):
    return [Image.fromarray(frame) for frame in dataset.pixels(index, seed=0, epoch=0).transpose(0, 2, 3, 1)]


def as_pictures(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        frame.save(folder / f"img_{number:05}.png")
    return folder


@pytest.fixture(scope="module")
def videos(run, tmp_path_factory):
    """FOLDER/CLASS/VIDEO/img_00001.png of the validation clips of the run, and one that is broken beside them."""
    folder = tmp_path_factory.mktemp("videos")
    _, validation = build_data(load_config(run / "config.yaml"))
    for index, label in enumerate(validation.labels):
        as_pictures(folder / validation.classes[label] / f"v{index}", frames_of(validation, index))
    return folder


def test_a_run_leaves_what_a_run_of_images_leaves(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "eval"] == [1, 2]
    result = json.loads((run / "result.json").read_text())
    assert result["images_per_worker"] == 2 and result["multiply_adds"] > 0 and 0 <= result["top1_error_last"] <= 1
    preparation = read_preparation(run)
    assert isinstance(preparation, ClipPreparation) and preparation.image_shape == (3, 4, 16, 16)
    assert b"eval/sample_1" in next((run / "vdl").iterdir()).read_bytes()


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_it_goes_on_to_the_same_bits(config, tmp_path, norm):
    options = ["schedule.name=step", f"model.norm={norm}", "model.bn_running_statistics=precise"]
    train_here("-c", config, "-o", "name=whole", *options)
    train_here("-c", config, "-o", "name=cut", "schedule.epochs=1", *options)
    train_here("-c", config, "-o", "name=cut", *options, "-r", "auto")
    whole, cut = (tmp_path / "output" / name for name in ("whole", "cut"))
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
    one, other = (read_weights(each / "latest") for each in (whole, cut))
    assert all((one[name] == other[name]).all() for name in {**one, **other})


def test_it_is_evaluated_on_its_own_and_on_other_videos(run, videos, run_here, tmp_path):
    own = json.loads(run_here("eval.py", "-c", run / "config.yaml", "--json").stdout)
    assert own["images"] == 10 and len(own["classes"]) == 10
    done = run_here("eval.py", "-c", run / "config.yaml", "--data", videos, "--json")
    other = json.loads(done.stdout)
    assert other["top1_error"] == own["top1_error"] and other["loss"] == pytest.approx(own["loss"], rel=1e-5)
    (tmp_path / "list.txt").write_text("".join(f"{video} 4 {label}\n" for label, video in labelled(videos)))
    done = run_here("eval.py", "-c", run / "config.yaml", "--data", tmp_path / "list.txt", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["loss"] == pytest.approx(own["loss"], rel=1e-5), done.stderr
    done = run_here("eval.py", "-c", run / "config.yaml", "--data", videos, "--views", "3x1", "--json")
    assert json.loads(done.stdout)["loss"] == pytest.approx(own["loss"], rel=1e-5)  # four frames are one clip
    done = run_here("eval.py", "-c", run / "config.yaml", "--views", "3x1")
    assert done.returncode == 2 and "data.name garment_clips has no such setting" in done.stderr
    done = run_here("eval.py", "-c", run / "config.yaml", "-o", "data.frames=8")
    assert done.returncode == 2 and "data: other classes, image size, frames, stride, fps or normal" in done.stderr
    assert "--data FOLDER takes videos" in done.stderr
    for views in ("10", "0x1", "3x2", "x", "1x1x1"):
        done = run_here("eval.py", "-c", run / "config.yaml", "--views", views)
        assert done.returncode == 2 and is_one_line(done.stderr) and "expected clips x crops" in done.stderr


def test_paths_of_a_list_begin_where_the_run_s_do(run, videos, tmp_path):
    data = f"{{name: video_folder, root: {tmp_path}, frames: 4, stride: 1, validation_videos: videos_val}}"
    config, preparation = load_config(run / "config.yaml", [f"data={data}"]), read_preparation(run)
    (tmp_path / "videos_val").symlink_to(videos)
    place = videos.parent
    label, video = labelled(videos)[0]
    (tmp_path / "val.list").write_text(f"{video.relative_to(videos)} {label}\n")
    dataset = build_labelled(config, preparation, str(tmp_path / "val.list"))
    assert dataset.path(0) == str(tmp_path / "videos_val" / video.relative_to(videos))
    assert dataset.batch([0], seed=0, epoch=0)["label"].tolist() == [label]
    (place / "other.list").write_text(f"{video.relative_to(videos)} {label}\n")
    advice = "data.validation_videos names the folder below the list's own that its paths begin at"
    with pytest.raises(DataError, match=rf"other.list, line 1: no such video: .*/videos_val/.*; {advice}"):
        build_labelled(config, preparation, str(place / "other.list"))


def labelled(videos):
    names = list(DATASETS["garment_clips"](train_clips=10, validation_clips=10)[0].classes)
    return sorted((names.index(video.parent.name), video) for video in videos.glob("*/*"))


def test_it_names_what_videos_show_and_their_clips(run, videos, run_here, tmp_path):
    long = as_pictures(tmp_path / "long", [frame for _, video in labelled(videos)[:3] for frame in map(
        Image.open, sorted(video.glob("*.png"))
    )])
    broken = as_pictures(tmp_path / "broken", [Image.new("RGB", (16, 16))] * 3)
    (broken / "img_00002.png").unlink()
    done = run_here("infer.py", "-c", run / "config.yaml", long, broken, "--views", "3x1", "--json", "--top", "10")
    assert done.returncode == 1 and "broken: frames 1 to 3, but 1 of them missing: 2" in done.stderr
    assert done.stderr.startswith("error: 1 of 2 videos cannot be read:")
    good, bad = json.loads(done.stdout)
    assert [clip["start"] for clip in good["clips"]] == [0, 4, 8] and "error" in bad
    for guess in good["top"]:
        shares = [
            each["probability"] for clip in good["clips"] for each in clip["top"] if each["class"] == guess["class"]
        ]
        assert guess["probability"] == pytest.approx(np.mean(shares), rel=1e-4)
    done = run_here("infer.py", "-c", run / "config.yaml", videos)
    assert done.returncode == 0 and len(re.findall(r"/v\d+: \w.*\d %", done.stdout)) == 10
    for path, complaint in ((tmp_path / "nowhere", "no such video"), (tmp_path / "empty", "no videos in this folder")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        done = run_here("infer.py", "-c", run / "config.yaml", path)
        assert done.returncode == 2 and complaint in done.stderr and is_one_line(done.stderr)


def test_a_clip_s_answer_is_not_drawn_which_is_said_before_any_work(run, videos, run_here, tmp_path):
    done = run_here("infer.py", "-c", run / "config.yaml", videos, "--draw", tmp_path / "drawn", "-w", "nowhere")
    assert done.returncode == 2 and is_one_line(done.stderr) and not (tmp_path / "drawn").exists()
    assert "--draw: a class is of the whole video, there is nothing to draw" in done.stderr


def test_check_data_looks_at_composed_clips_and_at_videos(config, videos, run_here, tmp_path):
    done = run_here("check_data.py", "-c", config, "--output", tmp_path / "composed")
    assert done.returncode == 0 and "24 training videos" in done.stdout and "2 right" in done.stdout
    assert (tmp_path / "composed" / "samples.png").exists()
    for name in ("v0", "v1", "v2"):
        as_pictures(tmp_path / "set" / "a" / name, [Image.new("RGB", (20, 16), (9 * int(name[1]), 40, 0))] * 3)
        as_pictures(tmp_path / "set" / "b" / name, [Image.new("RGB", (20, 16), (200, 9 * int(name[1]), 0))] * 9)
    as_pictures(tmp_path / "set" / "b" / "v3", [Image.new("RGB", (20, 16), (200, 0, 0))] * 9)
    (tmp_path / "set" / "a" / "v1" / "img_00002.png").unlink()
    data = f"{{name: video_folder, root: {tmp_path / 'set'}, frames: 4, stride: 1, image_size: 16, "
    data += "short_side: [16, 16], resize_short: 16}"
    done = run_here("check_data.py", "-c", config, "-o", f"data={data}", "--output", tmp_path / "found", "--json")
    report = json.loads(done.stdout)
    found = {finding["text"]: finding["items"] for finding in report["findings"]}
    assert done.returncode == 1
    assert [counts["training"] + counts["validation"] for counts in report["classes"]] == [3, 4]
    assert not any("picture" in text for text in found) and report["sample"] == "video"
    assert any("broken file" in text and "data.on_corrupt_video=skip" in text for text in found), found
    (short,) = (items for text, items in found.items() if "shorter than a clip" in text)
    assert len(short) == 2 and "3 frames, 75 % of a clip" in short[0]
    assert any(re.fullmatch(r"\d validation videos?: each one is .* of the error", text) for text in found), found
    assert any(re.search("more than once|in training and in validation", text) for text in found)
    assert report["sizes"]["smallest"] == [20, 16]


def test_a_clip_is_shown_as_a_row_of_frames_with_the_answer():
    clip = np.random.default_rng(0).normal(size=(3, 12, 20, 30)).astype("float32")
    samples = [(clip, 0, np.array([0.9, 0.1])), (np.stack([clip, clip]), 0, np.array([0.2, 0.8]))]
    right, wrong = task_of("i3d").pictures(samples, SimpleNamespace(classes=("left", "right"))).values()
    assert right.shape == wrong.shape and right.shape[0] == SIDE // 2 + 30 and right.shape[1] > 6 * SIDE // 2
    assert tuple(right[-1, -1]) == (255, 255, 255) != tuple(wrong[-1, -1])
    np.testing.assert_array_equal(right[: SIDE // 2], wrong[: SIDE // 2])
    assert len(np.unique(right[: SIDE // 2 : 4, :: 50].reshape(-1, 3), axis=0)) > 50


def test_a_sheet_of_clips_is_of_their_frames(tmp_path):
    train, _ = DATASETS["garment_clips"](train_clips=20, validation_clips=10, frames=3, image_size=16)
    path = write_data_sheet(train, np.arange(20), 0, tmp_path / "sheet.png", of_clips(train))
    with Image.open(path) as sheet:
        assert sheet.height > 2 * sheet.width  # three columns, eight rows


@pytest.mark.parametrize("norm", ["bn", "gn", "frozen_bn"])
def test_export(tmp_path, norm):
    model = ClipClassifier(i3d(depth=26, width=4, norm=norm, norm_groups=2, stem="small"), 3, pool_window=(1, 2, 2))
    preparation = ClipPreparation(("a", "b", "c"), (3, 6, 24, 32), (0.5,) * 3, (0.5,) * 3, 32, stride=2, fps=30.0)
    assert export(model, task_of("i3d"), preparation, tmp_path / "export") < 1e-5
    assert read_preparation(tmp_path / "export") == preparation


def test_a_preparation_of_clips_is_read_as_it_was_written(tmp_path):
    for fps in (None, 29.97):
        preparation = ClipPreparation(("a", "b"), (3, 8, 64, 64), (0.4,) * 3, (0.2,) * 3, None, stride=3, fps=fps)
        write_preparation(tmp_path, preparation)
        assert read_preparation(tmp_path) == preparation
    text = (tmp_path / "preparation.json").read_text()
    for wrong in ('"stride": 0', '"stride": "x"'):
        (tmp_path / "preparation.json").write_text(text.replace('"stride": 3', wrong))
        with pytest.raises(InputError, match="preparation.json: damaged"):
            read_preparation(tmp_path)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (["data={name: synthetic}"], "data: has samples of 3 x 32 x 32; .* wants clips of C x T x H x W"),
        (["model={name: resnet}"], "data: has samples of 3 x 4 x 16 x 16; .* wants images of C x H x W"),
        (["model.stem_time_stride=2", "data.frames=2"], "model: clips of 2 frames, expected 3 or more"),
        (["model.norm=frozen_bn"], "frozen_bn has no statistics of its own"),
        (["model.norm=in", "data.frames=2", "model.stem=medium"], "single values: images of 2 x 16 x 16 are"),
        (["model.width=3"], "model: group norm: 2 groups do not divide 3 channels"),
        (["model.dropout=1.5"], "dropout: 1.5"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_before_any_work(config, override, complaint):
    with pytest.raises(InputError, match=complaint) as error:
        loaded = load_config(config, override)
        train, validation = build_data(loaded)
        build_loaders(loaded, train, validation)
        check_model(loaded, build_model(loaded, train), train.image_shape)
    assert "\n" not in str(error.value)


def test_a_network_over_clips_starts_from_one_over_images(config, tmp_path):
    paddle.seed(5)
    of_images = Classifier(resnet(depth=18, width=4, stem="small", norm="gn", norm_groups=2), 10)
    checkpoint.save(tmp_path / "images", {".pdparams": of_images.state_dict(), ".pdopt": {}, ".pdstates": {}})
    loaded = load_config(config)
    model = build_model(loaded, build_data(loaded)[0])
    said = load_pretrained(model, load_config(config, [f"pretrained={tmp_path / 'images.pdparams'}"]))
    assert "2 missing (fc.bias, fc.weight)" in said and "another shape" not in said and "unexpected" not in said
    stem = of_images.backbone.stem.conv.weight.numpy() / 3
    np.testing.assert_allclose(model.backbone.stem.conv.weight[:, :, 1].numpy(), stem, rtol=1e-6)


def test_a_bad_video_in_evaluation_is_an_error(run, videos, run_here, tmp_path):
    as_pictures(tmp_path / "set" / "left" / "v0", [Image.new("RGB", (16, 16))] * 4)
    (tmp_path / "set" / "left" / "v0" / "img_00003.png").write_bytes(b"nothing")
    done = run_here("eval.py", "-c", run / "config.yaml", "--data", tmp_path / "set")
    assert done.returncode == 2 and "img_00003.png: cannot be read as an image" in done.stderr
    assert issubclass(DataError, ValueError)
