import json

import numpy as np
from paddle import nn

from engine.run.record import RunRecord


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
