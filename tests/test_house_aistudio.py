"""AI Studio: its folders, its jobs, being cut off, and that nothing is installed over the Paddle that is there."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from test_data_archives import files_below, pets, state, write

NOT_CODE = (".git", ".venv*", "output", "results", "tests", "notebooks", "__pycache__", ".*_cache", ".hypothesis")
THIN = ["model.depth=18", "model.width=8", "model.stem=small", "model.norm_groups=4"]
THIN += ["device=cpu", "schedule.epochs=20", "schedule.warmup_epochs=0", "record={histograms: false, sample_images: 0}"]


def test_the_code_is_small_enough_for_a_job():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if done.returncode != 0:
        pytest.skip("this is no git clone")
    names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    sizes = {name: os.lstat(ROOT / name).st_size for name in names}
    needed = {name: size for name, size in sizes.items() if name.split("/")[0] not in NOT_CODE}
    assert len(sizes) < 10_000 and sum(sizes.values()) < 50e6
    assert sum(needed.values()) < 25e6


def make_python(folder, packages):
    """A Python of its own that has the `packages` {name in site-packages: path, or text of a file}; its executable."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name, content in packages.items():
        (site / name).parent.mkdir(exist_ok=True)
        if isinstance(content, Path):
            (site / name).symlink_to(content)
        else:
            (site / name).write_text(content)
    return folder / "bin" / "python3"


def packages_here():
    """What this Python has, but for pip."""
    folders = [Path(folder) for folder in sys.path if folder.endswith("-packages")]
    found = [path for folder in reversed(folders) for path in folder.iterdir()]
    return {path.name: path for path in found if path.suffix != ".pth" and not path.name.startswith(("pip", "__"))}


PIP_IS_CALLED = "import os, sys; open(os.environ['HOME'] + '/pip-was-called', 'a').close(); sys.exit('pip was called')"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A tree like AI Studio's: (home, with mounted archives; a Python that lacks nothing but pip; the project)."""
    root = tmp_path_factory.mktemp("machine")
    home, project = root / "home" / "aistudio", root / "home" / "aistudio" / "work" / "project"
    for name in ("output", "external-libraries"):
        (home / name).mkdir(parents=True)
    write(home / "data" / "data12345" / "pets.zip", pets("pets/"))
    write(home / "data" / "datasets" / "678" / "pets" / "pets.tar.gz", pets())
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*NOT_CODE))
    pip = {"pip/__init__.py": "", "pip/__main__.py": PIP_IS_CALLED}
    return home, make_python(root / "opt" / "python", packages_here() | pip), project


def environment(home, python, **more):
    """What a terminal there has; the project's own kernels would take their time to build."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "LANG", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"])
    fixed = {"PATH": path, "HOME": str(home), "PIP_NO_INDEX": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **fixed, "NATIVE_OPS": "0", "OMP_NUM_THREADS": "1", **more}


def cut_off(command, env, run, at):
    """Start a command and send it the signal `at` once the folder `run` has a checkpoint; returns its status."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 280
    while not (run / "latest.pdstates").exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(at)
    process.communicate(timeout=280)
    assert not (run / "result.json").exists()
    return process.returncode


def to_its_end(command, env):
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.ci
def test_run_sh_as_a_job_that_is_cut_off_and_started_again(machine):
    home, python, project = machine
    before = state(home / "data"), state(project)
    data = f"data={{name: image_folder, root: {home}/data/data12345, image_size: 16, resize_short: 16}}"
    thin = [*THIN, "model.norm_channels_per_group=null", "batch.protocol=single", "batch.images_per_step=null"]
    command = ["bash", project / "run.sh", "-o", data, *thin, "--only", "norm=gn", "images_per_worker=2", "--jobs", "1"]
    run = home / "output" / "quick" / "norm=gn,images_per_worker=2,seed=0"
    assert cut_off(command, environment(home, python), run, signal.SIGTERM) == 143
    assert str(home / "output" / "quick" / "report.html") in to_its_end(command, environment(home, python))
    assert (run / "result.json").exists() and "continuing at step" in (run / "train.log").read_text()

    assert (state(home / "data"), state(project)) == before  # nothing unpacked there, no results, no .venv
    assert not (home / "pip-was-called").exists()
    assert len(files_below(home / ".cache" / "paddle-gn-dcn" / "data")) == len(pets())


def test_training_from_a_mounted_archive_goes_on_after_a_kill(machine):
    home, python, project = machine
    mounted = state(home / "data")
    data = f"data={{name: image_folder, root: {home}/data/datasets/678/pets, image_size: 16, resize_short: 16}}"
    command = [python, project / "tools" / "train.py", "-c", project / "configs" / "quickstart.yaml", "-r", "auto"]
    command += ["-o", data, f"output={home}/output", *THIN, "batch.workers=1"]
    run = home / "output" / "quickstart"
    assert cut_off(command, environment(home, python), run, signal.SIGKILL) == -signal.SIGKILL
    to_its_end(command, environment(home, python))
    assert (run / "result.json").exists() and "continuing at step" in (run / "train.log").read_text()
    assert state(home / "data") == mounted


STUB = """
fail() { echo "$1" >&2; exit "$2"; }
prepare() { python=echo; }
"""


@pytest.mark.parametrize(
    "place, expected",
    [
        ("home/aistudio/work/project", "home/aistudio/output"),
        ("home/aistudio", "home/aistudio/output"),
        ("home/aistudio2/project", None),
        ("somewhere/project", None),
    ],
)
def test_where_run_sh_puts_results(tmp_path, place, expected):
    if expected is None and Path("/home/aistudio").exists():
        pytest.skip("this is AI Studio")
    project = tmp_path / place
    (project / "data").mkdir(parents=True)
    shutil.copy(ROOT / "run.sh", project)
    (project / "setup.sh").write_text(STUB)
    command = ["bash", "run.sh", "-o", "output=mine"]
    hidden = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert hidden.returncode == 2 and "put the project one folder deeper" in hidden.stderr
    (project / "data" / "__init__.py").touch()
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    ours = f"-o output={tmp_path / expected} " if expected else ""
    assert done.stdout == f"tools/sweep.py -c configs/sweeps/quick.yaml {ours}-o output=mine\n"


def wheel(folder, name, version, requires=()):
    """A package without content, such as pip installs."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {other}" for other in requires)]
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *metadata]))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any")
        archive.writestr(f"{info}/RECORD", "")


def required():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line.split(">")[0] for line in lines if line and not line.startswith("#")]


def distribution(name, version):
    return {f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}


PREPARE = 'set -euo pipefail; source ./setup.sh; prepare run; echo "$python"; "$python" -c "import paddle, rich"'


@pytest.fixture
def bare(tmp_path):
    """A machine whose Paddle (a stand-in) lacks one package, rich: (home, its Python, the project's folder)."""
    home = tmp_path / "home" / "aistudio"
    project = home / "project"
    project.mkdir(parents=True)
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, project)
    shutil.copy(ROOT / "setup.sh", project)
    there = {"paddle/__init__.py": "__version__ = '2.6.2'", **distribution("protobuf", "3.20.2")}
    for name in set(required()) - {"rich"}:
        there |= distribution(name, "1.26.4" if name == "numpy" else "99")
    there |= {name: path for name, path in packages_here().items() if name.split("-")[0] == "packaging"}
    return home, make_python(tmp_path / "opt" / "python", there), project


@pytest.mark.skipif(importlib.util.find_spec("ensurepip") is None, reason="this Python makes no pip")
def test_what_is_missing_goes_into_venv_and_never_before_the_numpy_of_the_paddle_there(bare, tmp_path):
    home, python, project = bare
    wheel(tmp_path / "wheels", "rich", "98")
    wheel(tmp_path / "wheels", "rich", "99", requires=["numpy>=2", "protobuf>=4"])
    wheel(tmp_path / "wheels", "numpy", "2.1")
    wheel(tmp_path / "wheels", "protobuf", "7.0")
    before = state(python.parent.parent)
    env = environment(home, python, PIP_FIND_LINKS=str(tmp_path / "wheels"))
    for _ in range(2):
        done = subprocess.run(["bash", "-c", PREPARE], cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(project / ".venv" / "bin" / "python")
    (site,) = (project / ".venv").glob("lib/python*/site-packages")
    assert (site / "rich-98.dist-info").exists() and not (site / "numpy.py").exists()
    assert state(python.parent.parent) == before
    assert {path.name for path in home.iterdir()} == {"project"}


def test_a_notebook_installs_what_is_missing_where_it_outlives_a_restart(bare, tmp_path):
    home, python, project = bare
    pip = importlib.util.find_spec("pip")
    if pip is None:
        pytest.skip("this Python has no pip")
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    (site / "pip").symlink_to(Path(pip.origin).parent)
    wheel(tmp_path / "wheels", "rich", "98")
    wheel(tmp_path / "wheels", "rich", "99", requires=["numpy>=2", "protobuf>=4"])
    wheel(tmp_path / "wheels", "numpy", "2.1")
    wheel(tmp_path / "wheels", "protobuf", "7.0")
    (project / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "aistudio.py", project / "notebooks")
    external = home / "external-libraries"
    before = state(python.parent.parent)
    cell = f"from aistudio import keep_packages; keep_packages({str(home)!r}); import rich; print(rich.__file__)"
    for wheels in ("wheels", "none the second time"):
        env = environment(home, python, PIP_FIND_LINKS=str(tmp_path / wheels))
        done = subprocess.run(
            [python, "-c", cell], cwd=project / "notebooks", env=env, capture_output=True, text=True
        )
        assert done.stdout.strip() == str(external / "rich.py"), done.stderr
    assert (external / "rich-98.dist-info").exists() and not (external / "numpy.py").exists()
    assert state(python.parent.parent) == before


def test_packages_in_external_libraries_serve_when_they_are_on_the_path(bare):
    home, python, project = bare
    for name, text in {"rich.py": "", **distribution("rich", "99")}.items():
        (home / "external-libraries" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "external-libraries" / name).write_text(text)
    env = environment(home, python, PYTHONPATH=str(home / "external-libraries"))
    done = subprocess.run(["bash", "-c", PREPARE], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and not (project / ".venv").exists(), done.stderr
    assert Path(done.stdout.strip()).samefile(python)
