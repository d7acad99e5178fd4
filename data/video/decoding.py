"""Video files, decoded by PyAV, which brings FFmpeg along: an optional extra, requirements-video.txt."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from data.errors import DataError
from data.files import open_file
from data.preparation import MAX_PIXELS
from data.video.sampling import check_alike, check_together
from data.video.shown import shows_frame

VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts", ".ogv",
)
# What a file may be, whatever its name says: of other formats, playlists for one, FFmpeg opens what the file names, be
# it another file, an address or a port.
FORMATS = "mov,mp4,avi,matroska,webm,mpeg,mpegvideo,asf,flv,mpegts,ogg"
ATTACHED_PICTURE = 0x400  # FFmpeg's disposition of the picture on a sound file's cover


class VideoFile:
    """An open video. times float64 [F]: when each frame that is shown begins, in seconds, rising from 0.

    `seconds`: how long it is, its last frame included. Both follow from its packets, of which every one is read, not
    from the header's count, duration or rate, which lie. promised: how many frames the header or the packets tell of,
    less those that are not shown; damaged: how many the decoder has marked so, of those that it was asked for.
    """

    def __init__(self, file: BinaryIO, max_pixels: int = MAX_PIXELS):
        self._file, self._max_pixels = file, max_pixels
        self._open()
        stream = self._stream
        self.damaged, self.kind = 0, stream.codec_context.name
        self._stamps, lasting, is_rising, shown, empty = _stamps(self._container, stream)
        self.promised = max(shown, stream.frames - empty)  # of files that were joined two frames can have one stamp
        # Stamps of the order of decoding, of which AVI has no others, say nothing of frames that are shown in another.
        self._counted = is_rising and stream.codec_context.has_b_frames
        if not len(self._stamps):
            raise ValueError("not one of its frames can be decoded")
        unit = float(stream.time_base)
        self.times = (self._stamps - self._stamps[0]) * unit
        self.seconds = float(self.times[-1]) + lasting * unit

    def _open(self):
        """Begin at the beginning, to which not every format can be made to seek."""
        import av

        self._file.seek(0)
        bounds = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        # Tags that are no UTF-8 are nobody's concern; from 19 on PyAV thinks so too, and has no such word.
        tags = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
        try:
            self._container = av.open(self._file, options=bounds, **tags)
        except av.ArgumentError:
            raise ValueError(f"it is none of {FORMATS}") from None
        videos = self._container.streams.video
        streams = [each for each in videos if not int(each.disposition) & ATTACHED_PICTURE]
        if not streams:
            raise ValueError("it has no pictures" + ", only sound" * bool(self._container.streams.audio))
        self._stream = streams[0]
        self._stream.thread_type = "NONE"  # the loader's processes are what is parallel
        width, height = self._stream.codec_context.width, self._stream.codec_context.height
        if width * height > self._max_pixels:
            raise ValueError(f"{width} x {height} pixels; data.max_pixels allows {self._max_pixels:,}")
        self._stream.codec_context.options = {"max_pixels": str(self._max_pixels)}  # a later frame may be larger

    def pictures(self, numbers: Sequence[int]) -> list[Image.Image]:
        """The frames of these numbers, RGB and upright.

        Raises ValueError where one cannot be decoded or has another size, and where they have more than max_pixels
        together.
        """
        wanted = set(self._stamps[list(numbers)].tolist())
        size = self._stream.codec_context.width, self._stream.codec_context.height
        check_together(len(wanted), size, self._max_pixels)  # the decoder's own words would be others
        found = {} if self._counted else self._decoded(wanted, self._sought(min(wanted)))
        if found.keys() != wanted:  # a file can be entered behind the first one
            found = self._decoded(wanted, self._from_start())
        for number in numbers:
            if int(self._stamps[number]) not in found:
                raise ValueError(f"its frame at {self.times[number]:.3f} seconds cannot be decoded")
        check_alike(picture.size for picture in found.values())
        return [found[int(self._stamps[number])] for number in numbers]

    def _sought(self, stamp):
        """(stamp, frame) from the key frame before a stamp on."""
        self._container.seek(stamp, stream=self._stream, backward=True)
        return ((frame.pts, frame) for frame in self._frames())

    def _from_start(self):
        self._open()
        if self._counted:
            return zip(self._stamps.tolist(), self._frames(), strict=False)
        return ((frame.pts, frame) for frame in self._frames())

    def _frames(self):
        for packet in self._container.demux(self._stream):
            if not packet.is_corrupt:
                yield from packet.decode()

    def _decoded(self, wanted, frames):
        """{stamp: picture} of the wanted ones that are there."""
        found = {}
        for stamp, frame in frames:
            self.damaged += bool(frame.is_corrupt)
            if stamp in wanted:
                check_together(len(wanted), (frame.width, frame.height), self._max_pixels)
                found[stamp] = _upright(frame)
            if len(found) == len(wanted):
                break
        return found


def _stamps(container, stream):
    """(stamps int64 [F] of the frames, rising; how long the last one stays; whether they came so; how many packets have
    a frame that is shown, and how many none). In the stream's units of time.
    """
    stamps, lasting, key = [], {}, None
    shows = shows_frame(stream.codec_context.name, stream.codec_context.extradata or b"")
    for packet in container.demux(stream):
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or not packet.size:  # the end
            continue
        if key is None and packet.is_keyframe:
            key = stamp
        # Before the first key frame nothing can be decoded; discarded ones are before or behind what an edit kept; of a
        # file that was cut off the last one is not whole.
        if key is None or stamp < key or packet.is_discard or packet.is_corrupt:
            continue
        lasting[stamp] = packet.duration or 0
        stamps.append(stamp if shows(memoryview(packet)) else None)
    came = [stamp for stamp in stamps if stamp is not None]
    rising = np.unique(np.array(came, np.int64))
    usual = int(np.median(np.diff(rising))) if len(rising) > 1 else 1
    end = max(lasting, default=0)
    last = end - int(rising[-1]) + (lasting[end] or usual) if len(rising) else 0
    return rising, last, came == rising.tolist(), len(came), len(stamps) - len(came)


def _upright(frame):
    """The frame as its rotation says, which phones write instead of turning the pixels."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))


@contextlib.contextmanager
def open_video(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[VideoFile]:
    """A video file, open. Raises DataError: what went wrong with it, also while it is used, in one line."""
    try:
        import av
    except ImportError:
        raise DataError(
            f"{path}: video files want PyAV (pip install -r requirements-video.txt); without it, a folder of pictures "
            "for each video will do"
        ) from None
    try:
        with open_file(path) as file:
            yield VideoFile(file, max_pixels)
    except FileNotFoundError:
        raise DataError(f"{path}: no such video") from None
    except DataError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:  # what the decoders say of damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a video: {' '.join(reason.split())}") from None
