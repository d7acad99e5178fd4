"""Video files: each frame is the right one, at its time; what holds none, what is damaged or broken."""

import numpy as np
import pytest
from test_data_video import preparation
from video_files import (
    HEIGHT,
    VARIABLE,
    WIDTH,
    damaged,
    hidden,
    make_sound,
    make_video,
    not_coded,
    number_of,
    packed,
    with_packets,
)

from data import DataError
from data.video.decoding import open_video
from data.video.views import timeline

FILES = {
    "mp4": ("a.mp4", {}), "key frames seldom": ("a.mkv", {"frames": 200, "options": {"g": "90"}}),
    "webm": ("a.webm", {"codec": "libvpx"}), "avi": ("a.avi", {"codec": "mpeg4"}),
    "frames out of order in an avi": ("b.avi", {}), "transport stream": ("a.ts", {}),
    "program stream": ("a.mpg", {"codec": "mpeg2video", "fps": 25}), "one frame": ("a.mp4", {"frames": 1}),
    "variable rate": ("a.mp4", {"stamps": VARIABLE}), "variable rate, mkv": ("a.mkv", {"stamps": VARIABLE}),
}


@pytest.mark.parametrize("name, settings", FILES.values(), ids=FILES)
def test_every_frame_that_is_asked_for_is_the_right_one(tmp_path, name, settings):
    with open_video(make_video(tmp_path / name, **settings)) as video:
        count = settings.get("frames", 30)
        assert len(video.times) == count and video.times[0] == 0 and (np.diff(video.times) > 0).all()
        for wanted in ([0], [count - 1, 0], sorted({0, count // 2, count // 2 + 1, count - 1} & set(range(count)))):
            pictures = video.pictures(wanted)
            assert [number_of(picture) for picture in pictures] == wanted and pictures[0].size == (WIDTH, HEIGHT)
        assert video.damaged == 0 and video.seconds > video.times[-1]


def test_frames_of_a_changing_rate_are_taken_by_the_clock(tmp_path):
    """By the header's average rate of some 15 a second the clip would show other frames."""
    with open_video(make_video(tmp_path / "a.mp4", stamps=VARIABLE)) as video:
        np.testing.assert_allclose(1000 * video.times, VARIABLE, atol=1e-6)
        assert video.seconds == pytest.approx(video.times[-1] + np.diff(video.times)[-1], abs=0.1)
        line = timeline(video, preparation(frames=8, stride=6, fps=30.0))
        for start in (0.0, 0.31):
            clip = line.clip(start)
            expected = [int(np.abs(np.array(VARIABLE) / 1000 - (start + 0.2 * k)).argmin()) for k in range(8)]
            assert clip.tolist() == expected
            assert [number_of(picture) for picture in video.pictures(clip)] == expected
        by_frames = timeline(video, preparation(frames=8, stride=3, fps=None))
        assert by_frames.clip(1).tolist() == [1, 4, 7, 10, 13, 16, 19, 22] and by_frames.length == 30


def with_one(change):
    """Ten: the next one is a key frame."""
    return lambda packets: [change(packet) if number == 10 else packet for number, packet in enumerate(packets)]


SEEN = [number for number in range(30) if number != 10]
FRAMELESS = {
    "VP8, hidden": ("a.webm", "libvpx", {}, with_one(hidden), SEEN),
    "MPEG-4, not coded": ("a.avi", "mpeg4", {"g": "11"}, with_one(not_coded), SEEN),
    "MPEG-4, not coded, mkv": ("a.mkv", "mpeg4", {"g": "11"}, with_one(not_coded), SEEN),
    "MPEG-4, not coded at the end": (
        "a.avi", "mpeg4", {}, lambda packets: packets[:20] + list(map(not_coded, packets[20:])), list(range(20))
    ),
    "DivX, a byte": ("a.avi", "mpeg4", {"g": "11"}, lambda packets: with_one(lambda _: b"\x7f")(packed(packets)), SEEN),
    "DivX, packed": ("a.avi", "mpeg4", {"bf": "1", "g": "9"}, packed, list(range(30))),
}


@pytest.mark.parametrize("name, codec, options, change, seen", FRAMELESS.values(), ids=FRAMELESS)
def test_packets_without_a_frame_are_none(tmp_path, name, codec, options, change, seen):
    plain = make_video(tmp_path / f"plain-{name}", codec=codec, options=options)
    with open_video(with_packets(tmp_path / name, plain, change)) as video:
        assert len(video.times) == len(seen) and video.promised in (0, len(seen)) and not video.damaged
        np.testing.assert_allclose(video.times, np.array(seen) / 30, atol=1e-3)
        assert video.seconds == pytest.approx(1.0, abs=1e-3)  # the last one stays to the end
        for wanted in ([9, 10], [0, 11], range(len(seen))):
            assert [number_of(picture) for picture in video.pictures(wanted)] == [seen[number] for number in wanted]


@pytest.mark.parametrize("name, codec", [("a.webm", "libvpx"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("damage", [lambda packet: bytes(len(packet)), lambda packet: b"\xff" * len(packet)])
def test_a_damaged_frame_is_still_an_error(tmp_path, name, codec, damage):
    plain = make_video(tmp_path / f"plain-{name}", codec=codec)
    with pytest.raises(DataError, match=f"^{tmp_path / name}: cannot be read as a video: "):
        with open_video(with_packets(tmp_path / name, plain, with_one(damage))) as video:
            video.pictures(range(8, 12))


def test_frames_that_change_their_size_within_a_clip_are_refused(tmp_path):
    small, large = (make_video(tmp_path / f"{scale}.webm", codec="libvpx", scale=scale) for scale in (1, 2))
    packets = []
    with_packets(tmp_path / "copy.webm", large, lambda large: packets.extend(large) or large)
    path = with_packets(tmp_path / "a.webm", small, lambda small: small[:15] + packets[:15])
    with open_video(path) as video:
        assert video.pictures([3, 14])[0].size == (WIDTH, HEIGHT)
        assert video.pictures([15, 29])[0].size == (2 * WIDTH, 2 * HEIGHT)
    for wanted in ([14, 15], [29, 0]):
        with pytest.raises(DataError, match="a.webm: .*has frames of 96 x 80 and of 192 x 160 pixels"):
            with open_video(path) as video:
                video.pictures(wanted)
    bound = 2 * 4 * WIDTH * HEIGHT - 1
    with pytest.raises(DataError, match=f"2 frames of 192 x 160 pixels at once; data.max_pixels allows {bound:,}"):
        with open_video(path, bound) as video:
            video.pictures([20, 21])


@pytest.mark.parametrize("rotation, size", [(90, (HEIGHT, WIDTH)), (180, (WIDTH, HEIGHT)), (-90, (HEIGHT, WIDTH))])
def test_a_phones_video_is_turned_upright(tmp_path, rotation, size):
    with open_video(make_video(tmp_path / "a.mp4", frames=20, rotation=rotation)) as video:
        (picture,) = video.pictures([13])
        assert picture.size == size
        assert number_of(picture.rotate(-rotation, expand=True)) == 13


def test_files_that_were_joined_with_clocks_that_begin_anew_have_frames_for_one_moment(tmp_path):
    parts = [make_video(tmp_path / f"{shift}.ts", shift=shift).read_bytes() for shift in (0, 20)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    with open_video(tmp_path / "joined.ts") as video:
        assert len(video.times) == 30 and video.promised in (59, 60)  # where they meet a packet can be lost


def broken_files(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video at all\n" * 99)
    yield "cannot be read as a video", tmp_path / "empty.mp4"
    yield "cannot be read as a video", tmp_path / "text.mp4"
    yield "cannot be read as a video", damaged(make_video(tmp_path / "cut.mp4"), keep=1500)
    yield "it has no pictures, only sound", make_sound(tmp_path / "sound.mp4")
    yield "no such video", tmp_path / "nowhere.mp4"
    (tmp_path / "folder.mp4").mkdir()
    yield "is a folder, wanted an ordinary file", tmp_path / "folder.mp4"
    yield "96 x 80 pixels; data.max_pixels allows 100", make_video(tmp_path / "large.mp4", frames=2)


def test_broken_files_are_told_in_a_line_that_names_them(tmp_path):
    for complaint, path in broken_files(tmp_path):
        with pytest.raises(DataError) as error, open_video(path, 100 if "large" in path.name else 10**6) as video:
            video.pictures(range(len(video.times)))
        said = str(error.value)
        assert complaint in said and said.startswith(str(path)) and "\n" not in said, said


def test_a_file_that_was_cut_off_has_the_frames_that_are_left(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=120, container={"movflags": "faststart"}, options={"g": "12"})
    with open_video(damaged(path, keep=path.stat().st_size * 2 // 3)) as video:
        assert 30 < len(video.times) < 120 == video.promised
        some = [0, 12, 24]
        assert [number_of(picture) for picture in video.pictures(some)] == some


def test_without_pyav_a_line_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DataError, match="a.mp4: video files want PyAV .*requirements-video.txt.*a folder of pictures"):
        with open_video(tmp_path / "a.mp4"):
            pass
