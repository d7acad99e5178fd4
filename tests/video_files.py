"""Videos for the tests whose every frame shows its number, made by PyAV where it is there."""

from fractions import Fraction

import numpy as np
import pytest

WIDTH, HEIGHT = 96, 80
# In milliseconds: 30 a second, then 10.
VARIABLE = [33 * number for number in range(15)] + [495 + 100 * number for number in range(15)]


def numbered(number, shift=0):
    """A frame whose top row of blocks is its number in bits, black and white on grey: uint8 [H, W, 3]."""
    frame = np.full((HEIGHT, WIDTH, 3), 128 + shift, np.uint8)
    for bit in range(8):
        frame[:16, 8 * bit : 8 * bit + 8] = 255 * (number >> bit & 1)
    return frame


def number_of(picture):
    grey = np.asarray(picture.convert("L"))
    return sum(int(grey[4:12, 8 * bit + 2 : 8 * bit + 6].mean() > 128) << bit for bit in range(8))


def make_video(
    path, frames=30, fps=30, codec="libx264", stamps=None, rotation=None, options=None, container=None, shift=0,
    grain=0, scale=1,
):
    """stamps: of the frames, in milliseconds; grain: of noise, for packets of some size; scale: of the pixels."""
    noise = np.random.default_rng(0).integers(0, 1 + grain, (frames, HEIGHT - 16, WIDTH, 3), np.uint8)
    av = pytest.importorskip("av", reason="PyAV (requirements-video.txt) is not installed")
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = scale * WIDTH, scale * HEIGHT, "yuv420p"
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            pixels = numbered(number, shift)
            pixels[16:] += noise[number]
            frame = av.VideoFrame.from_ndarray(pixels.repeat(scale, 0).repeat(scale, 1), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def with_packets(path, source, change):
    """A copy of a video whose packets are what change([bytes, ...]) makes of them, as many as there were."""
    av = pytest.importorskip("av", reason="PyAV (requirements-video.txt) is not installed")
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.size]
        for packet, content in zip(packets, change(list(map(bytes, packets))), strict=True):
            new = av.Packet(content)
            new.pts, new.dts, new.time_base, new.duration = packet.pts, packet.dts, packet.time_base, packet.duration
            new.is_keyframe, new.stream = packet.is_keyframe, copy
            written.mux(new)
    return path


PICTURE = b"\0\0\1\xb6"  # what a picture of MPEG-4 part 2 begins with, ISO/IEC 14496-2


def hidden(packet):
    """A frame of VP8 that is not shown: others refer to it."""
    return bytes([packet[0] & ~0x10]) + packet[1:]


def not_coded(packet):
    """Instead of a picture of MPEG-4 that it stays as it was."""
    head = packet[packet.index(PICTURE) + 4 :][:8]
    bits = "".join(f"{byte:08b}" for byte in head)
    time = bits.index("0", 2) + 2 + 5  # behind kind, whole seconds and a marker: a thirtieth in five bits
    bits = f"01{bits[2:time]}100"
    return PICTURE + int(bits + "1" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")


def packed(packets):
    """As DivX writes MPEG-4: each picture that is shown before one that it refers to lies behind that one's packet."""
    out = []
    for packet in packets:
        start = packet.index(PICTURE)
        kind = packet[start + 4] >> 6
        if kind == 0:  # a key frame, with the name of who wrote it
            packet = packet[: packet.find(b"\0\0\1\xb2")] + b"\0\0\1\xb2DivX503b1393p" + packet[start:]
        if kind == 2:
            out[-1] += packet
        out.append(not_coded(packet) if kind == 2 else packet)
    return out


def make_sound(path):
    av = pytest.importorskip("av", reason="PyAV (requirements-video.txt) is not installed")
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, 4096, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def damaged(path, keep=None, zeros=None):
    content = bytearray(path.read_bytes())
    if zeros:
        content[zeros] = bytes(zeros.stop - zeros.start)
    path.write_bytes(content[:keep])
    return path
