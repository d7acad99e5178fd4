"""Zips and tars in the place of a folder. tests/test_data_archives.py has more, and what may be unpacked."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile

from hostile.files import ESCAPES, link, of_data, pipe, png, sparse, written, zipped

DATA = "{name: image_folder, root: FOLDER/pets.ENDING, image_size: 8, resize_short: 8}"
PETS = {f"{kind}/{n}.png": png(n) for kind in ("cat", "dog") for n in range(3)}


def archive(content, ending="zip", more=""):
    """An archive of these bytes, or what content(path) makes."""

    def make(folder):
        path = folder / f"pets.{ending}"
        content(path) if callable(content) else written(path, content)
        command = of_data(folder, DATA.replace("ENDING", ending))
        return [*command, "-o", more] if more else command

    return make


def tar(*members, packed=False, format=tarfile.PAX_FORMAT):
    """A tar of (name, type, link or content)."""

    def make(path):
        with tarfile.open(path, "w:gz" if packed else "w", format=format) as file:
            for name, kind, value in members:
                member = tarfile.TarInfo(name)
                member.type = kind
                content = value if isinstance(value, bytes) else b""
                member.size, member.linkname = len(content), "" if content else value or ""
                file.addfile(member, io.BytesIO(content))

    return make


def zip_of(name, content=b"x", mode=0, **values):
    """A zip of one more member, whose entry says this."""

    def make(path):
        with zipfile.ZipFile(path, "w") as file:
            for pet, picture in PETS.items():
                file.writestr(pet, picture)
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            for key, value in values.items():
                setattr(member, key, value)
            file.writestr(member, content)

    return make


def patched(content, *changes):
    """Bytes in which (old, new) are replaced, everywhere."""
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    return content


def many(number):
    def make(path):
        with zipfile.ZipFile(path, "w") as file:
            for at in range(number):
                file.writestr(f"cat/{at}.png", b"")

    return make


def shouting(size):
    """A tar.gz with a header that says it has so many bytes."""
    member = tarfile.TarInfo("cat/0.png")
    member.size, member.type = size, tarfile.XHDTYPE
    return gzip.compress(member.tobuf() + bytes(5 << 20), 1)


def cut(make):
    return lambda path: [make(path), path.write_bytes(path.read_bytes()[:5000])]


PLAIN = tarfile.TarInfo("x").tobuf()
FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
SWOLLEN = zipped({**PETS, "zeros": bytes(30 << 20)}, packed=True)
REFUSED = r"pets\.(zip|tar|tgz): is not unpacked, for .*"
CASES = {
    "a zip that leads up": (archive(zip_of("../../evil.png")), REFUSED + r"'\.\./\.\./evil\.png', which leads out"),
    "a zip of an absolute name": (archive(zip_of("/tmp/evil.png")), REFUSED + r"'/tmp/evil\.png', which leads out"),
    "a zip of Windows' absolute name": (archive(zip_of("C:\\evil.png")), REFUSED + r"leads out"),
    "a zip that leads up, of Windows": (archive(zip_of("a\\..\\..\\evil.png")), REFUSED + r"leads out"),
    "a zip of a name on the net": (archive(zip_of("\\\\host\\share\\x.png")), REFUSED + r"leads out"),
    "a zip of a link out": (
        archive(zip_of("l", b"../../x", stat.S_IFLNK | 0o777)), REFUSED + r"'l' is a link that lead",
    ),
    "a zip of a link to a disk": (archive(zip_of("l", b"/etc", stat.S_IFLNK | 0o777)), REFUSED + r"'l' is a link"),
    "a zip of a link of 1 MB": (
        archive(zip_of("l", b"x" * (1 << 20), stat.S_IFLNK | 0o777)), REFUSED + r"'l' is a link",
    ),
    "a zip of a device": (archive(zip_of("d", b"", stat.S_IFCHR | 0o666)), REFUSED + r"'d' is no file, folder or link"),
    "a zip of a socket": (
        archive(zip_of("s", b"", stat.S_IFSOCK | 0o666)), REFUSED + r"'s' is no file, folder or link",
    ),
    "a zip with an escape": (archive(zip_of(f"../{ESCAPES}")), REFUSED + r"'\.\./\\x1b"),
    "a zip of a name too long": (archive(zip_of("x" * 300)), r"pets\.zip: cannot be unpacked: .*File name too long"),
    "a zip of a path too long": (archive(zip_of("x/" * 60 + "y" * 256)), r"cannot be unpacked: .*File name too long"),
    "a zip too deep": (archive(zip_of("x/" * 5000 + "y")), REFUSED + r"lies deeper than 64 folders"),
    "a zip that is encrypted": (
        archive(patched(zipped(PETS), *(
            (begin + b"\x14\0\0\0", begin + b"\x14\0\1\0") for begin in (b"PK\3\4", b"PK\1\2\x14\3")
        ))),
        r"cannot be unpacked: .*encrypted",
    ),
    "a zip packed by LZMA": (
        archive(zip_of("x", compress_type=zipfile.ZIP_LZMA)), r"'x' is neither stored nor deflated",
    ),
    "a file in place of a folder": (archive(zip_of("cat")), r"pets\.zip: "),
    "a folder in place of a file": (archive(zip_of("cat/0.png/x")), r"pets\.zip: "),
    "a zip that swells": (archive(SWOLLEN, more="reading.max_unpacked_gb=0.02"), REFUSED + r"takes more than 0\.02 GB"),
    "a zip that swells in secret": (
        archive(patched(SWOLLEN, (struct.pack("<I", 30 << 20), struct.pack("<I", 3)))), r"cannot be unpacked",
    ),
    "a zip of many files": (
        archive(many(2000), more="reading.max_unpacked_files=1000"), REFUSED + r"too many files.*wanted 1,000 at most",
    ),
    "a zip cut short": (archive(zipped(PETS)[:-30]), r"cannot be unpacked: File is not a zip file"),
    "a zip of a wrong sum": (
        archive(patched(zipped(PETS), (png(1)[-40:-20], bytes(20)))), r"cannot be unpacked: Bad CRC",
    ),
    "a zip whose list lies elsewhere": (
        archive(zipped(PETS)[:-6] + struct.pack("<IH", 2**31, 0)), r"cannot be unpacked",
    ),
    "a zip of 10^9 members": (
        archive(b"PK\3\4" + bytes(96) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 0, 0)),
        r"cannot be unpacked",
    ),
    "an empty zip": (archive(zipped({})), r"pets|cache"),
    "a zip of one name twice": (archive(zip_of("cat/0.png")), r"holds cat/0\.png, there twice"),
    "a page for a zip": (archive(b"<html>404</html>"), r"pets\.zip: cannot be unpacked"),
    "a pipe for a zip": (archive(pipe), r"pets\.zip: "),
    "a link to itself for a zip": (archive(lambda path: link(path, path.name)), r"pets\.zip: "),
    "a zip of 1 TB": (archive(lambda path: sparse(path, 10**12, b"PK\3\4")), r"pets\.zip: "),
    "a tar that leads up": (archive(tar(("../evil", FILE, b"x")), "tar"), REFUSED + r"leads out"),
    "an absolute tar": (archive(tar(("/tmp/evil", FILE, b"x")), "tar"), REFUSED + r"leads out"),
    "a tar through a link": (
        archive(tar(("l", LINK, "/tmp"), ("l/evil", FILE, b"x")), "tar"), REFUSED + r"'l' is a link",
    ),
    "a tar through a link inside": (archive(tar(("l", LINK, "cat"), ("l/x", FILE, b"x")), "tgz"), r"pets\.tgz: "),
    "a tar of a hard link out": (
        archive(tar(("l", HARD, "../../x.yaml")), "tar"), REFUSED + r"'l' is a link that leads out",
    ),
    "a tar of a hard link to a disk": (archive(tar(("l", HARD, "/etc/hostname")), "tar"), REFUSED + r"'l' is a link"),
    "a tar of a link to itself": (archive(tar(("l", LINK, "l")), "tar"), REFUSED + r"and not to a file that it holds"),
    "a tar of links in a circle": (archive(tar(("a", LINK, "b"), ("b", LINK, "a")), "tar"), REFUSED + r"not to a file"),
    "a tar of a device": (
        archive(tar(("d", tarfile.BLKTYPE, None)), "tar"), REFUSED + r"'d' is no file, folder or link",
    ),
    "a tar of a pipe": (
        archive(tar(("p", tarfile.FIFOTYPE, None)), "tar"), REFUSED + r"'p' is no file, folder or link",
    ),
    "a tar of a name too long": (
        archive(tar(("x" * 400, FILE, b"x")), "tar"), r"cannot be unpacked: .*File name too long",
    ),
    "a tar too deep": (archive(tar(("x/" * 99 + "y", FILE, b"x")), "tar"), REFUSED + r"deeper than 64 folders"),
    "a tar with an escape": (archive(tar((f"/{ESCAPES}", FILE, b"x")), "tar"), REFUSED + r"'/\\x1b"),
    "a tar of a header of 1 GB": (archive(shouting(10**9), "tgz"), r"cannot be unpacked: a header of 1,000,000,"),
    "a tar of a header of 10^18 bytes": (archive(shouting(2**62), "tgz"), r"pets\.tgz: "),
    "a tar cut short": (archive(cut(tar(("cat/0.png", FILE, bytes(9999)))), "tar"), r"cannot be unpacked"),
    "a gzip of no tar": (archive(gzip.compress(b"x" * 5000), "tgz"), r"cannot be unpacked"),
    "a gzip cut short": (archive(gzip.compress(bytes(99_999))[:40], "tar.gz"), r"cannot be unpacked"),
    "a tar of a wrong sum": (
        archive(gzip.compress(PLAIN[:124] + b"%011o\0" % (1 << 32) + PLAIN[136:]), "tgz"),
        r"pets\.tgz: ",
    ),
    "no place in the cache": (
        lambda folder: [written(folder.parent / "cache", "a file"), *archive(zipped(PETS))(folder)][1:],
        r"Not a directory; XDG_CACHE_HOME can name another",
    ),
}
