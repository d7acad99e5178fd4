"""tools/export_model.py: one command, three formats."""

import pytest
from conftest import is_one_line, write_run

from data import Preparation

PREPARATION = Preparation(("a", "b", "c"), (1, 12, 12), (0.5,), (0.5,))


@pytest.mark.parametrize(
    ("arguments", "files", "said"),
    [
        ([], {"inference.pdiparams"}, "inference.*; loaded again, its output differs by at most "),
        (["--format", "onnx"], {"model.onnx"}, "model.onnx; opset 18; "),
        (["--format", "torch"], {"model.safetensors"}, "model.safetensors; torchvision has no such network (width: 8"),
    ],
)
def test_a_run_goes_out(tmp_path, run_here, arguments, files, said):
    if arguments:
        pytest.importorskip({"onnx": "onnx", "torch": "safetensors"}[arguments[1]])
    config = write_run(tmp_path / "run", PREPARATION, {"name": "synthetic"})
    done = run_here("export_model.py", "-c", config, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"exported to {tmp_path / 'run' / 'export' / said}")
    assert len(done.stdout.splitlines()) == 1
    assert {path.name for path in (tmp_path / "run" / "export").iterdir()} >= {"preparation.json", *files}


def test_a_format_that_there_is_none_of_is_one_line(tmp_path, run_here):
    done = run_here("export_model.py", "-c", tmp_path / "config.yaml", "--format", "tflite")
    assert done.returncode == 2 and is_one_line(done.stderr) and "tflite" in done.stderr
