"""Exported models of every kind, loaded again, give what the model gives."""

import numpy as np
import pytest

from data import Preparation
from engine.tasks import task_of
from engine.tasks.export import export
from models import Classifier, resnet, vgg


@pytest.mark.parametrize(
    "arguments",
    [{"norm": norm} for norm in ("bn", "gn", "ln", "in", "frozen_bn", "sync_bn", "none")]
    + [{"deformable_stages": ("c4", "c5"), "deformable_version": version} for version in (1, 2)],
    ids=str,
)
def test_export(tmp_path, arguments):
    network = resnet(depth=18, width=4, stem="small", in_channels=1, norm_groups=2, **arguments)
    model = Classifier(network, 3)
    for layer in model.sublayers():
        if type(layer).__name__ == "DeformConv2D":  # offsets that matter
            layer.offset.bias.set_value(np.linspace(-1, 1, layer.offset.bias.shape[0]).astype(np.float32))
    preparation = Preparation(("a", "b", "c"), (1, 16, 20), (0.5,), (0.5,))
    assert export(model, task_of("resnet"), preparation, tmp_path / "export") < 1e-5
    assert (tmp_path / "export" / "preparation.json").exists()


@pytest.mark.parametrize("head_widths", [(), (6, 5)])
def test_export_of_a_vgg(tmp_path, head_widths):
    model = Classifier(vgg(depth=11, width=2, norm_groups=2, head_widths=head_widths, pooled_size=2), 3)
    preparation = Preparation(("a", "b", "c"), (3, 64, 96), (0.5,) * 3, (0.5,) * 3)
    assert export(model, task_of("vgg"), preparation, tmp_path / "export") < 1e-5
