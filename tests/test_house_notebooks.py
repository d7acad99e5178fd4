"""The notebooks: as they are committed, and run from top to bottom in their short mode, only shorter."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import ROOT

NOTEBOOKS = ["group_norm", "deformable_convolution", "mask_rcnn", "video"]
SECONDS_FOR_A_CELL = 1200  # on a busy machine
MOST_BYTES = 1_500_000
SHORTER = {  # what a notebook says in its short mode, and what it says instead here
    "group_norm": {
        "data.train_images=2400": "data.train_images=480", "data.validation_images=1000": "data.validation_images=100",
        "train_images: 3200, validation_images: 1000": "train_images: 640, validation_images: 100",
    },
    "deformable_convolution": {
        "data.train_images=1920": "data.train_images=384", "data.validation_images=400": "data.validation_images=100",
    },
    "mask_rcnn": {"data.train_images=360": "data.train_images=80", "schedule.epochs=4": "schedule.epochs=1"},
    "video": {"data.train_clips=320": "data.train_clips=80", "data.validation_clips=400": "data.validation_clips=200"},
}


@pytest.fixture(params=NOTEBOOKS)
def path(request):
    return ROOT / "notebooks" / f"{request.param}.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def pictures(notebook):
    return [
        output.data["image/png"] for cell in code_cells(notebook) for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def texts(notebook):
    """All that the outputs say, pictures apart."""
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        yield output.get("text", "")
        yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def test_committed_with_the_outputs_of_a_real_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < MOST_BYTES
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert len(pictures(notebook)) >= 5
    for cell in cells:
        for name in re.findall(r'print\(Path\("([^"]+)"\)\.read_text', cell.source):
            printed = "".join(output.get("text", "") for output in cell.outputs)
            assert (ROOT / name).read_text(encoding="utf-8") in printed, f"{name} has changed since"
    said = "\n".join(texts(notebook))
    assert "top-1 error" in said or "mask AP" in said, "nothing was trained"
    places = map(re.escape, [str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir() + "/"])
    assert not re.findall(rf"(?:{'|'.join(places)}|/tmp/|/root/|/home/(?!aistudio)|site-packages).*", said)


def test_every_text_is_in_both_languages_and_its_links_lead_somewhere(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        assert re.search(r"[\u4e00-\u9fff]{4}", cell.source), f"no Chinese: {cell.source[:80]}"
        assert re.search(r"(?:[A-Za-z]+,? ){3}[A-Za-z]+", cell.source), f"no English: {cell.source[:80]}"
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_headings_are_those_of_ai_studio(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    headings = ["一、项目背景", "二、数据集简介", "三、模型选择和开发", "四、效果展示", "五、总结与升华"]
    assert re.findall(r"^##? (.、\w+)", text, re.MULTILINE) == headings


@pytest.mark.parametrize("start", ["work/project/notebooks", "."])
def test_the_first_cell_finds_the_project_and_what_outlives_a_restart(start, path, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "project").symlink_to(ROOT)
    (tmp_path / "external-libraries").mkdir()
    (tmp_path / "external-libraries" / "from_external.py").touch()
    first = code_cells(nbformat.read(path, as_version=4))[0].source.replace("/home/aistudio", str(tmp_path))
    check = "import engine, from_external, os; print(os.getcwd(), os.environ['PYTHONPATH'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{check}"], cwd=tmp_path / start, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    folder, libraries = done.stdout.splitlines()[-1].split()
    assert Path(folder).samefile(ROOT)
    assert libraries == str(tmp_path / "external-libraries"), "the commands would not find them"


@pytest.fixture
def executed(path, tmp_path, monkeypatch):
    """The notebook after a run in its short mode, only shorter, with this Python, and the folder of what it trained."""
    kernel = tmp_path / "jupyter" / "kernels" / "this"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("NOTEBOOK_MODE", "short")
    monkeypatch.setenv("NOTEBOOK_OUTPUT", str(tmp_path / "output"))
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs = []
    for said, shorter in SHORTER[path.stem].items():
        (cell,) = (cell for cell in code_cells(notebook) if said in cell.source)
        cell.source = cell.source.replace(said, shorter)
    nbclient.NotebookClient(
        notebook, timeout=SECONDS_FOR_A_CELL, kernel_name="this", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return notebook, tmp_path / "output"


@pytest.mark.ci
def test_runs_from_top_to_bottom(path, executed):
    notebook, output = executed
    committed = nbformat.read(path, as_version=4)
    assert len(pictures(notebook)) == len(pictures(committed))
    assert list(output.rglob("result.json"))
