"""Pickles read as data: what paddle.save writes comes back; hostile ones end in one line, soon, and run nothing."""

import collections
import pickle
import random
import time

import numpy as np
import paddle
import pytest

from data import DataError, read_pickle

STATE = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"  # BUILD of a plain dtype
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00%s\x89\x88\x87R"


def dtype(code=b"f4", state=STATE):
    return DTYPE % code + state


def array(shape=b"K\x02\x85", kind=None, raw=b"C\x08\x00\x00\x80?\x00\x00\x00@", by_columns=b"\x89"):
    """The instructions of a pickled array; as they stand those of float32 [1, 2]."""
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return head + b"(K\x01" + shape + (kind or dtype()) + by_columns + raw + b"tb"


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word


def pickled(*instructions):
    return b"\x80\x03" + b"".join(instructions) + b"."


class Tensor:
    """What paddle.save makes of a tensor that lies in a list: tuple((name, array))."""

    def __init__(self, values):
        self.values = values

    def __reduce__(self):
        return tuple, (("linear_0.w_0", self.values),)


def example():
    numbers = np.random.default_rng(0)
    return {
        "weight": numbers.normal(size=(3, 2)).astype("float32"), "steps": np.arange(4), "flags": np.array([True]),
        "half": np.asfortranarray(numbers.normal(size=(2, 3)).astype(">f2")), "none": np.zeros((0, 3), "float32"),
        "scalar": np.array(2.5), "tensors": [Tensor(np.ones(2, "float32"))], "ordered": collections.OrderedDict(a=1),
        "plain": (1, -2, 2**40, 0.5, True, None, "é", b"\xff\x00", [], {}, ()),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values_come_back_as_they_were(protocol):
    wanted = example()
    found = read_pickle(pickle.dumps(wanted, protocol), "here", encoding="latin1")
    assert list(found) == list(wanted)
    for name in ("weight", "steps", "flags", "half", "none", "scalar"):
        np.testing.assert_array_equal(found[name], wanted[name])
        assert found[name].dtype == wanted[name].dtype.newbyteorder("=") and found[name].flags.writeable
    np.testing.assert_array_equal(found["tensors"][0], [1, 1])
    assert found["ordered"] == {"a": 1} and found["plain"] == wanted["plain"]


def test_one_array_under_two_names_is_read():
    shared = np.ones(3)
    found = read_pickle(pickle.dumps({"a": shared, "b": shared}, 4), "here")
    assert found["a"] is found["b"]


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_paddle_saves_is_read(tmp_path, protocol):
    layer = paddle.nn.Linear(3, 2)
    saved = {**layer.state_dict(), "list": [layer.bias], "LR_Scheduler": {"last_epoch": 3, "last_lr": 0.1}}
    paddle.save(saved, str(tmp_path / "x"), protocol=protocol)
    found = read_pickle((tmp_path / "x").read_bytes(), "x", encoding="latin1")
    np.testing.assert_array_equal(found["weight"], layer.weight.numpy())
    np.testing.assert_array_equal(found["list"][0], layer.bias.numpy())
    assert found["LR_Scheduler"] == {"last_epoch": 3, "last_lr": 0.1}


def test_the_arrays_that_hostile_ones_are_made_from_is_read():
    np.testing.assert_array_equal(read_pickle(pickled(array()), "here"), np.array([1, 2], "float32"))


OBJECTS = b"(K\x03" + text(b"|") + b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87RK\x02\x86NNK\x10K\x01K\x00tb"
FIELDS = b"(K\x03" + text(b"|") + b"N(" + text(b"a") + b"t}K\x08K\x01K\x00tb"
DEEPER = b"\x85" * 300_000


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        # NumPy's own dtype takes such a state, and then the file's bytes for the addresses of Python objects.
        (array(kind=dtype(b"f8", OBJECTS)), "more than plain numbers"),
        (array(kind=dtype(b"f8", FIELDS)), "more than plain numbers"),
        (array(kind=dtype(b"O8")), "dtype is 'O8'"),
        (array(kind=dtype(b"V0"), raw=b"C\x00", shape=b"J\xff\xff\xff\x7f\x85"), "dtype is 'V0'"),
        (array(kind=dtype(b"V8")), "dtype is 'V8'"),
        (array(kind=b"cnumpy\ndtype\n]\x85R"), r"dtype is \[\]"),
        (array(kind=b"N"), "not of plain numbers"),
        (array(kind=dtype(state=b"")), "not of plain numbers"),
        (array(shape=b"K\x03\x85"), "shape"),
        (array(shape=b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86"), "shape"),
        (array(shape=b"J\xff\xff\xff\x7f\x85"), "has 8 bytes"),
        (array(shape=b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01K\x00\x86", raw=b"C\x00"), "shape"),
        (array(shape=b"(" + b"K\x01" * 40 + b"t"), "shape"),
        (array(raw=b"]"), "not of plain numbers"),
        (array()[:-1] + b"0", "instruction POP"),
        (array()[: array().index(b"(")], "neither an array nor a plain value"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R", "neither an array nor a plain value"),
        (b"cbuiltins\ntuple\n", "neither an array nor a plain value"),
        (b"cnumpy\nndarray\nK\x09\x85R", "calls what is no function"),
        (b"ccollections\nOrderedDict\n" + array() + b"\x85R", "while it is made"),
        (b"cbuiltins\ntuple\n" + array() + b"\x85R", "of what is no list"),
        (b"cbuiltins\ntuple\nK\x01K\x02\x86R", "of what is no list"),
        (b"c_codecs\nencode\n" + text(b"a") + text(b"rot13") + b"\x86R", "in another way"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", "builtins.bytearray, which is refused"),
        (b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R", "made of other values"),
        (b"cos\nsystem\n" + text(b"true") + b"\x85R", "os.system, which is refused"),
        (text(b"o\x1b[2Js\n") + text(b"system") + b"\x93", r"o\\x1b\[2Js"),
        (text(b"x") + b"Q", "BINPERSID"),
        (b"]\x94h\x00a", "one list stands in two places"),
        (b"}\x94" + text(b"a") + b"h\x00s", "one dict stands in two places"),
        (b"K\x01\x85\x94" + b"h\x00h\x00\x86\x94h\x01" * 9, "one tuple stands in two places"),
        (b"]\x85\x94h\x00", "one tuple stands in two places"),
        # As a key its hash takes 2^40 steps.
        (b"}K\x01\x85" + b"2\x86" * 40 + b"K\x01s", "instruction DUP"),
        (b"}K\x01\x85K\x01s", "a key is no text"),
        (b"}K\x01K\x01s", "a key is no text"),
        (b"]" * 300_000 + b"a" * 299_999, "20 deep"),
        (b")" + DEEPER, "20 deep"),
        (b"}" + (text(b"k") + b"}") * 50 + b"s" * 50, "20 deep"),
        (b"]K\x01r\xff\xff\xff\x07a" + b"j\xff\xff\xff\x06", "not there"),  # a memo is no list of 2^27
        (b"\x95" + b"\xff" * 8, "not there"),
        (b"\x8b\xff\xff\xff\x7f", "LONG4|expected|not enough"),
        (b"\x8e" + b"\xff" * 8, "expected|bytes"),
        (b"B\xff\xff\xff\xff", "expected|bytes"),
        (b"N" * 2_000_001, "more than 2,000,000 instructions"),
        (b"(" * 10 + b"t" * 11, "not there"),
        (b"]K\x01K\x02s", "keys for a list"),
        (b"K\x01K\x02a", "elements for a int"),
        (b"}(K\x01u", "without a value"),
        (b"", "not there"),
    ],
)
def test_a_hostile_pickle_is_one_line(content, complaint):
    with pytest.raises(DataError, match=complaint) as failure:
        read_pickle(pickled(content), "here")
    assert str(failure.value).isprintable() and len(str(failure.value)) < 300


@pytest.mark.parametrize("work", ["arrays", "bytes", "stack"])
def test_bytes_that_are_named_again_and_again_are_not_worked_on_each_time(work):
    raw = bytes(4_000_000)
    once = {
        "arrays": (
            b"B" + len(raw).to_bytes(4, "little") + raw + b"\x94", array(raw=b"h\x00", shape=b"J\x40\x42\x0f\x00\x85")
        ),
        "bytes": (text(raw) + b"\x94", b"c_codecs\nencode\nh\x00" + text(b"latin1") + b"\x86R"),
        "stack": (b"N" * 500_000, b"(t" * 100),
    }[work]
    began = time.process_time()
    with pytest.raises(DataError, match="more bytes than it has" if work != "stack" else "plain arrays"):
        read_pickle(pickled(once[0], b"(", once[1] * 5_000, b"t" if work != "stack" else b"a"), "here")
    assert time.process_time() - began < 10


def test_damaged_pickles_end_in_data_error_or_a_value():
    chance = random.Random(0)
    whole = [pickle.dumps(example(), protocol) for protocol in (2, 3, 4)]
    ends = collections.Counter()
    for _ in range(3_000):
        content = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 1, 2, 4))):
            at = chance.randrange(len(content))
            other = chance.randrange(len(content))
            damage = chance.randrange(4)
            if damage == 0:
                content[at] = chance.randrange(256)
            elif damage == 1:
                content[at] = chance.choice(b"(t)]}\x85\x86\x87\x93\x94Rbuseahqr")
            elif damage == 2:
                content[at:at] = content[other : other + chance.randrange(1, 40)]
            elif len(content) > 20:
                del content[at : at + chance.randrange(1, 9)]
        try:
            read_pickle(bytes(content), "here", encoding="latin1")
            ends["value"] += 1
        except DataError:
            ends["error"] += 1
    assert ends["value"] > 50 and ends["error"] > 1_000
