import json
from types import SimpleNamespace

import numpy as np
import pytest
from paddle import nn
from visualdl import LogReader

from engine.run.record import VISUALDL_FILE, RunRecord
from engine.tasks import task_of


def test_histogram_of_values_that_hardly_differ(tmp_path):
    """A gamma that has moved by one bit from 1 leaves float32 no room for bins."""
    layer = nn.Linear(2, 1)
    layer.weight.set_value(np.array([[1.0], [np.nextafter(np.float32(1), np.float32(2))]], np.float32))
    record = RunRecord(tmp_path)
    record.histograms(layer, step=1)
    record.close()


def test_a_number_that_json_has_no_word_for_is_null(tmp_path):
    record = RunRecord(tmp_path)
    record.metrics("train", step=1, loss=0.5, gradient_norm=float("inf"))
    record.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "kind": "train", "step": 1, "loss": 0.5, "gradient_norm": None,
    }


@pytest.mark.parametrize("model, shape", [("resnet", (3, 8, 8)), ("i3d", (3, 4, 8, 8))])
def test_no_name_of_a_class_is_a_part_of_the_dashboards_tags(tmp_path, model, shape):
    """A tag is an address in the dashboard, and a place in its menu; a name is only drawn, as letters."""
    names = ("<svg onload=alert(1)>", "../../x?run=%00", "$\\frac{")
    samples = [(np.zeros(shape), label, np.eye(3)[1]) for label in range(3)]
    task, record = task_of(model), RunRecord(tmp_path)
    record.pictures(task.pictures(samples, SimpleNamespace(classes=names)), step=1)
    record.metrics("eval", epoch=1, step=1, loss=1.0, top1_error=0.5)
    record.close()
    tags = LogReader(file_path=str(tmp_path / "vdl" / VISUALDL_FILE)).get_tags()
    assert sorted(tag for kind in tags.values() for tag in kind) == [
        "eval/loss", "eval/sample_0", "eval/sample_1", "eval/sample_2", "eval/top1_error", "meta_data_tag",
    ]
