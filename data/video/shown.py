"""Which packets of a video hold no frame that is shown: their first bits tell, before anything is decoded.

VP8 (RFC 6386, 9.1) has frames that others refer to and nobody sees, which WebM keeps in packets of their own. MPEG-4
part 2 (ISO/IEC 14496-2, 6.2.3 and 6.2.5: Xvid, DivX) says by a picture that is not coded that the one before it stays.
VP9, AV1, H.264 and HEVC keep what is not shown in the packet of a frame that is.
"""

import re
from collections.abc import Callable

VP8_SHOW_FRAME = 0x10  # of the first byte
# Of the bits behind a start code of MPEG-4: of the layer how finely it counts time, which says how many bits tell a
# picture's time; of the picture, behind its kind, its time and two markers, whether it is coded.
LAYER = re.compile(
    r".{9}(?:0|1.{7})"  # random access, kind; version and priority
    r"(?:1111.{16}|(?!1111).{4})"  # aspect ratio
    r"(?:0|1.{3}(?:0|1.{79}))"  # chroma and delay; buffers
    r"001(?P<per_second>.{16})"  # rectangular
)
PICTURE = r"..1*01.{%d}1(?P<coded>.)"
MOST_BYTES = 32  # of a head


def shows_frame(codec: str, extradata: bytes) -> Callable[[bytes | memoryview], bool]:
    """What tells, of the packets of a stream in their order, whether a frame that is shown comes of each.

    Where nothing can be told of a packet it is taken for one of a frame: if it is damaged, whoever asks for that frame
    is to know.
    """
    if codec == "vp8":
        return lambda packet: bool(packet[0] & VP8_SHOW_FRAME)
    if codec == "mpeg4":
        return _Mpeg4(extradata)
    return lambda packet: True


class _Mpeg4:
    def __init__(self, extradata):
        self._picture, self._is_waiting = None, False
        self(extradata)

    def __call__(self, packet):
        """DivX and Xvid pack a second picture behind one that it refers to, and one that is not coded comes in its
        place: the decoder gives it then. A byte alone is DivX's word for one that is not coded.
        """
        coded = list(self._coded(packet)) or [len(packet) > 1]
        if not any(coded):
            was_waiting, self._is_waiting = self._is_waiting, False
            return was_waiting
        self._is_waiting |= sum(coded) > 1
        return True

    def _coded(self, packet):
        """Whether each of its pictures is coded."""
        for start in re.finditer(b"\0\0\1([\x20-\x2f\xb6])", packet):
            bits = "".join(f"{byte:08b}" for byte in packet[start.end() : start.end() + MOST_BYTES])
            if start[1] == b"\xb6":
                found = self._picture and self._picture.match(bits)
                yield not found or found["coded"] == "1"
            elif found := LAYER.match(bits):
                digits = max(1, (int(found["per_second"], 2) - 1).bit_length())
                self._picture = re.compile(PICTURE % digits)
