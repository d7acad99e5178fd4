"""Files of pictures, and the arrays of Fashion-MNIST and CIFAR."""

import gzip
import io
import pickle
import struct
import tarfile
import zlib

from PIL import Image

from hostile.files import ESCAPES, chunk, link, of_data, pipe, png, png_of, sparse, written
from hostile.runs import spoiled


def seen(content):
    """A run that names cats and dogs, evaluated on pictures of which the first is this."""
    return spoiled(lambda place: content(picture(place)) if callable(content) else written(picture(place), content))


def picture(place):
    return place.parent.parent / "pets" / "cat" / "0.png"


def saved(kind, size=(12, 12), mode="RGB", **settings):
    content = io.BytesIO()
    Image.new(mode, size).save(content, kind, **settings)
    return content.getvalue()


def cut(content, share=0.7):
    return content[: int(len(content) * share)]


def tiff(*entries):
    """A TIFF's header and its first directory: (tag, type, count, value) each."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


SIDES = ((256, 4, 1, 12), (257, 4, 1, 12), (258, 3, 1, 8), (262, 3, 1, 1), (278, 4, 1, 12))
PICTURES = {
    "an empty picture": (b"", r"0\.png: cannot be read as an image"),
    "a text": (b"no picture at all", r"cannot be read as an image"),
    "a page": (b"<!DOCTYPE html><title>404</title>", r"cannot be read as an image"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', r"cannot be read as an image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", r"cannot be read as an image"),
    "a PDF": (b"%PDF-1.7\n", r"cannot be read as an image"),
    "a cut PNG": (cut(saved("PNG", (99, 99))), r"cannot be read as an image"),
    "a cut JPEG": (cut(saved("JPEG", (99, 99))), r"cannot be read as an image"),
    "a cut GIF": (cut(saved("GIF", (99, 99)), 0.5), r"cannot be read as an image"),
    "a cut TIFF": (cut(saved("TIFF", (99, 99))), r"cannot be read as an image"),
    "a cut WebP": (cut(saved("WEBP", (99, 99)), 0.6), r"cannot be read as an image"),
    "a cut BMP": (cut(saved("BMP", (99, 99))), r"cannot be read as an image"),
    "a cut PPM": (b"P6 99 99 255\n" + bytes(99), r"cannot be read as an image"),
    "a PNG of 10^18 pixels": (png_of(2**31 - 1, 2**31 - 1), r"2147483647 x 2147483647 pixels; data\.max_pixels allows"),
    "a PNG of 10^9 pixels": (
        png_of(40_000, 25_000, chunk(b"IDAT", zlib.compress(bytes(10**6)))), r"40000 x 25000 pixels; data\.max_pixels",
    ),
    "a PNG of no pixels": (png_of(0, 0), r"cannot be read as an image"),
    "a PNG without pixels": (png_of(12, 12), r"cannot be read as an image"),
    "a text that swells in a PNG": (
        png_of(12, 12, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(50 << 20), 9))), r"cannot be read as an image",
    ),
    "a profile that swells in a PNG": (
        png_of(12, 12, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50 << 20), 9))), r"cannot be read as an image",
    ),
    "a chunk of a wrong sum in a PNG": (png()[:30] + b"\xff" + png()[31:], r"cannot be read as an image"),
    "a GIF of 65,535 sides": (
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\2",
        r"65535 x 65535 pixels",
    ),
    "a BMP of sides below 0": (
        saved("BMP")[:18] + struct.pack("<ii", -12, -(2**31)) + saved("BMP")[26:], r"cannot be read as an image",
    ),
    "a PPM of many digits": (b"P6 " + b"9" * 5000 + b" 9 255\n", r"cannot be read as an image"),
    "a PPM of words": (b"P6 a b c\n", r"cannot be read as an image"),
    "a JPEG of 65,000 sides": (
        saved("JPEG").replace(b"\xff\xc0\x00\x11\x08\x00\x0c\x00\x0c", b"\xff\xc0\x00\x11\x08\xfd\xe8\xfd\xe8"),
        r"65000 x 65000 pixels",
    ),
    "a TIFF of a strange compression": (
        tiff(*SIDES, (259, 3, 1, 34712)), r"a TIFF compressed as|cannot be read as an im",
    ),
    "a TIFF whose strips lie beyond": (
        tiff(*SIDES, (259, 3, 1, 5), (273, 4, 1, 10**9), (279, 4, 1, 10**9)), r"cannot be read as an image",
    ),
    "a TIFF that leads back": (
        b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8), r"cannot be read as an image",
    ),
    "a TIFF of a huge tag": (tiff(*SIDES, (259, 3, 1, 1), (270, 2, 2**31, 8)), r"cannot be read as an image"),
    "floating-point pixels": (saved("TIFF", mode="F"), r"its pixels are floating-point numbers"),
    "a pipe for a picture": (pipe, r"0\.png: is a pipe, wanted an ordinary file"),
    "a device for a picture": (lambda path: link(path, "/dev/zero"), r"0\.png: is a device"),
    "a link to nowhere": (lambda path: link(path, "none"), r"0\.png: no such image"),
    "a link to itself": (lambda path: link(path, path.name), r"0\.png: cannot be read as an image"),
    "a picture of 1 TB": (
        lambda path: sparse(path, 10**12, b"\x89PNG\r\n\x1a\n"), r"0\.png: cannot be read as an image",
    ),
}


def idx(content, name="train-images-idx3-ubyte"):
    """Fashion-MNIST's files, of which one holds this."""

    def make(folder):
        pictures = struct.pack(">4I", 0x803, 9, 28, 28) + bytes(9 * 784)
        for part in ("train", "t10k"):
            written(folder / "data" / f"{part}-images-idx3-ubyte", pictures)
            written(folder / "data" / f"{part}-labels-idx1-ubyte", struct.pack(">2I", 0x801, 9) + bytes(range(9)))
        path = folder / "data" / name
        content(path) if callable(content) else written(path, content)
        return of_data(folder, "{name: fashion_mnist, root: FOLDER/data}")

    return make


def cifar(**changes):
    """CIFAR-100's archive, of which some members hold other bytes."""
    pixels = pickle.dumps({b"data": 1, b"fine_labels": [0]}, 2)
    meta = pickle.dumps({b"fine_label_names": [b"cat", b"dog"]}, 2)
    files = {"train": pixels, "test": pixels, "meta": meta, **changes}

    def make(folder):
        with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"cifar-100-python/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return cifar100(folder)

    return make


def cifar100(folder):
    return of_data(folder, "{name: cifar100, root: FOLDER}")


ARRAYS = {
    "idx: of another kind": (idx(b"\0\0\x0d\3" + bytes(20)), r"begins with 00000d03, wanted 00000803"),
    "idx: cut in the header": (idx(b"\0\0\x08\3\0\0"), r"begins with 00000803"),
    "idx: 10^18 bytes": (idx(struct.pack(">4I", 0x803, 2**31, 2**31, 2**31)), r"wanted 1,073,741,824 at most"),
    "idx: fewer than it says": (
        idx(struct.pack(">4I", 0x803, 9, 28, 28) + bytes(9)), r"holds 9 bytes of data, wanted 7056",
    ),
    "idx: more than it says": (
        idx(gzip.compress(struct.pack(">4I", 0x803, 1, 28, 28) + bytes(50 << 20))), r"holds at least 785 bytes",
    ),
    "idx: a damaged gzip": (idx(gzip.compress(bytes(10_000))[:20]), r"cannot be read as an idx file"),
    "idx: a pipe": (idx(pipe), r"holds neither train-images-idx3-ubyte"),
    "idx: another number of labels": (
        idx(struct.pack(">2I", 0x801, 8) + bytes(8), "train-labels-idx1-ubyte"), r"9 .*8|8 .*9",
    ),
    "idx: a label beyond": (idx(struct.pack(">2I", 0x801, 9) + bytes([99] * 9), "train-labels-idx1-ubyte"), r"99"),
    "idx: other sides": (idx(struct.pack(">4I", 0x803, 9, 14, 56) + bytes(9 * 784)), r"wanted \(28, 28\)"),
    "cifar: code": (cifar(train=b"cos\nsystem\n(S'touch x'\ntR."), r"train: .*"),
    "cifar: no array": (cifar(), r"train: has no array 'data'"),
    "cifar: no pickle": (cifar(meta=b"{}"), r"meta: "),
    "cifar: names that are numbers": (cifar(meta=pickle.dumps({b"fine_label_names": [1, 2]}, 2)), r"meta: "),
    "cifar: a name with an escape": (
        cifar(meta=pickle.dumps({b"fine_label_names": [ESCAPES.encode()]}, 2)), r"the class name '\\x1b",
    ),
    "cifar: no archive": (
        lambda folder: [written(folder / "cifar-100-python.tar.gz", b"x"), *cifar100(folder)][1:],
        r"is truncated or no tar\.gz",
    ),
}
CASES = {name: (seen(content), said) for name, (content, said) in PICTURES.items()} | ARRAYS
