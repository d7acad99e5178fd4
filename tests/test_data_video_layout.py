"""Where videos lie: class folders, split or not, and the lists of MMAction and PaddleVideo, with their traps."""

from pathlib import Path

import pytest
from conftest import picture

from data import DataError
from data.video.layout import Wanted, find_videos, read_list, videos_below


def wanted(root, **settings):
    plain = {
        "train": "train", "validation": "val", "train_videos": "", "validation_videos": "", "validation_share": 0.2,
        "split_seed": 0, "split": "auto", "first_label": 0,
    }
    return Wanted(Path(root), **{**plain, **settings})


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def stills(folder, numbers=range(1, 4), name="img_{:05}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(12, 8, shift=number).save(folder / name.format(number))


def test_videos_are_files_by_their_endings_and_folders_of_pictures(tmp_path):
    touch(tmp_path / "b.MP4", tmp_path / "deep" / "a.webm", tmp_path / "notes.txt", tmp_path / ".hidden.mp4")
    stills(tmp_path / "frames")
    stills(tmp_path / ".hidden")
    assert videos_below(tmp_path) == [str(tmp_path / name) for name in ("b.MP4", "deep/a.webm", "frames")]


def test_pictures_beside_videos_are_covers(tmp_path):
    touch(tmp_path / "a.mp4", tmp_path / "deep" / "b.mp4")
    stills(tmp_path, name="cover_{}.jpg")
    stills(tmp_path / "frames")
    assert videos_below(tmp_path) == [str(tmp_path / name) for name in ("a.mp4", "deep/b.mp4", "frames")]


def test_linked_folders_are_searched_and_each_once(tmp_path):
    touch(tmp_path / "disk" / "a.mp4")
    stills(tmp_path / "disk" / "frames")
    folder = tmp_path / "root" / "class"
    folder.mkdir(parents=True)
    (folder / "z").symlink_to(tmp_path / "disk")
    (folder / "again").symlink_to(tmp_path / "disk")
    (folder / "up").symlink_to(tmp_path / "root")
    assert videos_below(folder) == [str(folder / "again" / name) for name in ("a.mp4", "frames")]


def test_class_folders_as_kinetics_has_them(tmp_path):
    for part, count in (("train", 2), ("val", 1)):
        for name in ("abseiling", "air_drumming"):
            touch(*(tmp_path / part / name / f"id{number}_000001_000011.mp4" for number in range(count)))
    classes, train, validation = find_videos(wanted(tmp_path))
    assert classes == ["abseiling", "air_drumming"] and train.labels == [0, 0, 1, 1] and validation.labels == [0, 1]
    assert validation.paths[1] == str(tmp_path / "val" / "air_drumming" / "id0_000001_000011.mp4")
    (tmp_path / "val" / "juggling").mkdir()
    with pytest.raises(DataError, match="has a folder for the unknown class 'juggling'; wanted the 2 classes"):
        find_videos(wanted(tmp_path))


def test_without_a_split_a_share_is_held_out_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        for number in range(10):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.mp4").write_bytes(bytes([number]))
        stills(tmp_path / name / "frames")
    classes, train, validation = find_videos(wanted(tmp_path))
    assert classes == ["a", "b"] and (len(train.paths), len(validation.paths)) == (18, 4)
    assert find_videos(wanted(tmp_path))[2] == validation != find_videos(wanted(tmp_path, split_seed=1))[2]
    assert not set(train.paths) & set(validation.paths)


@pytest.fixture
def listed(tmp_path):
    """What MMAction's lists expect: videos in folders of their own below the root, paths that begin there."""
    for part in ("videos_train", "videos_val"):
        touch(*(tmp_path / part / name / "x.mp4" for name in ("abseiling", "zumba")))
    stills(tmp_path / "rawframes" / "abseiling" / "x.mp4")  # PaddleVideo's folders end so
    (tmp_path / "train.list").write_text("abseiling/x.mp4 0\nzumba/x.mp4 1\n")
    (tmp_path / "val.list").write_text("zumba/x.mp4\t1\n")
    (tmp_path / "frames.list").write_text("abseiling/x.mp4 3 0\nabseiling/x.mp4 3 1\n")
    return {
        "root": tmp_path, "train": "train.list", "validation": "val.list", "train_videos": "videos_train",
        "validation_videos": "videos_val",
    }


def test_lists_of_videos_and_of_pictures(listed, tmp_path):
    (tmp_path / "classes.txt").write_text("abseiling\nzumba\n")
    classes, train, validation = find_videos(wanted(**listed))
    assert classes == ["abseiling", "zumba"] and (train.labels, validation.labels) == ([0, 1], [1])
    assert train.paths[0] == str(tmp_path / "videos_train" / "abseiling" / "x.mp4") and train.frames == [0, 0]
    _, train, _ = find_videos(wanted(**{**listed, "train": "frames.list", "train_videos": "rawframes"}))
    assert train.frames == [3, 3] and Path(train.paths[0]).is_dir()
    (tmp_path / "val.list").write_text("zumba\\x.mp4 1\n")  # as Windows writes
    assert find_videos(wanted(**listed))[2].paths == [str(tmp_path / "videos_val" / "zumba" / "x.mp4")]


@pytest.mark.parametrize(
    "lines, complaint",
    [
        ("abseiling/my video.mp4 0\n", "line 1: got 'abseiling/my video.mp4 0', wanted .*a path with a space"),
        ("abseiling/my holiday video.mp4 0\n", "a path with a space has to be renamed"),
        ("abseiling/x.mp4 0\nzumba/x.mp4,1\n", "line 2: got 'zumba/x.mp4,1', wanted .*a comma does not separate"),
        ("abseiling/x.mp4\n", "line 1: got 'abseiling/x.mp4', wanted `video label`"),
        ("abseiling/x.mp4 0\nzumba/x.mp4 one\n", "line 2: got 'zumba/x.mp4 one'"),
        ("abseiling/x.mp4 0\nzumba/x.mp4 -1\n", "line 2: got 'zumba/x.mp4 -1'"),
        ("abseiling/x.mp4 0 1\n", "line 1: got 'abseiling/x.mp4 0 1', a folder of 0 frames"),
        ("abseiling/x.mp4 1\nzumba/x.mp4 2\n", "labels go from 1 to 2, wanted from 0 on; data.first_label=1"),
        ("abseiling/x.mp4 0\nzumba/x.mp4 2\n", "no image of class 1"),
        ("", "is empty"),
        ("videos_train/abseiling/x.mp4 0\nzumba/x.mp4 1\n", "line 1: no such video: .*; data.train_videos"),
    ],
)
def test_a_list_that_is_wrong_is_told_with_its_line(listed, tmp_path, lines, complaint):
    (tmp_path / "train.list").write_text(lines)
    with pytest.raises(DataError, match=complaint) as error:
        find_videos(wanted(**listed))
    assert "\n" not in str(error.value) and "train.list" in str(error.value)


def test_a_label_of_no_class_is_told_with_its_line(listed, tmp_path):
    (tmp_path / "val.list").write_text("zumba/x.mp4 1\nzumba/x.mp4 2\n")
    with pytest.raises(DataError, match="val.list, line 2: label 2, wanted 0 to 1"):
        find_videos(wanted(**listed))
    (tmp_path / "one.list").write_text("abseiling/x.mp4 1\nzumba/x.mp4 2\n")
    (tmp_path / "val.list").write_text("zumba/x.mp4 0\n")
    with pytest.raises(DataError, match=r"val.list, line 1: label 0, wanted 1 \(data.first_label\) or more"):
        find_videos(wanted(**{**listed, "train": "one.list"}, first_label=1))


def test_lines_keep_their_numbers_past_blank_ones(tmp_path):
    (tmp_path / "some.list").write_text("\nabseiling/x 30 4\n\n  zumba/y.mp4   5 \n")
    first, second = read_list(tmp_path / "some.list", 4)
    assert first == (2, "abseiling/x", 30, 0) and second == (4, "zumba/y.mp4", 0, 1)


@pytest.mark.parametrize(
    "made, settings, complaint",
    [
        ([], {"root": "nowhere"}, "no such folder; wanted a folder of class folders"),
        (["file"], {"root": "file"}, "is a file; wanted a folder"),
        ([], {}, "holds no folders; wanted one of videos for each class"),
        (["a/x.mp4", "a/y.mp4"], {}, "has videos of one class only, a"),
        (["train/a/x.mp4", "val/a/x.txt"], {}, "val/a: empty class folder; wanted videos"),
        (["train/x.mp4", "val/x.mp4"], {}, "train: holds no class folders"),
        (["train/a/x.mp4"], {}, "val: no such file"),
        (["a/x.mp4", "b/x.mp4"], {}, "has one video; wanted two or more"),
    ],
)
def test_folders_that_are_wrong_are_told_in_a_line(tmp_path, made, settings, complaint):
    touch(*(tmp_path / name for name in made))
    with pytest.raises(DataError, match=complaint) as error:
        find_videos(wanted(tmp_path / settings.pop("root", ""), **settings))
    assert "\n" not in str(error.value)
