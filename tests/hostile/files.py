"""What the makers of cases share: files by name, configs, and commands that read them."""

import os
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

from PIL import Image

TINY = """
device: cpu
model: {name: resnet, depth: 18, width: 8, stem: small, norm: gn, norm_groups: 4}
batch: {images_per_worker: 2, workers: 4}
schedule: {epochs: 1}
reading: {processes: 0}
"""
SYNTHETIC = "data: {name: synthetic, classes: 3, train_images: 8, validation_images: 4, image_size: 12, channels: 1}\n"
ESCAPES = "\x1b]0;owned\x07\x1b[2J"  # a window's title, and the screen emptied
RIGHT_TO_LEFT = "\u202egnp.exe"


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def config(folder: Path, more: str = SYNTHETIC, name: str = "x.yaml") -> Path:
    """A config over TINY, whose runs go to `folder`/output."""
    return written(folder / name, f"{TINY}{more}output: {folder / 'output'}\n")


def train(folder: Path, *overrides: str) -> list:
    return ["train.py", "-c", config(folder), *(["-o", *overrides] if overrides else [])]


def of_data(folder: Path, data: str, tool: str = "check_data.py") -> list:
    """A command that reads the data set of a `data` section; FOLDER in it is the folder."""
    path = config(folder, f"data: {data.replace('FOLDER', str(folder))}\n")
    return [tool, "-c", path, *(["--output", folder / "output"] if tool == "write_coco.py" else [])]


def png(colour: int = 0, size: tuple[int, int] = (12, 12)) -> bytes:
    content = BytesIO()
    Image.new("RGB", size, (colour, 99, 0)).save(content, "PNG")
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that says it is so large, with these chunks and no more."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def class_folders(root: Path, names: tuple[str, ...] = ("cat", "dog"), each: int = 4) -> Path:
    for place, name in enumerate(names):
        for number in range(each):
            written(root / name / f"{number}.png", png(9 * place + number))
    return root


def zipped(members: dict[str, bytes], packed: bool = False) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return content.getvalue()


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def link(path: Path, target: str | Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.symlink_to(target)
    return path


def sparse(path: Path, size: int, begin: bytes = b"") -> Path:
    """A file of any size that takes no room."""
    written(path, begin)
    with open(path, "ab") as file:
        file.truncate(size)
    return path
