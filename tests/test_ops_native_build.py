"""Where the C++ kernels come from: built once, by one process; without them one line, and Paddle's kernels."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_ops_native import needs_native

from ops import native

STORY = """
import logging, sys
logging.basicConfig(format="%(message)s")
import numpy as np, paddle
from ops import batch_norm, deform_conv2d, group_norm, native
x = paddle.to_tensor(np.random.default_rng(0).normal(size=[2, 4, 5, 3]).astype("float32"))
for _ in range(2):
    group_norm(x, 2)
    batch_norm(x, paddle.zeros([4]), paddle.ones([4]), training=True)
    deform_conv2d(x, paddle.zeros([2, 2, 5, 3]), paddle.ones([3, 4, 1, 1]))
print("native", native.available())
"""


def start(cache, **environment):
    """A process that uses all three ops and tells whether the kernels served."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NATIVE_OPS", "CXX", "CC")}
    return subprocess.Popen(
        [sys.executable, "-c", STORY], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**kept, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", **environment},
    )


def told(process):
    """Whether the kernels served; the lines about them on stderr: of building, warnings."""
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    building = [line for line in stderr.splitlines() if line.startswith("Building")]
    warnings = [line for line in stderr.splitlines() if line.startswith("warning: ")]
    assert "Traceback" not in stderr
    return stdout.split()[-2:] == ["native", "True"], building, warnings


@pytest.mark.ci
@needs_native
def test_two_processes_that_start_together_build_once(tmp_path):
    tmp_path = tmp_path / "a cache; & 'one' $HOME"  # no path is handed to a shell
    processes = [start(tmp_path), start(tmp_path)]
    outcomes = [told(process) for process in processes]
    assert [served for served, _, _ in outcomes] == [True, True]
    assert sum(len(building) for _, building, _ in outcomes) == 1
    assert not any(warnings for _, _, warnings in outcomes)
    (folder,) = (path for path in (tmp_path / "paddle-gn-dcn").iterdir() if path.is_dir())
    assert (folder / "native_ops.so").exists() and not (folder / "failure.txt").exists()


def test_without_a_compiler_one_line_says_so_and_paddles_kernels_serve(tmp_path):
    served, building, warnings = told(start(tmp_path, PATH=str(tmp_path)))
    assert not served and not building
    (line,) = warnings
    assert "no C++ compiler" in line and "Paddle's slower CPU kernels" in line


@pytest.mark.skipif(sys.platform != "linux", reason="they are built on Linux only")
def test_a_failed_build_is_told_once_a_process_and_not_tried_again(tmp_path):
    for name in ("c++", "g++", "cc", "gcc", "x86_64-linux-gnu-gcc", "x86_64-linux-gnu-g++"):
        compiler = tmp_path / "bin" / name
        compiler.parent.mkdir(exist_ok=True)
        compiler.write_text('#!/bin/sh\ncase "$1" in -*version) echo 12.2.0;; *) echo out of order; exit 1;; esac\n')
        compiler.chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    compilers = {"CXX": str(tmp_path / "bin" / "c++"), "CC": str(tmp_path / "bin" / "cc")}
    first, second = (told(start(tmp_path / "cache", PATH=path, **compilers)) for _ in range(2))
    if "brings no" in first[2][0]:
        pytest.skip("this Paddle has no MKL, and so nothing is built")
    assert not first[0] and not second[0] and len(first[1]) == 1 and not second[1]
    (line,), (again,) = first[2], second[2]
    assert line == again
    (failure,) = (tmp_path / "cache").rglob("failure.txt")
    assert str(failure) in line and "out of order" in failure.read_text()


class Built(Exception):
    """Instead of a build."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of a library that this process would load, in a cache whose path a shell would not understand."""

    def pretend(arguments, *, cwd, **options):
        (cwd / "native_ops.so").write_bytes(b"a library " * 1000)
        return subprocess.CompletedProcess(arguments, 0, "built")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a b;c"))
    monkeypatch.setattr(native, "_key", lambda compiler: "key")
    monkeypatch.setattr(native.shutil, "which", lambda name: name)
    monkeypatch.setattr(native, "LIBRARIES", [])
    monkeypatch.setattr(native.subprocess, "run", pretend)
    return native.cache_folder() / "key"


def refuse_to_build(folder, compiler):
    raise Built


def cut(folder):
    with (folder / "native_ops.so").open("r+b") as file:
        file.truncate(5000)


def empty(folder):
    (folder / "native_ops.so").write_bytes(b"")


def exchange(folder):
    (folder / "native_ops.so").write_bytes(b"another li" * 1000)


def forget_the_digest(folder):
    (folder / "native_ops.sha256").unlink()


def let_others_write(folder):
    (folder / "native_ops.so").chmod(0o722)


def let_others_write_beside_it(folder):
    folder.chmod(0o777)


def put_a_link(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "damage", [cut, empty, exchange, forget_the_digest, let_others_write, let_others_write_beside_it, put_a_link]
)
def test_a_library_that_is_not_as_it_was_built_is_built_anew(cache, monkeypatch, damage):
    library = native._library()
    whole = library.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(native, "_build", refuse_to_build)
        assert native._library() == library  # sound: as it stands
        damage(cache)
        with pytest.raises(Built):
            native._library()
    assert native._library().read_bytes() == whole
    monkeypatch.setattr(native, "_build", refuse_to_build)
    assert native._library() == library
    assert {path.name for path in cache.parent.iterdir()} - {"elsewhere"} == {"key", "key.lock"}


def test_a_library_of_another_user_is_not_loaded(cache, monkeypatch):
    native._library()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(native.NativeError, match="can be changed by other users"):  # nor is what is built instead
        native._library()


def test_a_failed_build_tells_its_reason_and_is_tried_again_after_an_hour(cache, monkeypatch):
    pretend = native.subprocess.run
    said = "compiling\nx.cc:1: fatal error: Python.h: No such \x1b[2Jfile\ncompilation terminated"
    monkeypatch.setattr(native.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, said))
    with pytest.raises(native.NativeError, match="x.cc:1: fatal error: Python.h: No such .x1b.2Jfile; see .*failure"):
        native._library()
    monkeypatch.setattr(native.subprocess, "run", pretend)
    with pytest.raises(native.NativeError, match="fatal error"):
        native._library()
    an_hour_ago = (cache / "failure.txt").stat().st_mtime - 3601
    os.utime(cache / "failure.txt", (an_hour_ago, an_hour_ago))
    assert native._library().exists() and not (cache / "failure.txt").exists()


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    served, building, warnings = told(start(tmp_path / "file" / "cache"))
    assert not served and not building and len(warnings) == 1


def no_home():
    raise RuntimeError("Could not determine home directory.")


@needs_native
@pytest.mark.parametrize("trouble", ["library", "home"])
def test_a_library_that_does_not_load_and_a_user_without_home_are_told(tmp_path, monkeypatch, caplog, trouble):
    monkeypatch.delenv("NATIVE_OPS", raising=False)
    if trouble == "library":  # what a folder mounted without leave to execute looks like
        (tmp_path / "broken.so").write_text("no library")
        monkeypatch.setattr(native, "_library", lambda: tmp_path / "broken.so")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    assert native._loaded.__wrapped__() is False
    (line,) = caplog.messages
    assert "Paddle's slower CPU kernels" in line and "\n" not in line


def test_the_environment_can_do_without_them_or_ask_for_them(tmp_path):
    processes = start(tmp_path, NATIVE_OPS="0"), start(tmp_path, NATIVE_OPS="1", PATH=str(tmp_path))
    assert told(processes[0]) == (False, [], []) and not list(tmp_path.iterdir())
    _, stderr = processes[1].communicate(timeout=300)
    assert processes[1].returncode != 0 and "NativeError: NATIVE_OPS=1: " in stderr.splitlines()[-1]


# Nothing square, no number of channels a whole number of vectors, images below the size of the kernel, groups across
# groups, single pixels, fewer positions than threads, no images, several rounds of images, steps of positions and
# parts of the weights.
CASES = """
    gn,2,6,15,3 gn,1,1,1,1 gn,3,4,1,4 gn,2,33,17,1 gn,1,2,4097,1 gn,2,3,8200,3 gn,0,4,9,2 gn,5,34,49,17 gn,1,600,9,2
    bn,6,4,15,2 bn,1,3,1,1 bn,4,1,31,2 bn,8,5,63,4 bn,2,3,5000,1 bn,3,17,65,3 bn,0,3,5,1
    frn,2,6,15 frn,1,1,1 frn,3,5,33 frn,2,3,4097 frn,0,3,5
    evonorm,2,6,15,3 evonorm,1,1,1,1 evonorm,3,4,33,4 evonorm,2,3,8200,1 evonorm,0,4,9,2
    bgn,2,32,15,2 bgn,1,16,1,1 bgn,3,48,300,2 bgn,2,96,4,4 bbn,6,32,15,2 bbn,1,16,1,1 bbn,4,48,260,4 bbn,2,32,7,0
    dcn,2,3,5,4,4,3,2,1,1,0,0,1,1,1,1 dcn,2,6,7,5,8,3,2,2,1,1,2,1,3,2,2 dcn,1,1,1,1,1,1,1,1,1,0,0,1,1,1,1
    dcn,2,1,1,1,2,3,3,1,1,1,1,1,1,1,1 dcn,2,2,2,3,2,3,5,1,1,2,2,1,1,1,1 dcn,0,4,5,4,6,3,3,1,1,1,1,1,1,2,2
    dcn,1,6,4,3,6,3,3,1,1,1,1,1,1,3,2 dcn,1,6,4,3,4,3,3,1,1,1,1,1,1,2,3 dcn,1,35,3,2,5,1,2,1,1,0,1,1,1,1,5
    dcn,5,17,9,8,3,3,3,2,2,1,1,1,1,1,1 dcn,1,3,40,41,2,3,3,1,1,1,1,1,1,1,1 dcn,4,33,64,128,2,1,1,31,31,0,0,1,1,1,1
    roi,2,6,5,7,9,1,6,2,0 roi,1,12,3,4,5,2,6,3,1 roi,3,1,1,1,2,1,1,1,0 roi,2,33,9,8,17,3,4,2,0 roi,1,4,5,5,0,1,4,2,0
    dcn,1,128,1,1,457,3,3,1,1,1,1,1,1,1,1 dcn,2,66,1,2,1820,3,3,1,1,1,1,1,1,2,1
""".split()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.ci
def test_sanitizers_find_nothing(tmp_path):
    options = "-std=c++17 -O1 -g -march=native -fopenmp -w -fsanitize=address,undefined,float-cast-overflow".split()
    options += ["-fno-sanitize-recover=all"]
    probe = tmp_path / "probe.cc"
    probe.write_text("int main() {}")
    done = subprocess.run(["g++", *options, probe, "-o", tmp_path / "probe"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"g++ has no sanitizers here: {done.stderr.strip().splitlines()[-1]}")
    driver = Path(__file__).parent / "csrc" / "sanitize.cc"
    done = subprocess.run(["g++", *options, driver, "-o", tmp_path / "sanitize"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "OMP_WAIT_POLICY": "passive"}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([tmp_path / "sanitize", *CASES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(CASES)} cases\n"
