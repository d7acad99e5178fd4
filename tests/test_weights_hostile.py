"""Files of weights made to do harm, of every kind: one line, status 2, nothing run or written, little memory."""

import io
import json
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data import DataError
from data.pickles import pickle_errors
from engine.errors import InputError
from engine.weights import read_network
from engine.weights.reading import read_tree
from engine.weights.torch_pickle import LEGACY

FILES = Path(__file__).parent / "weights"
MEGABYTE = 2**20


class Runs:
    """Python's own unpickler makes a file of it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def zipped(members, packed=False):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return content.getvalue()


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def number(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def tensor(elements=4, offset=0, sizes=(2, 2), strides=(2, 1), key="0", kind=b"FloatStorage"):
    """The instructions of a torch tensor."""
    storage = tuple_of(text("storage"), b"ctorch\n%s\n" % kind, text(key), text("cpu"), number(elements)) + b"Q"
    shape = [tuple_of(*map(number, each)) for each in (sizes, strides)]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + tuple_of(storage, number(offset), *shape, b"\x89", b"}") + b"R"


def torch_pickle(*items):
    """A dictionary with a tensor for each instruction given."""
    return b"\x80\x02}" + b"".join(text(f"w{at}") + item + b"s" for at, item in enumerate(items)) + b"."


def torch_zip(*items, numbers=bytes(16), pickled=None, packed=False):
    return zipped({"x/data.pkl": pickled or torch_pickle(*items), "x/data/0": numbers}, packed)


def torch_legacy(*items, elements=4, numbers=bytes(16)):
    head = LEGACY + b"\x80\x02M\xe9\x03." + b"\x80\x02}."  # the version, and nothing about the machine
    return head + torch_pickle(*items) + b"\x80\x02]" + text("0") + b"a." + elements.to_bytes(8, "little") + numbers


def safetensors(header, numbers=bytes(16), length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + numbers


def entry(shape=(2, 2), begin=0, end=16, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def npy(header, numbers=bytes(16)):
    header = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + numbers


def npz_of(header, numbers=bytes(16)):
    return zipped({"w.npy": npy(header, numbers)})


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"
HUGE = tensor(elements=2**31 - 1, sizes=(2**31 - 1,), strides=(1,))
# Ten names for lists of ten of the one before: 10^20 values, were they written out.
LAUGHS = b"\x80\x02]q\0" + b"".join(b"]q%c(%se" % (at, b"h%c" % (at - 1) * 10) for at in range(1, 21)) + b"."
MANY = [tensor(2**16, 0, (2**16,), (1,))] * 2000
# A tensor whose numbers lie in another order than its axes, under many names of a pickle's memo.
AGAIN = (b"\x80\x02}" + text("w") + tensor(2**16, 0, (256, 256), (1, 256)) + b"q\0s"
         + b"".join(text(f"w{at}") + b"h\0s" for at in range(2000)) + b".")
OF_TYPE = b"ctorch._tensor\n_rebuild_from_type_v2\n"
WITHIN_ITSELF = b"\x80\x02}" + text("a") + OF_TYPE + (b"(" + OF_TYPE + b"N") * 3000 + b"(t" + b"t" * 3000 + b"Rs."
HOSTILE = {
    # PyTorch's zip
    "no pickle in a zip of torch": (zipped({"x/data/0": b"", "x/version": b"3"}), "neither of torch.save nor"),
    "a storage that is not there": (torch_zip(tensor(key="1")), "not there"),
    "a storage that is too short": (torch_zip(tensor(), numbers=bytes(15)), "has 15 bytes, expected 4 times 4"),
    "a storage that says it is huge": (torch_zip(HUGE), "more bytes than it has"),
    "a tensor out of its storage": (torch_zip(tensor(offset=1)), "reaches out of its storage"),
    "a tensor before its storage": (torch_zip(tensor(offset=-1)), "shape is none"),
    "strides that lead back": (torch_zip(tensor(offset=3, strides=(-2, 1))), "shape is none"),
    "strides of 0": (torch_zip(tensor(sizes=(2**20, 2**10), strides=(0, 0))), "more bytes than it has"),
    "many axes": (torch_zip(tensor(sizes=(1,) * 40, strides=(1,) * 40)), "shape is none"),
    "one storage behind many tensors": (torch_zip(*MANY, numbers=bytes(2**18)), "more bytes than it has"),
    "one tensor under many names": (torch_zip(pickled=AGAIN, numbers=bytes(2**18)), "more bytes than it has"),
    "a tensor of a type of a type": (torch_zip(pickled=WITHIN_ITSELF), "a tensor that nothing makes"),
    "quantised numbers": (torch_zip(tensor(kind=b"QInt8Storage")), "torch.QInt8Storage"),
    "a packed storage": (torch_zip(tensor(), numbers=bytes(2**16), packed=True), "is packed"),
    "a list in a zip of torch": (torch_zip(pickled=b"\x80\x02]."), "holds a list"),
    "a memo bomb in a zip of torch": (torch_zip(pickled=LAUGHS), "holds a list"),
    "lists in each other": (torch_zip(pickled=b"\x80\x02}" + text("a") + b"]" * 5000 + b"a" * 4999 + b"s."), "20 deep"),
    # PyTorch's older form
    "nothing behind the older form's number": (LEGACY, "before seeing STOP"),
    "storages of another size": (torch_legacy(tensor(), elements=2**40), "has 1099511627776 elements, not 4"),
    "a storage that ends too early": (torch_legacy(tensor(), numbers=bytes(8)), "has 8 bytes, expected 4 times 4"),
    # pickles
    "a memo bomb": (LAUGHS, "one list stands in two places"),
    "an empty pickle": (b"\x80\x02", "before seeing STOP"),
    # safetensors
    "a header beyond the file": (safetensors({"w": entry()}, length=10**9), "says that it has 1,000,000,000 bytes"),
    "a header that is no JSON": (safetensors(b"{" * 100), "damaged safetensors"),
    "a header that lies in itself": (safetensors(b'{"a":' + b"[" * 200_000), "damaged safetensors"),
    "an entry without a shape": (safetensors({"w": {"dtype": "F32"}}), "has no dtype, shape and data_offsets"),
    "numbers of another size": (safetensors({"w": entry(shape=(3, 2))}), "which its shape and F32 contradict"),
    "numbers behind the end": (safetensors({"w": entry(begin=8, end=24)}), "which its shape and F32 contradict"),
    "numbers before the beginning": (safetensors({"w": entry(begin=-16, end=0)}), "which its shape and F32 contradict"),
    "a shape of huge sides": (safetensors({"w": entry(shape=(2**31 - 1,) * 4)}), "which its shape and F32 contradict"),
    "a shape that is none": (safetensors({"w": entry(shape=(2, "2"))}), "shape of 'w' is none"),
    "an unknown dtype": (safetensors({"w": entry(dtype="F8_E4M3")}), "is of 'F8_E4M3'"),
    "arrays in each other": (safetensors({f"w{at}": entry() for at in range(9)}), "arrays lie in each other"),
    "a name that steers the terminal": (safetensors({"\x1b[2J": entry()}), "no name of an array"),
    # .npz
    "an object array": (npz_of(PLAIN.replace("<f4", "|O")), "no array of plain numbers"),
    "a header that is an expression": (npz_of("__import__('os').mkdir('x')"), "no array of plain numbers"),
    "a shape that is not all there": (npz_of(PLAIN, bytes(12)), "has 12 bytes"),
    "a shape of huge sides in an .npz": (npz_of(PLAIN.replace("(2, 2)", "(4000000000, 4000000000)")), "has 16 bytes"),
    "a shape of many digits": (npz_of(PLAIN.replace("(2, 2)", "(" + "1" * 3000 + "x)")), "no array of plain numbers"),
    "a record dtype": (npz_of(PLAIN.replace("'<f4'", "[('a', '<f4')]")), "no array of plain numbers"),
    "an .npz that unpacks to much": (
        zipped({"w.npy": npy(PLAIN.replace("(2, 2)", f"({75 * MEGABYTE // 4},)"), bytes(75 * MEGABYTE))}, packed=True),
        "it unpacks to 78,",
    ),
    "another zip": (zipped({"readme.txt": b"weights"}), "is a zip, but neither of torch.save nor of numpy.savez"),
    # other things
    "a page that says there is no such file": (b"<!DOCTYPE html><html>", r"begins with '<!DOCTYPE ht'"),
    "an empty file": (b"", "begins with ''"),
}


def refused(path, match):
    """The line that a file ends in."""
    with pytest.raises((InputError, DataError), match=match) as failure:
        read_network(path)
    assert str(failure.value).isprintable() and len(str(failure.value)) < 500
    return str(failure.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_in_little_memory(tmp_path, name):
    content, complaint = HOSTILE[name]
    (tmp_path / "x.pth").write_bytes(content)
    tracemalloc.start()
    try:
        assert refused(tmp_path / "x.pth", complaint).startswith(f"{tmp_path / 'x.pth'}: ")
        assert tracemalloc.get_traced_memory()[1] < 5 * len(content) + 20 * MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["pdparams", "pkl", "zip", "legacy", "npz"])
def test_code_in_a_file_is_not_run(tmp_path, form):
    mark = tmp_path / "run"
    code = pickle.dumps({"conv1.weight": Runs(mark)}, 2)
    pickle.loads(code)
    assert mark.exists()
    mark.rmdir()
    array = io.BytesIO()
    np.save(array, np.array([Runs(mark)], object), allow_pickle=True)
    content = {
        "pdparams": code, "pkl": pickle.dumps({"blobs": {"conv1_w": Runs(mark)}}, 2), "zip": torch_zip(pickled=code),
        "legacy": torch_legacy().replace(torch_pickle(), code), "npz": zipped({"conv0/W:0.npy": array.getvalue()}),
    }[form]
    (tmp_path / f"x.{form}").write_bytes(content)
    refused(tmp_path / f"x.{form}", "no array of plain numbers" if form == "npz" else "posix.mkdir, which is refused")
    assert not mark.exists()


def test_what_stands_in_two_places_beside_the_weights_is_in_the_first(tmp_path):
    shared = [30, 60]
    pickled = pickle.dumps({"milestones": shared, "again": shared, "state": {0: {"step": 1}}}, 2)
    (tmp_path / "x.pth").write_bytes(torch_zip(pickled=pickled))
    tree, _ = read_tree(tmp_path / "x.pth")
    assert tree == {"milestones": [30, 60], "again": None, "state": {"0": {"step": 1}}}


def test_a_list_of_members_is_not_read_whatever_its_length(tmp_path):
    """A zip may say that its list of members has 3 GB; the file here is one that is empty between its ends."""
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 60000, 60000, 3 * 2**29, 4, 0)
    with open(tmp_path / "x.pth", "wb") as file:
        file.write(b"PK\3\4")
        file.seek(4 + 3 * 2**29)
        file.write(end)
    tracemalloc.start()
    try:
        refused(tmp_path / "x.pth", "list of members is too long")
        assert tracemalloc.get_traced_memory()[1] < 64 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_file_of_any_size_is_not_read(tmp_path):
    for begin in (LEGACY, b"\x80\x02}", safetensors({"w": entry()})):
        with open(tmp_path / "x", "wb") as file:
            file.write(begin)
            file.truncate(2**40)
        refused(tmp_path / "x", "has more than the 2,147,483,648 bytes")


def test_what_is_too_deep_for_python_is_a_line():
    with pytest.raises(DataError, match="x.pth: is no pickle of plain arrays: values lie in each other too deep"):
        with pickle_errors("x.pth"):
            raise RecursionError("maximum recursion depth exceeded")


def test_a_tensor_of_two_names_is_one_array(tmp_path):
    twice = tensor(6, 0, (2, 3), (1, 2)) + b"q\0s" + text("again") + b"h\0s."
    (tmp_path / "x.pth").write_bytes(torch_zip(pickled=b"\x80\x02}" + text("w") + twice, numbers=bytes(24)))
    tree, _ = read_tree(tmp_path / "x.pth")
    assert tree["w"] is tree["again"] and tree["w"].shape == (2, 3)


def test_what_a_safetensors_file_says_is_checked_before_its_numbers_are_read(tmp_path):
    size, most = 2**26, {}
    for said in (size, size - 4):
        with open(tmp_path / "x", "wb") as file:
            file.write(safetensors({"w": entry((size // 4,), 0, said)}, b""))
            file.truncate(file.tell() + size)
        tracemalloc.start()
        try:
            read_tree(tmp_path / "x")
        except DataError as error:
            assert "which its shape and F32 contradict" in str(error)
        most[said] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most[size] < 1.1 * size and most[size - 4] < MEGABYTE


def test_the_command_ends_in_one_line_and_writes_nothing(tmp_path, run_here):
    target = tmp_path / "out.pdparams"
    target.write_bytes(b"kept")
    (tmp_path / "x.pth").write_bytes(torch_zip(tensor(offset=1)))
    done = run_here("convert_weights.py", tmp_path / "x.pth", "-o", target)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    assert done.stderr.startswith(f"error: {tmp_path / 'x.pth'}: is no pickle of plain arrays: a tensor of shape")
    assert target.read_bytes() == b"kept" and sorted(os.listdir(tmp_path)) == ["out.pdparams", "x.pth"]


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.glob("*.[ps]*t*") if path.suffix != ".py"))
def test_damaged_files_are_read_or_refused(file, tmp_path):
    """Bytes that are changed by chance, the first ones more often, and files that are cut."""
    whole, chance = (FILES / file).read_bytes(), random.Random(0)
    ends = {"read": 0, "refused": 0}
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            content[int(len(content) * chance.random() ** 3)] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)):]
        (tmp_path / file).write_bytes(content)
        try:
            read_network(tmp_path / file)
            ends["read"] += 1
        except (DataError, InputError) as error:
            assert str(error).isprintable()
            ends["refused"] += 1
    assert ends["refused"] > 10
