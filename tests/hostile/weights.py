"""Files of weights: those of tests/test_weights_hostile.py through the command, and where they lie."""

import pickle

from test_weights_hostile import HOSTILE, Runs, torch_zip

from hostile.files import ESCAPES, link, pipe, sparse, train, written, zipped


def file(content, name="x.pth", output="out.pdparams"):
    """A file of weights to convert; content is bytes, or what makes something of the path."""

    def make(folder):
        path = folder / name
        content(path) if callable(content) else written(path, content)
        return ["convert_weights.py", path, "-o", folder / output]

    return make


def code(folder):
    return written(folder / "x.pdparams", pickle.dumps({"conv1.weight": Runs(folder / "mark")}, 2))


def into(make_target):
    """Good weights, and a place to write to."""

    def make(folder):
        good = pickle.dumps({"conv1.weight": [1.0], "fc.bias": 2}, 2)
        return ["convert_weights.py", written(folder / "x.pdparams", good), "-o", make_target(folder)]

    return make


CASES = {
    **{name: (file(content), said) for name, (content, said) in HOSTILE.items()},
    "code, to convert": (
        lambda folder: ["convert_weights.py", code(folder), "-o", folder / "y.pdparams"], r"mkdir, which is refused",
    ),
    "code, to start from": (lambda folder: train(folder, f"pretrained={code(folder)}"), r"mkdir, which is refused"),
    "code of the oldest form": (file(b"cos\nsystem\n(S'touch mark'\ntR."), r"begins with 'cos"),
    "a pipe": (file(pipe), r"x\.pth: is a pipe"),
    "a device": (file(lambda path: link(path, "/dev/zero"), "x.pdparams"), r"is a device"),
    "a link to itself": (
        file(lambda path: link(path, path.name)), r"x\.pth: too many levels of symbolic links; expected",
    ),
    "a folder": (file(lambda path: path.mkdir()), r"x\.pth: is a folder, wanted an ordinary file"),
    "1 TB": (file(lambda path: sparse(path, 10**12, b"\x80\x02}")), r"has more than the 2,147,483,648 bytes"),
    "2 GB of nothing": (file(lambda path: sparse(path, 2**31, b"\x80\x02}")), r"x\.pth: "),
    "a safetensors of 2 GB": (
        file(lambda path: sparse(path, 2**31, (2**31 - 8).to_bytes(8, "little") + b"{")), r"damaged safetensors",
    ),
    "a zip within a zip": (file(zipped({"x/data.pkl": torch_zip(), "x/data/0": b""})), r"x\.pth: "),
    "a name with an escape": (file(b"x", name=f"{ESCAPES}.pth"), r"\\x1b\]0;owned\\x07\\x1b\[2J\.pth: begins with"),
    "nothing there": (lambda folder: ["convert_weights.py", folder / "none.pth", "-o", "y.pdparams"], r"no such file"),
    "a network of nobody": (into(lambda folder: folder / "y.pdparams"), r"x\.pdparams: "),
    "another ending to write": (
        into(lambda folder: folder / "y.onnx"), r"y\.onnx: expected a name that ends in \.pdparams",
    ),
}
