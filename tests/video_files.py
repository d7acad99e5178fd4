"""Videos for the tests whose every frame shows its number, made by PyAV where it is there."""

from fractions import Fraction

import numpy as np
import pytest

WIDTH, HEIGHT = 96, 80


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
    grain=0,
):
    """stamps: of the frames, in milliseconds; grain: of noise, for packets of some size."""
    noise = np.random.default_rng(0).integers(0, 1 + grain, (frames, HEIGHT - 16, WIDTH, 3), np.uint8)
    av = pytest.importorskip("av", reason="PyAV (requirements-video.txt) is not installed")
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            pixels = numbered(number, shift)
            pixels[16:] += noise[number]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


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
