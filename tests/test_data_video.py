"""Clips of videos: the right frames by their time stamps, one crop for all, views, one line for what is broken."""

import json

import numpy as np
import pytest
from PIL import Image
from video_files import HEIGHT, VARIABLE, WIDTH, damaged, make_video, number_of, numbered

from data import DATASETS, ClipPreparation, DataError, Dataset, Loader, film_strip
from data.check import duplicates, survey
from data.video.sampling import Timeline
from data.video.stills import open_stills
from data.video.views import open_source, timeline, views_of
from data.video_folder import ClipAugmentation


def stills(folder, numbers=range(1, 31), name="img_{:05}.jpg", shift=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(numbered(number, shift)).save(folder / name.format(number), quality=95)
    return folder


def preparation(frames=4, size=64, **settings):
    return ClipPreparation(("a", "b"), (3, frames, size, size), (0.45,) * 3, (0.225,) * 3, 80, **settings)


# Which frames.


def test_frames_are_the_nearest_to_the_wanted_times():
    even = Timeline(np.arange(30) / 30, 1.0, 4, 2 / 30)
    assert even.clip(0.0).tolist() == [0, 2, 4, 6] and even.span == pytest.approx(8 / 30)
    assert even.clip(0.05).tolist() == [1, 3, 5, 7]  # 0.05 lies in the middle of two frames: the earlier one
    assert even.clip(0.051).tolist() == [2, 4, 6, 8]
    assert even.clip(0.951).tolist() == [29, 1, 3, 5]
    uneven = Timeline(np.array([0, 0.1, 0.2, 0.7, 0.8]), 1.0, 5, 0.2)
    assert uneven.clip(0.0).tolist() == [0, 2, 2, 3, 4]
    assert Timeline(np.zeros(1), 0.04, 3, 0.1).clip(0.0).tolist() == [0, 0, 0]


def test_a_clip_longer_than_its_video_begins_anew():
    assert Timeline(np.arange(5.0), 5.0, 8, 1.0).clip(3).tolist() == [3, 4, 0, 1, 2, 3, 4, 0]
    for frames in (7, 14):  # of which sums of thirtieths come to the end a rounding too early
        times = 512 * np.arange(frames) / 15360
        line = Timeline(times, float(times[-1]) + 512 / 15360, 64, 1 / 30)
        assert line.clip(0.0).tolist() == [number % frames for number in range(64)]


def test_starts():
    line = Timeline(np.arange(300) / 30, 10.0, 32, 2 / 30)
    room = 10 - 64 / 30
    assert line.starts(1) == [room / 2] and line.starts(3) == pytest.approx([0, room / 2, room])
    drawn = [line.random_start(np.random.default_rng(seed)) for seed in range(200)]
    assert 0 <= min(drawn) < 0.05 * room and 0.95 * room < max(drawn) <= room
    short = Timeline(np.arange(5) / 30, 5 / 30, 32, 2 / 30)
    assert short.starts(2) == [0, 0] and short.random_start(np.random.default_rng(0)) == 0


# Videos as folders of pictures, which need no decoder.


@pytest.mark.parametrize(
    "name, first", [("img_{:05}.jpg", 1), ("img_{:05}.jpg", 0), ("{}.png", 7), ("frame{}.jpg", 98)]
)
def test_pictures_are_ordered_by_their_numbers_from_any_on(tmp_path, name, first):
    video = open_stills(stills(tmp_path / "v", range(first, first + 5), name), 5)
    assert [number_of(picture) for picture in video.pictures([4, 0, 0, 2])] == [first + 4, first, first, first + 2]
    line = timeline(video, preparation(stride=2, fps=30.0))
    assert (line.length, line.step, line.span) == (5, 2, 8)  # pictures count as frames, whatever fps says


def test_pictures_of_optical_flow_beside_the_frames_are_left_alone(tmp_path):
    folder = stills(tmp_path / "v", range(1, 4))
    stills(folder, range(1, 4), "flow_x_{:05}.jpg")
    (folder / "notes.txt").write_text("x")
    assert [number_of(picture) for picture in open_stills(folder).pictures([0, 2])] == [1, 3]


def broken_stills(tmp_path):
    yield "no frames in this folder", stills(tmp_path / "none", ()), None
    yield "frames 1 to 6, but 2 of them missing: 3, 5", stills(tmp_path / "holes", (1, 2, 4, 6)), None
    yield "the list says 9 frames, found 8, 0 to 7", stills(tmp_path / "0-based", range(8)), 9
    yield "the list says 5 frames, found 8, 1 to 8", stills(tmp_path / "more", range(1, 9)), 5
    several = stills(tmp_path / "several", range(1, 3), "left{}.jpg")
    yield "frames of several series (left, right)", stills(several, range(1, 3), "right{}.jpg"), None
    odd = stills(tmp_path / "odd", range(1, 3))
    Image.new("RGB", (20, 20)).save(odd / "img_00003.jpg")
    yield "has frames of 20 x 20 and of 96 x 80 pixels", odd, None
    damaged = stills(tmp_path / "damaged", range(1, 4))
    (damaged / "img_00002.jpg").write_bytes((damaged / "img_00002.jpg").read_bytes()[:300])
    yield "img_00002.jpg: cannot be read as an image", damaged, None
    far = stills(tmp_path / "far", (1, 2))
    stills(far, (99999999,))
    yield "99999996 of them missing: 3, 4, 5, 6, 7, …", far, None
    twice = stills(stills(tmp_path / "twice", range(1, 4)), range(2, 3), "img_{:05}.png")
    yield "img_00002.jpg and img_00002.png have one number", twice, None
    yield "No such file or directory", tmp_path / "nowhere", None


def test_broken_pictures_are_told_in_a_line_that_names_them(tmp_path):
    for complaint, folder, frames in broken_stills(tmp_path):
        with pytest.raises(DataError) as error:
            video = open_stills(folder, frames)
            for number in range(len(video.times)):
                video.pictures([0, number])
        said = str(error.value)
        assert complaint in said and str(folder) in said and "\n" not in said, said


# From frames to clips.


def test_one_crop_scale_and_flip_for_all_frames():
    """Frames whose red grows with x and green with y: where a crop lies can be read from its corners."""
    x, y = np.meshgrid(np.linspace(0, 200, 100), np.linspace(0, 160, 80))
    frames = [Image.fromarray(np.stack([x, y, np.full_like(x, 40 * t)], axis=2).astype(np.uint8)) for t in range(4)]
    ready = preparation(size=32)
    augmentation = ClipAugmentation(32, (40, 60), flip=True)
    seen = set()
    for seed in range(20):
        crop = augmentation.crop(np.random.default_rng(seed), frames[0].size)
        shown = ready.frames_shown(ready.cropped(frames, crop)).astype(float)
        assert (shown[:, :, :, :2] == shown[:1, :, :, :2]).all()  # the same place in all frames
        np.testing.assert_allclose(shown[:, 9, 9, 2], [0, 40, 80, 120], atol=1)
        assert 80 * 32 / 60 <= crop.side <= 80 * 32 / 40
        assert crop.left + crop.side <= 100.001 and crop.top + crop.side <= 80.001
        left, right = shown[0, 16, [1, -2], 0]
        assert (left > right) == crop.mirrored
        step = 200 / 99
        low, high = sorted((left, right))
        np.testing.assert_allclose([low, high], [step * crop.left, step * (crop.left + crop.side)], atol=8)
        seen.add(crop.mirrored)
    assert seen == {True, False}


def test_views_are_clips_times_crops_along_the_long_side(tmp_path):
    video = open_stills(stills(tmp_path / "v", range(30)))
    ready = preparation(frames=4, size=80, stride=2)
    views = list(views_of(video, ready, 3, 3))
    assert [(view.start, view.crop) for view in views] == [(s, c) for s in (0, 11, 22) for c in (0, 1, 2)]
    single = list(views_of(video, ready))
    assert len(single) == 1 and single[0].start == 11
    np.testing.assert_array_equal(single[0].clip, views[4].clip)
    left, middle, right = (ready.frames_shown(view.clip)[0] for view in views[:3])
    np.testing.assert_allclose(left[:, 16:].astype(int), right[:, :64].astype(int), atol=2)  # 96 wide: 16 apart
    np.testing.assert_allclose(left[:, 8:].astype(int), middle[:, :72].astype(int), atol=2)
    assert number_of(Image.fromarray(ready.frames_shown(views[3].clip)[1])) == 13


def test_a_film_strip_shows_frames_from_the_first_to_the_last():
    frames = [np.full((4, 6, 3), number, np.uint8) for number in range(16)]
    strip = film_strip(frames, most=4)
    assert strip.shape == (4, 4 * 6 + 3 * 2, 3) and strip[0, ::8, 0].tolist() == [0, 5, 10, 15]
    assert film_strip(frames[:1]).shape == (4, 6, 3)


# The data set.


@pytest.fixture
def folder(tmp_path):
    for part, videos in (("train", 3), ("val", 2)):
        for shift, name in enumerate(("left", "right")):
            for number in range(videos):
                unlike = 20 * shift + 3 * number + (part == "val")
                stills(tmp_path / part / name / f"v{number}", range(12), shift=unlike)
    return tmp_path


SMALL = {"frames": 4, "stride": 2, "image_size": 24, "short_side": (28, 40), "resize_short": 32}


def sets(folder, **settings):
    return DATASETS["video_folder"](root=str(folder), **{**SMALL, **settings})


def test_the_contract_of_a_set(folder):
    train, validation = sets(folder, test_size=32, test_clips=2, test_crops=3)
    assert train.image_shape == (3, 4, 24, 24) and validation.image_shape == (3, 4, 32, 32)
    assert train.preparation == validation.preparation and train.preparation.image_shape == (3, 4, 32, 32)
    for dataset, shape in ((train, (3, 4, 24, 24)), (validation, (6, 3, 4, 32, 32))):
        assert isinstance(dataset, Dataset) and dataset.classes == ("left", "right")
        two, none = (dataset.batch(np.arange(count), seed=0, epoch=0) for count in (2, 0))
        assert two["clip"].shape == (2, *shape) and two["clip"].dtype == np.float32
        assert sum(values.nbytes for values in two.values()) == 2 * dataset.sample_bytes
        assert none["clip"].shape == (0, *shape) and none["label"].dtype == np.int64
        assert dataset.stored_picture(1).size == (WIDTH, HEIGHT)
    assert sets(folder)[0].digest() == train.digest() != validation.digest()


def test_a_clip_depends_on_seed_epoch_and_index_alone(folder):
    train, validation = sets(folder)
    batch = train.batch([1, 4], seed=3, epoch=5)
    again = sets(folder)[0].batch([4, 1], seed=3, epoch=5)
    np.testing.assert_array_equal(batch["clip"], again["clip"][::-1])
    others = [train.batch([1, 4], seed=seed, epoch=epoch)["clip"] for seed, epoch in ((3, 6), (4, 5))]
    assert all((other != batch["clip"]).any() for other in others)
    fixed = [validation.batch([0], seed=seed, epoch=seed)["clip"] for seed in (0, 1)]
    np.testing.assert_array_equal(*fixed)
    loaders = (Loader(train, 3, seed=3, train=True, processes=processes) for processes in (0, 2))
    plain, with_processes = ([batch["clip"] for batch in loader.epoch(1)] for loader in loaders)
    np.testing.assert_array_equal(np.stack(plain), np.stack(with_processes))


def test_a_broken_video_stops_or_in_training_alone_is_skipped_and_counted(folder, caplog):
    for part in ("train", "val"):
        (folder / part / "left" / "v1" / "img_00005.jpg").unlink()
    train, _ = sets(folder)
    with pytest.raises(DataError, match="train/left/v1: frames 0 to 11, but 1 of them missing: 5"):
        train.batch([0, 1], seed=0, epoch=0)
    train, validation = sets(folder, on_corrupt_video="skip")
    batch = train.batch([0, 1], seed=0, epoch=0)
    assert batch["label"].tolist() == [0, 0] and train.skipped == 1 and "skipped" in caplog.text
    np.testing.assert_array_equal(train.batch([1], seed=0, epoch=0)["clip"], batch["clip"][1:])
    with pytest.raises(DataError, match="val/left/v1"):
        validation.batch([1], seed=0, epoch=0)
    for number in (0, 2):
        (folder / "train" / "left" / f"v{number}" / "img_00005.jpg").unlink()
        (folder / "train" / "right" / f"v{number}" / "img_00005.jpg").unlink()
    (folder / "train" / "right" / "v1" / "img_00005.jpg").unlink()
    with pytest.raises(DataError, match="none of the 6 training videos can"):
        sets(folder, on_corrupt_video="skip")[0].batch([1], seed=0, epoch=0)


def test_check_sees_broken_doubled_and_short_videos(folder):
    stills(folder / "train" / "left" / "v2", range(12), shift=3)  # which v1 is too
    (folder / "train" / "right" / "v0" / "img_00000.jpg").write_bytes(b"\xff\xd8\xff")
    for number in range(3, 12):
        (folder / "train" / "right" / "v1" / f"img_{number:05}.jpg").unlink()
    train, validation = sets(folder)
    seen = survey(train), survey(validation)
    assert [index for index, _ in seen[0].broken] == [3] and "img_00000.jpg" in seen[0].broken[0][1]
    assert duplicates(seen) == [[(0, 1), (0, 2)]]
    assert seen[0].facts[4].clips == 3 / 8 and seen[0].facts[5].clips == 12 / 8
    assert seen[0].sizes[0].tolist() == [WIDTH, HEIGHT] and seen[0].modes == {"pictures": 5}


def test_check_sees_what_training_would_stop_for(folder):
    """A frame of another size, among the eight that are looked at or not; more pixels at once than are allowed."""
    Image.fromarray(numbered(3)[:40]).save(folder / "train" / "left" / "v0" / "img_00003.jpg")
    ((index, said),) = survey(sets(folder)[0]).broken
    assert index == 0 and "has frames of 96 x 40 and of 96 x 80 pixels" in said
    broken = survey(sets(folder, max_pixels=4 * WIDTH * HEIGHT - 1)[0]).broken
    assert len(broken) == 6 and all("4 frames of 96 x 80 pixels at once" in said for _, said in broken)
    assert len(survey(sets(folder, max_pixels=4 * WIDTH * HEIGHT)[0]).broken) == 1


def second_half_of_packet(number, path):
    """Where it lies in the file; the lengths in front of it stay, so that the decoder cannot but notice."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as video:
        packet = [packet for packet in video.demux(video=0) if packet.size][number]
        return slice(packet.pos + packet.size // 2, packet.pos + packet.size)


def test_check_sees_what_is_wrong_inside_a_file(tmp_path):
    for part in ("train", "val"):
        for name in ("left", "right"):
            (tmp_path / part / name).mkdir(parents=True)
            make_video(tmp_path / part / name / "a.mp4", shift=9 * (part == "val") + 20 * (name == "left"))
    long = make_video(
        tmp_path / "train" / "left" / "b.mp4", frames=120, container={"movflags": "faststart"}, options={"g": "12"}
    )
    damaged(long, keep=long.stat().st_size * 2 // 3)
    make_video(tmp_path / "train" / "right" / "b.mp4", stamps=VARIABLE)
    zeroed = make_video(tmp_path / "train" / "right" / "c.mp4", grain=100)
    damaged(zeroed, zeros=second_half_of_packet(15, zeroed))
    train, _ = sets(tmp_path)
    facts = survey(train).facts
    assert [facts[index].frames < facts[index].promised for index in range(5)] == [False, True, False, False, False]
    assert [facts[index].is_even for index in (0, 3)] == [True, False]
    assert facts[4].damaged and not facts[0].damaged
    broken = survey(sets(tmp_path, max_pixels=4 * WIDTH * HEIGHT - 1)[0]).broken
    assert len(broken) == 5 and all("4 frames of 96 x 80 pixels at once" in said for _, said in broken)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"frames": 0}, "frames is 0, wanted 1 or more"), ({"stride": 0}, "stride is 0, wanted 1 or more"),
        ({"fps": 0.0}, "fps is 0.0, wanted more than 0, or null"),
        ({"short_side": (20, 30)}, r"short_side is \[20, 30\], wanted image_size \(24\) or more"),
        ({"short_side": (40, 30)}, "the smaller one first"),
        ({"test_size": 40}, r"resize_short is 32, wanted test_size \(40\) or more"),
        ({"test_size": 0}, "test_size is 0, wanted 1 or more pixels"),
        ({"test_clips": 0}, "test_clips is 0, wanted 1 or more"),
        ({"validation_share": 1.0}, "validation_share is 1.0, wanted a share between 0 and 1"),
    ],
)
def test_bad_settings_are_one_clear_line(folder, setting, complaint):
    with pytest.raises(DataError, match=f"^video_folder: .*{complaint}"):
        sets(folder, **setting)


def test_a_video_of_either_kind_is_opened_by_what_it_is(tmp_path):
    stills(tmp_path / "x.mp4", range(3))  # PaddleVideo's folders of pictures are called so
    with open_source(str(tmp_path / "x.mp4"), 3) as video:
        assert len(video.times) == 3
    assert json.dumps([float(value) for value in video.times])
