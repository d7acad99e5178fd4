"""Videos: files that are none, that lie or that name others, and folders of pictures; given to a network over clips."""

import functools
import tempfile
from pathlib import Path

from conftest import picture
from video_files import make_sound, make_video

from data import ClipPreparation
from data.transforms import MEAN, STD
from engine.build import build_model
from engine.config import load_config
from engine.run import checkpoint
from engine.run.folder import write_preparation
from hostile.files import ESCAPES, link, pipe, png, sparse, written

CONFIG = """
name: run
device: cpu
model: {name: i3d, depth: 18, width: 4, stem: small, stem_frames: 3, stem_time_stride: 1, norm: gn, norm_groups: 2}
data: {name: video_folder, root: nowhere, frames: 4, image_size: 16, short_side: [16, 16], resize_short: 16}
batch: {images_per_worker: 2, workers: 4}
reading: {processes: 0}
"""


@functools.cache
def run_files():
    """The files of a run over clips of two classes, as if trained."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = load_config(written(folder / "config.yaml", CONFIG))
        preparation = ClipPreparation(("jump", "run"), (3, 4, 16, 16), MEAN, STD, 16, stride=1, fps=None)
        write_preparation(folder, preparation)
        state = build_model(config, preparation).state_dict()
        checkpoint.save(folder / "best", {".pdparams": state, ".pdopt": {}, ".pdstates": {}})
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@functools.cache
def made(name, **settings):
    """The bytes of a video of 30 frames of 96 x 80."""
    with tempfile.TemporaryDirectory() as place:
        maker = make_sound if name.startswith("sound") else make_video
        return maker(Path(place) / name, **settings).read_bytes()


def video(content, *overrides, name="a.mp4"):
    """A class folder with this video; content is bytes, what gives them, or what makes something of the path."""

    def make(folder):
        for file, values in run_files().items():
            written(folder / "output" / "run" / file, values)
        place = folder / "videos" / "run" / name
        place.parent.mkdir(parents=True)
        content = given(place) if callable(given) else given
        if isinstance(content, (bytes, str)):
            written(place, content)
        config = folder / "output" / "run" / "config.yaml"
        more = ["-o", *overrides] if overrides else []
        return ["eval.py", "-c", config, "--data", folder / "videos", *more]

    given = content
    return make


def stills(*files, name="clip", frames=None):
    """A folder of pictures, {name: content}, or a list that promises so many frames of it."""

    def make(folder):
        command = video(lambda place: [written(place / file, content) for file, content in files], name=name)(folder)
        if frames is not None:
            listed = written(folder / "videos" / "list.txt", f"run/{name} {frames} 1\n")
            command[4] = listed
        return command

    return make


def beside(words):
    """A playlist that names a video which lies beside it and is not to be opened."""

    def content(place):
        written(place.parent.parent / "secret.mp4", made("a.mp4"))
        return words.replace("SECRET", str(place.parent.parent / "secret.mp4"))

    return content


def damaged(name, begin, end, byte=0, **settings):
    """A video of which a part is overwritten; begin and end are shares of it."""

    def content(place):
        whole = bytearray(made(name, **settings))
        first, last = int(begin * len(whole)), int(end * len(whole))
        whole[first:last] = bytes([byte]) * (last - first)
        return bytes(whole)

    return content


FRAMES = [(f"img_{n:05}.png", png(n)) for n in range(1, 7)]
NONE = r"a\.mp4: cannot be read as a video"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.0,\nSECRET\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
DASH = ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        '<Representation id="0"><BaseURL>SECRET</BaseURL></Representation></AdaptationSet></Period></MPD>')
CASES = {
    "an empty file": (video(b""), NONE),
    "a text": (video("no video at all\n" * 99), NONE),
    "a page": (video("<!DOCTYPE html><title>404</title>"), NONE),
    "NULs": (video(bytes(100_000)), NONE),
    "a picture": (video(picture(99, 99).tobytes()), NONE),
    "a PNG": (video(png()), NONE),
    "a GIF": (
        video(b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\4\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"), NONE,
    ),
    "a playlist": (video(beside(HLS), name="a.ts"), r"a\.ts: cannot be read as a video"),
    "a playlist of an address": (video(HLS.replace("SECRET", "http://127.0.0.1:9/x.ts")), NONE),
    "a list of files": (video(beside("ffconcat version 1.0\nfile ../secret.mp4\n")), NONE + r": it is none of mov,mp4"),
    "a manifest": (video(beside(DASH)), NONE),
    "an invitation to a port": (video(SDP), NONE + r": it is none of mov,mp4"),
    "subtitles": (video("1\n00:00:00,000 --> 00:00:01,000\nwords\n\n"), NONE),
    "sound only": (video(lambda place: made("sound.mp4")), r"it has no pictures, only sound"),
    "a tune": (video(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0D\xac\0\0\x88X\1\0\2\0\x10\0data\0\0\0\0"), NONE),
    "the head alone": (video(lambda place: made("a.mp4")[:60]), NONE),
    "cut short": (video(lambda place: made("a.mp4")[:1500]), NONE),
    "a box of 10^18 bytes": (video(b"\0\0\0\x01ftypmp42" + b"\x7f" + bytes(7) + b"\0\0\0\x01moov" + b"\x7f" * 8), NONE),
    "boxes in each other": (video(b"".join(b"\0\0%c\0moov" % (200 - n) for n in range(200)) + bytes(60_000)), NONE),
    "a box within itself": (video(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\0moov" * 50), NONE),
    "EBML of any length": (video(b"\x1a\x45\xdf\xa3" + b"\xff" * 5000, name="a.mkv"), r"a\.mkv: cannot be read"),
    "RIFF of any length": (video(b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrlavih" + b"\xff" * 500), NONE),
    "packets of nothing": (video((b"G" + bytes(187)) * 500, name="a.ts"), r"a\.ts: cannot be read"),
    "Flash of noise": (video(b"FLV\1\5\0\0\0\t" + bytes(range(256)) * 40, name="a.flv"), r"a\.flv: cannot be read"),
    "Ogg of noise": (video(b"OggS\0\2" + bytes(range(256)) * 40, name="a.ogv"), r"a\.ogv: cannot be read"),
    "no index": (video(damaged("a.mp4", 0.9, 1)), NONE),
    "zeros for pictures": (video(damaged("a.mp4", 0.01, 0.75)), NONE),
    "ones for pictures": (
        video(damaged("a.avi", 0.5, 0.95, 255, codec="mpeg4"), name="a.avi"), r"a\.avi: cannot be read",
    ),
    "larger than allowed": (
        video(lambda place: made("a.mp4"), "data.max_pixels=5000"), r"96 x 80 pixels; data\.max_pixels",
    ),
    "larger together than allowed": (
        video(lambda place: made("a.mp4"), "data.max_pixels=10000"),
        r"4 frames of 96 x 80 pixels at once; data\.max_pix",
    ),
    "a pipe": (video(pipe), r"a\.mp4: is a pipe, wanted an ordinary file"),
    "a device": (video(lambda place: link(place, "/dev/zero")), r"a\.mp4: is a device"),
    "a link to nowhere": (video(lambda place: link(place, "none")), r"a\.mp4: no such video"),
    "a link to itself": (video(lambda place: link(place, "a.mp4")), NONE),
    "1 TB of nothing": (video(lambda place: sparse(place, 10**12)), NONE),
    "a name with an escape": (video(b"x", name=f"{ESCAPES}.mp4"), r"\\x1b\]0;owned\\x07\\x1b\[2J\.mp4: cannot be read"),
    "a frame that is missing": (stills(*FRAMES[:2], *FRAMES[3:]), r"clip: frames 1 to 6, but 1 of them missing: 3"),
    "frames up to 10^200": (
        stills(*FRAMES, (f"img_{'9' * 200}.png", png())), r"clip: frames 1 to 9+, but 9+.* missing: 7",
    ),
    "frames without a number": (
        stills(("a.png", png()), ("b.png", png())), r"no frames in this folder; wanted pictures",
    ),
    "two series": (stills(("a1.png", png()), ("b1.png", png())), r"frames of several series \(a, b\)"),
    "series with an escape": (stills(("a1.png", png()), (f"{ESCAPES}1.png", png())), r"several series \(\\x1b"),
    "frames of two sizes": (
        stills(*FRAMES[:3], ("img_00004.png", png(size=(20, 9)))), r"has frames of 12 x 12 and of 20 x 9",
    ),
    "a frame that is broken": (stills(*FRAMES[:3], ("img_00004.png", png()[:40])), r"img_00004\.png: cannot be read"),
    "fewer frames than promised": (stills(*FRAMES, frames=9), r"clip: the list says 9 frames, found 6, 1 to 6"),
    "frames of no folder": (stills(*FRAMES, name="other", frames="x"), r"list\.txt, line 1: got 'run/other x 1'"),
}
