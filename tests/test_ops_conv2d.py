"""Plain convolution by oneDNN: right values and gradients whatever the geometry, and Paddle's kernels for all else."""

import ctypes
import os
import shutil
import subprocess
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from test_ops_native import assert_exact, outcome

import ops.conv2d  # noqa: F401
from engine.environment import describe
from ops import Conv2D, conv2d, native
from ops.conv2d import onednn

module = sys.modules["ops.conv2d"]  # whose name in the package is the function's
serves = native.paddle.get_device() == "cpu" and onednn() is not None
PADDLE_TAKES_EMPTY_BATCHES = not paddle.__version__.startswith("2.")  # its convolutions, that is
needs_onednn = pytest.mark.skipif(not serves, reason="no oneDNN here, or a GPU")


def arrays(channels, out, size, kernel, images=2, bias=True, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"x": [images, channels, *size], "weight": [out, channels, *kernel], "bias": [out]}
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn if bias else {name: drawn[name] for name in ("x", "weight")}


def terms(given, y):
    out, channels, kh, kw = given["weight"].shape
    positions = y.size // out
    return {"y": channels * kh * kw, "x": out * kh * kw, "weight": positions, "bias": positions}


def check_exact(given, learning=None, **options):
    expected = outcome(conv2d, given, "float64", learning, implementation="paddle", **options)
    got = outcome(conv2d, given, "float32", learning, implementation="native", **options)
    assert got.keys() == expected.keys()
    assert_exact(got, expected, terms(given, expected["y"]), least=1e-3)


# channels, output channels, size, kernel, options
GEOMETRIES = {
    "1x1": (16, 32, (5, 7), (1, 1), {}),
    "1x1, stride 2": (32, 16, (9, 6), (1, 1), {"stride": 2}),
    "3x3": (16, 16, (8, 9), (3, 3), {"padding": 1}),
    "3x3, stride 2, odd size": (17, 33, (7, 9), (3, 3), {"stride": 2, "padding": 1}),
    "7x7, stride 2, colours": (3, 16, (21, 18), (7, 7), {"stride": 2, "padding": 3}),
    "dilated": (16, 5, (11, 9), (3, 3), {"padding": 2, "dilation": 2}),
    "nothing alike": (5, 18, (13, 10), (2, 4), {"stride": (3, 1), "padding": (0, 5), "dilation": (2, 3)}),
    "a map of one pixel": (32, 16, (1, 1), (3, 3), {"padding": 1}),
    "one channel": (1, 1, (4, 6), (3, 2), {"padding": (2, 0)}),
}


@needs_onednn
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("images, bias", [(1, True), (3, False)])
def test_values_and_gradients_are_as_good_as_float32(geometry, images, bias):
    *shape, options = geometry
    check_exact(arrays(*shape, images=images, bias=bias), **options)


few = st.integers(1, 4)


@needs_onednn
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_random_geometries(data):
    pair = st.tuples(few, few)
    kernel, stride, dilation = (data.draw(pair, name) for name in ("kernel", "stride", "dilation"))
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)), "padding")
    size = [
        max(1, dilation[axis] * (kernel[axis] - 1) + data.draw(few, "more") - 2 * padding[axis]) for axis in (0, 1)
    ]
    channels, out = (data.draw(st.sampled_from([1, 3, 8, 16, 17, 32]), name) for name in ("channels", "out"))
    given = arrays(channels, out, size, kernel, images=data.draw(few, "images"), bias=data.draw(st.booleans(), "bias"))
    check_exact(given, stride=stride, padding=padding, dilation=dilation)


@needs_onednn
@pytest.mark.parametrize("learning", [["weight"], ["x"], ["bias"], ["x", "weight"], ["weight", "bias"]])
def test_only_what_learns_gets_a_gradient(learning):
    check_exact(arrays(16, 16, (6, 5), (3, 3)), learning, padding=1)


@needs_onednn
def test_the_layer_is_paddles_and_gives_its_numbers():
    for options in (
        {"padding": 1}, {"stride": (2, 1), "padding": (0, 2), "bias_attr": False}, {"padding": "SAME"},
        {"padding": [1, 2, 0, 1]}, {"padding": 1, "padding_mode": "reflect"}, {"groups": 2}, {"dilation": 2},
    ):
        theirs, ours = nn.Conv2D(6, 4, 3, **options), Conv2D(6, 4, 3, **options)
        assert isinstance(ours, nn.Conv2D) and ours.state_dict().keys() == theirs.state_dict().keys()
        ours.set_state_dict(theirs.state_dict())
        x = paddle.randn([2, 6, 8, 7])
        np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-5, err_msg=str(options))
    theirs, ours = (kind(6, 4, 3, data_format="NHWC") for kind in (nn.Conv2D, Conv2D))
    ours.set_state_dict(theirs.state_dict())
    x = paddle.randn([2, 8, 7, 6])
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-5)


def used(monkeypatch):
    """The list that will hold the names of our operators that were called."""
    names, run = [], native.run
    monkeypatch.setattr(native, "run", lambda name, *arguments: names.append(name) or run(name, *arguments))
    return names


@needs_onednn
def test_what_it_does_not_serve_goes_to_paddle(monkeypatch):
    names = used(monkeypatch)
    x, weight = paddle.randn([2, 4, 6, 5]), paddle.randn([6, 4, 3, 3])
    conv2d(x, weight)
    assert names == ["conv"]
    names.clear()
    others = [(x[:0], weight, {})] if PADDLE_TAKES_EMPTY_BATCHES else []
    others += [
        (x.astype("float64"), weight.astype("float64"), {}), (x, weight[:, :2], {"groups": 2}),
        (x, weight, {"padding": "SAME"}), (x, weight, {"padding": [0, 1, 0, 1]}),
    ]
    for x, weight, options in others:
        got, expected = conv2d(x, weight, **options), F.conv2d(x, weight, **options)
        assert got.shape == expected.shape and got.dtype == expected.dtype
        with pytest.raises(ValueError, match="'native' does not serve"):
            conv2d(x, weight, implementation="native", **options)
    with pytest.raises(ValueError):
        conv2d(paddle.randn([2, 3, 6, 5]), paddle.randn([6, 4, 3, 3]))
    assert names == []
    with pytest.raises(ValueError, match="expected one of auto, native, paddle"):
        Conv2D(3, 4, 3, implementation="fast")


@needs_onednn
def test_without_gradients_nothing_is_recorded():
    layer = Conv2D(4, 6, 3)
    with paddle.no_grad():
        y = layer(paddle.randn([1, 4, 5, 5]))
    assert y.stop_gradient


@needs_onednn
def test_views_with_gaps_are_read_as_they_look():
    x, weight = paddle.randn([2, 7, 6, 8]).transpose([0, 3, 1, 2]), paddle.randn([3, 3, 8, 4]).transpose([3, 2, 0, 1])
    expected = conv2d(x, weight, implementation="paddle")
    np.testing.assert_allclose(conv2d(x, weight).numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


@needs_onednn
def test_a_run_tells_which_convolutions_it_had(monkeypatch):
    assert describe()["cpu_convolutions"] == onednn() and onednn().startswith("oneDNN 3.")
    monkeypatch.setattr(native, "_loaded", lambda: False)
    assert describe()["cpu_convolutions"] == "Paddle's"


# A wheel without the library, and a library of another kind, which a compiler makes here.

OTHER = """
struct Version { int major, minor, patch; const char* hash; unsigned cpu_runtime, gpu_runtime; };
const struct Version* dnnl_version(void) { static const struct Version version = %s; return &version; }
"""


def other_library(folder, name, version):
    (folder / "other.c").write_text(OTHER % version)
    subprocess.run(["gcc", "-shared", "-fPIC", folder / "other.c", "-o", folder / name], check=True)
    ctypes.CDLL(str(folder / name))
    return str(folder / name)


@needs_onednn
@pytest.mark.parametrize(
    "version, words",
    [
        (None, "has loaded no"), ("{2, 7, 1, 0, 2, 0}", "not of version 3"), ("{4, 0, 0, 0, 2, 0}", "not of version 3"),
        ("{3, 6, 2, 0, 4, 0}", "does not run on OpenMP"), ("{3, 6, 2, 0, 2, 0}", "lacks functions"),
    ],
)
def test_without_a_onednn_that_fits_one_line_says_why_and_paddles_kernels_serve(
    tmp_path, monkeypatch, caplog, version, words,
):
    if version and shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    name = "libother.so.3" if version is None else other_library(tmp_path, "libother.so", version)
    monkeypatch.setattr(module, "ONEDNN", name)
    monkeypatch.delenv("NATIVE_OPS", raising=False)
    module._bound.cache_clear()
    try:
        names = used(monkeypatch)
        for _ in range(2):
            conv2d(paddle.randn([1, 2, 4, 4]), paddle.randn([3, 2, 3, 3]))
        assert names == ["bind_onednn"] and native.available() and onednn() is None
        (line,) = caplog.messages
        assert line.startswith("warning: convolutions run on Paddle's slower CPU kernels: ") and words in line
        module._bound.cache_clear()
        monkeypatch.setenv("NATIVE_OPS", "1")
        with pytest.raises(native.NativeError, match=f"NATIVE_OPS=1: .*{words}"):
            conv2d(paddle.randn([1, 2, 4, 4]), paddle.randn([3, 2, 3, 3]))
    finally:
        module._bound.cache_clear()


# Surroundings. One child process looks at several things.

TEAMS = GEOMETRIES["3x3"], GEOMETRIES["1x1, stride 2"], (16, 16, (28, 28), (3, 3), {"padding": 1})


def check_teams():
    """Right gradients where a region gets fewer threads than OpenMP promises, where a bug would not return at all."""
    for *shape, options in TEAMS:
        check_exact(arrays(*shape, images=8), **options)


def check_surroundings():
    """Threads of Python and forked processes, after use in the main thread, give the main thread's bits."""
    import concurrent.futures
    import multiprocessing

    given = arrays(16, 16, (28, 28), (3, 3), images=8)

    def bits(_=None):
        results = outcome(conv2d, given, implementation="native", padding=1)
        return b"".join(results[name].tobytes() for name in sorted(results))

    expected = bits()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert set(pool.map(bits, range(12))) == {expected}

    def tell(queue):
        queue.put(bits() == expected)

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    reader = context.Process(target=tell, args=[queue])
    reader.start()
    assert queue.get(timeout=60)
    reader.join(60)
    check_teams()


def child(call, **environment):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", f"import test_ops_conv2d; print(test_ops_conv2d.{call})"], text=True,
        env={**os.environ, "PYTHONPATH": path, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


@needs_onednn
def test_small_teams_python_threads_forks_and_settings_of_the_user():
    processes = [
        child("check_teams()", OMP_NUM_THREADS="4", OMP_THREAD_LIMIT="2"),
        child("check_teams()", OMP_NUM_THREADS="2", OMP_DYNAMIC="true", ONEDNN_MAX_CPU_ISA="AVX2"),
        child("check_surroundings()", OMP_NUM_THREADS="2", ONEDNN_DEFAULT_FPMATH_MODE="BF16"),
    ]
    for process in processes:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0 and stdout.split()[-1] == "None", stderr
