"""Archives in the place of folders: found, unpacked once, whole or not at all, and nothing written beside them."""

import gzip
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest
from conftest import ROOT, is_one_line, run_tool
from PIL import Image

from data import DataError, extraction, find_archives, members, unpack
from data.idx import EMBEDDED
from engine.build import build_data
from engine.config import load_config


def pets(top=""):
    """{path: content} of pictures in train and val of two classes, below `top`."""
    files = {}
    for number, name in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        picture = io.BytesIO()
        Image.fromarray(np.full((20, 20, 3), 60 * number, np.uint8)).save(picture, "png")
        files |= {f"{top}{name}/{index}.png": picture.getvalue() for index in range(3)}
    return files


def write(path, files):
    """An archive of {path: content, or the target of a link}, of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                member = zipfile.ZipInfo(name)
                member.external_attr = (stat.S_IFLNK if isinstance(content, str) else stat.S_IFREG) << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, content)
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                if isinstance(content, str):
                    member.type, member.linkname = tarfile.SYMTYPE, content
                    archive.addfile(member)
                else:
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return path


def files_below(folder):
    """All but locks."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return sorted(map(str, files))


def state(folder):
    """What would tell that somebody has written there."""
    paths = [folder, *folder.rglob("*")]
    return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(paths)]


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_an_archive_or_its_folder_stands_for_what_it_holds(tmp_path, ending, capsys):
    path = write(tmp_path / "data12345" / f"pets{ending}", pets("pets/") | {"__MACOSX/._pets": b"of a Mac"})
    before = state(path.parent)
    for root in (path, path.parent, str(path)):
        folder = unpack(root, tmp_path / "cache")
        assert folder.name == "pets" and files_below(folder) == sorted(pets())
    assert state(path.parent) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith(f"Unpacking {path} into {tmp_path / 'cache'}") for line in lines)


def test_it_is_done_again_where_the_archive_has_changed(tmp_path):
    path = write(tmp_path / "pets.zip", {"a.txt": b"one", "b.txt": b"two"})
    first = unpack(path, tmp_path / "cache")
    (first / "mark").touch()
    assert unpack(path, tmp_path / "cache") == first and (first / "mark").exists()
    write(path, {"a.txt": b"three", "b.txt": b"two"})
    second = unpack(path, tmp_path / "cache")
    assert second != first and (second / "a.txt").read_bytes() == b"three" and not first.exists()


def test_folders_with_data_and_what_readers_take_as_it_is_are_left_alone(tmp_path):
    path = write(tmp_path / "pets.zip", pets())
    for name in ("notes.txt", ".hidden"):
        (tmp_path / name).touch()
    assert find_archives(tmp_path) == [path]
    for name in ("picture.JPG", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz", "cifar-10-python.tar.gz"):
        (tmp_path / name).touch()
        assert find_archives(tmp_path) == []
        (tmp_path / name).unlink()
    (tmp_path / "train").mkdir()
    own = write(tmp_path / "own" / "cifar-10-python.tar.gz", {"a": b""})
    for root in (tmp_path, own, own.parent, tmp_path / "nowhere", tmp_path / "nowhere.zip", "full"):
        assert find_archives(root) == []


def test_several_archives_and_a_list_beside_them(tmp_path):
    for split in ("train", "val"):  # one with a folder at its top, one without
        inside = {name.removeprefix("val/"): content for name, content in pets().items() if name.startswith(split)}
        write(tmp_path / "data" / f"{split}.zip", inside)
    (tmp_path / "data" / "train_list.txt").write_text("train/cat/0.png 0\n")
    folder = unpack(tmp_path / "data", tmp_path / "cache")
    assert files_below(folder) == sorted([*pets(), "train_list.txt"])
    assert (folder / "train_list.txt").read_text() == "train/cat/0.png 0\n"

    write(tmp_path / "data" / "zebra.tgz", {"train/cat/0.png": b"another"})
    with pytest.raises(DataError, match="zebra.tgz: holds train/cat/0.png, and so does another archive beside it"):
        unpack(tmp_path / "data", tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_pictures_of_train_and_test_are_not_mixed(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / "data" / f"{split}.zip", {f"pets/cat/{split}.png": b"", f"pets/dog/{split}.png": b""})
    with pytest.raises(DataError, match="test.zip: and train.zip both hold the folder pets, .* mixed"):
        unpack(tmp_path / "data", tmp_path / "cache")
    (tmp_path / "data" / "train_list.txt").write_text("pets/cat/train.png 0\n")  # which tells them apart
    assert len(files_below(unpack(tmp_path / "data", tmp_path / "cache") / "pets")) == 4


def test_what_lies_beside_the_data(tmp_path):
    path = write(tmp_path / "data" / "pets.zip", pets("pets/") | {"README.txt": b"", "LICENSE": b""})
    assert unpack(path, tmp_path / "cache").name == "pets"
    (tmp_path / "data" / "train.log").write_text("one line")
    folder = unpack(path.parent, tmp_path / "cache")
    (tmp_path / "data" / "train.log").write_text("one line more")
    assert unpack(path.parent, tmp_path / "cache") == folder  # somebody may be reading it


class Foreign(zipfile.ZipInfo):
    """A member whose name is written as it is, with no flag that says what encoding that is."""

    def _encodeFilenameFlags(self):
        return self.raw, self.flag_bits


def test_names_from_windows_and_macos_come_out_as_they_were_meant(tmp_path):
    path, names = tmp_path / "pets.zip", ["猫/黑.txt", "犬/白.txt", "fox/red.txt", "鸟/绿.txt"]
    with zipfile.ZipFile(path, "w") as archive:
        for raw in (names[0].encode("gbk"), names[1].encode(), b"fox\\red.txt"):
            member = Foreign(repr(raw))
            member.raw = raw
            archive.writestr(member, b"")
        archive.writestr(names[3], b"")  # as Python, Linux and new Windows write it: UTF-8, and the flag
    assert files_below(unpack(path, tmp_path / "cache")) == sorted(names)


# {name: content, or the target of a link}
@pytest.mark.parametrize(
    "ending, files",
    [
        (".zip", {"good.txt": b"", "../evil.txt": b""}),
        (".zip", {"/evil.txt": b""}),
        (".zip", {"a\\..\\..\\evil.txt": b""}),
        (".zip", {"C:\\evil.txt": b""}),
        (".tar", {"good.txt": b"", "a/../../evil.txt": b""}),
        (".tar", {"a\\..\\..\\evil.txt": b""}),
        (".tar", {"a/C:evil.txt": b""}),
        (".tgz", {"/evil.txt": b""}),
        (".tgz", {"link": "../..", "link/evil.txt": b""}),
        (".tar", {"link": "/", "link/evil.txt": b""}),
        (".tar", {"a/one.txt": b"", "link": "a", "link/evil.txt": b""}),  # inside, and yet a way to elsewhere
        (".tar", {"a/one.txt": b"", "link": "a/../../pets.tar"}),
        (".tar", {"link": "nowhere"}),
        (".zip", {"link": "../..", "link/evil.txt": b""}),
    ],
)
def test_nothing_leads_out(tmp_path, ending, files):
    path = write(tmp_path / f"pets{ending}", files)
    with pytest.raises(DataError, match=r"pets\.(zip|tar|tgz): ") as error:
        unpack(path, tmp_path / "cache")
    assert "\n" not in str(error.value) and files_below(tmp_path) == [path.name]


def test_links_too_long_to_be_resolved_lead_nowhere(tmp_path):
    """CVE-2025-4517: beyond PATH_MAX realpath stops to look, and tarfile's filter took what it gave for the end."""
    (tmp_path / "outside").mkdir()
    folder, step = "d" * 247, ""
    with tarfile.open(tmp_path / "pets.tgz", "w:gz") as archive:

        def add(name, kind, link="", content=b""):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(content)
            archive.addfile(member, io.BytesIO(content))

        for letter in "abcdefghijklmnop":
            add(os.path.join(step, folder), tarfile.DIRTYPE)
            add(os.path.join(step, letter), tarfile.SYMTYPE, folder)
            step = os.path.join(step, folder)
        far = os.path.join("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p", "l" * 254)
        add(far, tarfile.SYMTYPE, "../" * 16)
        add("escape", tarfile.SYMTYPE, f"{far}/../../../../outside")
        add("evil", tarfile.LNKTYPE, "escape/evil.txt")
        add("evil", tarfile.REGTYPE, content=b"written outside")
    with pytest.raises(DataError, match=r"pets\.tgz: is not unpacked"):
        unpack(tmp_path / "pets.tgz", tmp_path / "cache")
    assert files_below(tmp_path) == ["pets.tgz"]


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_not_made(tmp_path, kind):
    with tarfile.open(tmp_path / "pets.tar", "w") as archive:
        member = tarfile.TarInfo("cat/0.jpg")
        member.type = kind
        archive.addfile(member)
    with pytest.raises(DataError, match="'cat/0.jpg' is no file, folder or link"):
        unpack(tmp_path / "pets.tar", tmp_path / "cache")
    assert files_below(tmp_path) == ["pets.tar"]


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_links_to_files_inside_become_files(tmp_path, ending):
    files = {"b/two.txt": "../a/one.txt", "a/one.txt": b"one", "b/three.txt": b"three"}
    path = write(tmp_path / f"pets{ending}", files)
    folder = unpack(path, tmp_path / "cache")
    assert (folder / "b" / "two.txt").read_bytes() == b"one"
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_a_name_that_is_there_twice_is_told(tmp_path, ending):
    path = tmp_path / f"pets{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for content in ("one", "two"):
                archive.writestr("cat/0.jpg", content)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for _ in range(2):
                archive.addfile(tarfile.TarInfo("cat/0.jpg"))
    with pytest.raises(DataError, match="holds cat/0.jpg, there twice"):
        unpack(path, tmp_path / "cache")


def bomb(path, size):
    """A tar.gz of zeros, a thousandth of the size: a file in it, or with `size` a header that is all of it."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        member = tarfile.TarInfo("zeros")
        member.size = size
        member.type = tarfile.REGTYPE if path.name.startswith("file") else tarfile.XHDTYPE
        file.write(member.tobuf())
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return path


def test_what_swells_is_refused_and_a_key_allows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "LEAST", 10_000_000)
    packed = write(tmp_path / "pets.zip", {"zeros.bin": bytes(20_000_000)})
    for path in (packed, bomb(tmp_path / "file.tgz", 30 << 20)):
        with pytest.raises(DataError, match="takes more than 0.01.* GB; reading.max_unpacked_gb=N allows more"):
            unpack(path, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []
    assert files_below(unpack(packed, tmp_path / "cache", max_gb=0.02)) == ["zeros.bin"]
    with pytest.raises(DataError, match="header.tgz: cannot be unpacked: a header of 31,457,"):
        unpack(bomb(tmp_path / "header.tgz", 30 << 20), tmp_path / "cache")
    path = write(tmp_path / "many.tgz", {f"{index}.txt": b"" for index in range(20)})
    with pytest.raises(DataError, match="too many files and folders; wanted 10 at most; reading.max_unpacked_files=N"):
        unpack(path, tmp_path / "cache", max_files=10)


def test_a_name_does_not_steer_the_terminal_from_a_bar(tmp_path, monkeypatch):
    path, shown = write(tmp_path / "\x1b[2J.zip", {"a.txt": b""}), []
    wrapped = members.tqdm.wrapattr

    def watched(*file, **said):
        shown.append(said["desc"])
        return wrapped(*file, **said)

    monkeypatch.setattr(members.tqdm, "wrapattr", watched)
    unpack(path, tmp_path / "cache")
    assert set(shown) == {r"\x1b[2J.zip"}


def test_some_room_stays_free(tmp_path, monkeypatch):
    path = write(tmp_path / "pets.tgz", {"zeros.bin": bytes(3_000_000)})
    usage = shutil.disk_usage(tmp_path)._replace(total=100_000_000)
    monkeypatch.setattr(extraction, "LOOK_EVERY", 1)
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage._replace(free=4_000_000))
    with pytest.raises(DataError, match="but 0.0 GB are free at .*, and some must stay free"):
        unpack(path, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_a_size_below_zero_ends(tmp_path):
    """CVE-2025-8194: tarfile goes back to where it was, for ever."""
    member = tarfile.TarInfo("zeros").tobuf()
    header = bytearray(member[:124] + b"\xff" * 10 + b"\xfe\x00" + member[136:])  # minus 512
    header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:]))
    (tmp_path / "pets.tar").write_bytes(tarfile.TarInfo("first").tobuf() + header + bytes(1024))
    with pytest.raises(DataError, match="pets.tar: cannot be unpacked"):
        unpack(tmp_path / "pets.tar", tmp_path / "cache")


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_a_damaged_archive_is_one_line_and_leaves_nothing(tmp_path, ending):
    noise = random.Random(0).randbytes(50_000)
    whole = write(tmp_path / f"pets{ending}", {"a.bin": noise, "b.bin": noise}).read_bytes()
    middle = len(whole) // 2
    damaged = [whole[:middle], b"", b"<html>not found</html>"]
    if ending == ".tar":  # which has no checksums, but one in the second header
        second = whole.index(b"b.bin")
        damaged += [whole[:second], whole[: second + 512], whole[:second] + b"x" + whole[second + 1 :]]
    else:
        damaged += [whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :], whole[:-5]]
    for content in damaged:
        (tmp_path / f"pets{ending}").write_bytes(content)
        with pytest.raises(DataError, match=f"pets{ending}: cannot be unpacked: ") as error:
            unpack(tmp_path / f"pets{ending}", tmp_path / "cache")
        assert "\n" not in str(error.value) and files_below(tmp_path / "cache") == []
    (tmp_path / f"pets{ending}").write_bytes(whole)
    assert len(files_below(unpack(tmp_path / f"pets{ending}", tmp_path / "cache"))) == 2


def test_no_room_and_no_place_are_told_before_any_work(tmp_path, monkeypatch):
    path = write(tmp_path / "pets.zip", {"zeros.bin": bytes(3_000_000)})  # much smaller packed
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage._replace(free=2_000_000))
    with pytest.raises(DataError, match="pets.zip: 0.0 GB unpacked, but 0.0 GB are free at .*XDG_CACHE_HOME"):
        unpack(path, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file.*: Not a directory; XDG_CACHE_HOME can name another folder"):
        unpack(path, tmp_path / "file")


UNPACK = "import sys, pathlib, data; print(data.unpack(sys.argv[1], pathlib.Path(sys.argv[2])))"


def start(path, cache):
    return subprocess.Popen(
        [sys.executable, "-c", UNPACK, path, cache], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_processes_that_start_together_unpack_once_also_after_one_was_killed(tmp_path):
    path = write(tmp_path / "pets.zip", {f"{index}.txt": b"" for index in range(5_000)})
    killed = start(path, tmp_path / "cache")
    assert killed.stderr.readline().startswith("Unpacking")
    while len(files_below(tmp_path / "cache")) < 10:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert 0 < len(files_below(tmp_path / "cache")) < 5_000
    processes = [start(path, tmp_path / "cache") for _ in range(3)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert not any(process.returncode for process in processes), outputs
    (folder,) = {stdout.strip() for stdout, _ in outputs}
    assert sum("Unpacking" in stderr for _, stderr in outputs) == 1
    assert len(os.listdir(folder)) == len(files_below(tmp_path / "cache")) == 5_000


def test_every_data_set_is_built_from_an_archive(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = {f"garments/{path.name}": path.read_bytes() for path in EMBEDDED.glob("*.gz")}
    for name, archive in {
        "image_folder": write(tmp_path / "pets.tgz", pets("pets/")),
        "fashion_mnist": write(tmp_path / "garments.zip", packed),
    }.items():
        data = f"data={{name: {name}, root: {archive}}}"
        sets = build_data(load_config(tiny, [data]))
        assert len(sets[0]) == {"image_folder": 6, "fashion_mnist": 12_000}[name]
    assert {path.name[:4] for path in (tmp_path / "cache" / "paddle-gn-dcn" / "data").iterdir()} == {"pets", "garm"}


def test_the_bounds_are_keys_of_a_config(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = f"data={{name: image_folder, root: {write(tmp_path / 'pets.tgz', pets())}}}"
    for key, complaint in (("max_unpacked_gb=1e-6", "takes more than 1e-06 GB"), ("max_unpacked_files=3", "too many")):
        with pytest.raises(DataError, match=complaint):
            build_data(load_config(tiny, [data, f"reading.{key}"]))


def test_the_command_ends_with_status_2_and_one_line(tiny, tmp_path):
    (tmp_path / "pets.zip").write_bytes(b"PK\x03\x04 and nothing more")
    data = f"data={{name: image_folder, root: {tmp_path}/pets.zip}}"
    done = run_tool("train.py", "-c", tiny, "-o", data, XDG_CACHE_HOME=str(tmp_path / "cache"), NATIVE_OPS="0")
    assert done.returncode == 2 and is_one_line(done.stderr) and "pets.zip: cannot be unpacked" in done.stderr
    assert not (tmp_path / "output").exists() and files_below(tmp_path / "cache") == []
