"""ONNX files: onnxruntime computes what the model does, and what cannot be written or is written wrong is found."""

import json
import sys

import numpy as np
import paddle
import pytest
from paddle import nn

from data import Preparation
from engine.errors import InputError
from engine.tasks import task_of
from engine.tasks.export import export_onnx, onnx_check
from engine.tasks.export.onnx_layers import EMITTERS
from models import Classifier, resnet, vgg
from ops import GroupNorm

onnx = pytest.importorskip("onnx", reason="onnx, of requirements-export.txt, is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, of requirements-export.txt, is not installed")
PREPARATION = Preparation(("袜子", "b", "c"), (2, 20, 28), (0.5, 0.25), (0.5, 0.125))
DEFORMABLE = {"deformable_stages": ("c3",), "deformable_groups": 2, "stem": "medium"}


def network(**arguments):
    """A classifier none of whose vectors is at its start, and whose offsets and probabilities are far from even."""
    paddle.seed(0)
    tiny = {"depth": 18, "width": 4, "stem": "small", "norm_groups": 2, "in_channels": 2}
    model = Classifier(resnet(**{**tiny, **arguments}), 3)
    random = np.random.default_rng(0)
    for name, entry in model.state_dict().items():
        if ".offset." in name:
            entry.set_value(random.normal(0, 0.5, entry.shape).astype(np.float32))
        elif entry.ndim == 1 or name == "fc.weight":
            entry.set_value(random.uniform(0.5, 1.5, entry.shape).astype(np.float32))
    model.eval()
    return model


def exported(model, folder, **section):
    return export_onnx(model, task_of("resnet"), PREPARATION, folder, section)


@pytest.mark.parametrize(
    "arguments",
    [{"norm": norm} for norm in ("bn", "gn", "ln", "in", "frozen_bn", "sync_bn", "none")]
    + [{"deformable_version": 1, **DEFORMABLE}, {"deformable_version": 2, **DEFORMABLE, "depth": 26}]
    + [{"deformable_modulation": "sigmoid", **DEFORMABLE, "dilated_stages": ("c3",)}]
    + [{"depth": 26, "stem": "imagenet", "stride_in": "1x1", "norm_eps": 0.1, "dilated_stages": ("c5",)}],
    ids=str,
)
def test_onnxruntime_gives_what_the_model_gives(tmp_path, arguments):
    model = network(**arguments)
    verdict = exported(model, tmp_path)
    if "cannot run it" in verdict:
        pytest.skip(verdict)
    assert "gives what every layer gives" in verdict
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).normal(0.5, 2, [5, 2, 33, 24]).astype(np.float32)  # batch and sides are free
    given = session.run(None, {"image": image})[0]
    with paddle.no_grad():
        wanted = nn.functional.softmax(model.logits(paddle.to_tensor(image)), axis=1).numpy()
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arguments", [
    {"norm": "gn", "head_widths": (6, 5), "pooled_size": 3}, {"norm": "none", "poolings": 2, "head_widths": ()},
], ids=str)
def test_vggs_are_written_for_every_size_of_a_picture(tmp_path, arguments):
    model = Classifier(vgg(width=2, depth=11, norm_groups=2, in_channels=2, **{"poolings": 4, **arguments}), 3)
    assert "gives what every layer gives" in exported(model, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((20, 28), (32, 17), (95, 64)):  # the maps have 1 to 5 pixels a side, for 3 cells
        image = np.random.default_rng(1).normal(0.5, 2, [2, 2, height, width]).astype(np.float32)
        with paddle.no_grad():
            wanted = nn.functional.softmax(model.logits(paddle.to_tensor(image)), axis=1).numpy()
        np.testing.assert_allclose(session.run(None, {"image": image})[0], wanted, rtol=0, atol=1e-6)


def test_names_and_notes_are_in_the_file_and_old_runtimes_can_read_it(tmp_path):
    model = network(norm="gn")
    assert exported(model, tmp_path, norm="gn", norm_groups=2).startswith("opset 18; ")
    written = onnx.load(tmp_path / "model.onnx")
    assert {weight.name for weight in written.graph.initializer} >= set(model.state_dict())
    assert written.ir_version == 8 and written.opset_import[0].version == 18  # onnxruntime 1.14, of 2023
    assert "GroupNormalization" not in {node.op_type for node in written.graph.node}
    said = {entry.key: entry.value for entry in written.metadata_props}
    assert said["norm"] == "gn" and json.loads(said["model"])["norm_groups"] == 2
    assert json.loads(said["classes"]) == ["袜子", "b", "c"] and json.loads(said["std"]) == [0.5, 0.125]
    assert (tmp_path / "preparation.json").exists()


def test_a_file_is_the_same_each_time(tmp_path):
    for folder in ("one", "two"):
        exported(network(), tmp_path / folder)
    assert (tmp_path / "one" / "model.onnx").read_bytes() == (tmp_path / "two" / "model.onnx").read_bytes()


def test_what_onnx_has_wrong_is_found_at_its_layer_and_not_kept(tmp_path, monkeypatch):
    right = EMITTERS[GroupNorm]
    monkeypatch.setitem(EMITTERS, GroupNorm, lambda graph, layer, x: graph.node("Neg", right(graph, layer, x)))
    with pytest.raises(RuntimeError, match=r"^backbone.stem.norm \(GroupNorm\): differs in ONNX by"):
        exported(network(), tmp_path / "export")
    assert not (tmp_path / "export").exists()


class Twice(nn.Sequential):
    """One layer, called twice."""

    def forward(self, x):
        return self[0](self[0](x))


def test_a_layer_that_is_called_twice_is_compared_twice(tmp_path, monkeypatch):
    monkeypatch.setitem(EMITTERS, Twice, lambda graph, layer, x: graph.run(layer[0], graph.run(layer[0], x)))
    model = network()
    model.backbone.stem.pool = Twice(GroupNorm(4, 2, relu=True))
    assert "gives what every layer gives" in exported(model, tmp_path)


class OtherNorm(GroupNorm):
    """Of a kind that there is an emitter for, and may compute something else."""


@pytest.mark.parametrize(
    ("layer", "path"), [(OtherNorm(4, 2), "backbone.c2.1.norm1"), (nn.Hardswish(), "backbone.c2.1.norm1")]
)
def test_a_layer_without_an_emitter_is_an_error(tmp_path, layer, path):
    model = network()
    model.backbone.c2[1].norm1 = layer
    with pytest.raises(InputError, match=rf"^onnx: {path} \({type(layer).__name__}\) cannot be written: .* GroupNorm"):
        exported(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("pool", [nn.MaxPool2D(3, 2, 1, ceil_mode=True), nn.MaxPool2D(3, 2, "SAME")], ids=str)
def test_a_pool_of_another_kind_is_an_error(tmp_path, pool):
    model = network(stem="imagenet")
    model.backbone.stem.pool = pool
    with pytest.raises(InputError, match="stem.pool .* no plain max pool"):
        exported(model, tmp_path)


def test_a_convolution_of_another_kind_is_an_error(tmp_path):
    model = network()
    model.backbone.stem.conv._padding_algorithm = "SAME"
    with pytest.raises(InputError, match="stem.conv .* padded"):
        exported(model, tmp_path)


def test_what_is_not_finite_is_not_exported(tmp_path):
    model = network()
    model.fc.bias.set_value(np.array([0, np.nan, 0], np.float32))
    with pytest.raises(InputError, match="fc.bias holds numbers that are not finite"):
        exported(model, tmp_path)


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "not compared with the model: onnxruntime cannot be imported" in exported(network(), tmp_path)
    assert (tmp_path / "model.onnx").exists()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="^onnx cannot be imported .* pip install -r requirements-export.txt$"):
        exported(network(), tmp_path)


def test_an_operator_that_onnxruntime_lacks_is_said(tmp_path, monkeypatch):
    lacking = sys.modules["onnxruntime.capi.onnxruntime_pybind11_state"].NotImplemented

    def lacks(*_):
        raise lacking("no DeformConv(19)\nin this one")

    monkeypatch.setattr(onnx_check, "_run", lacks)
    assert "cannot run it (no DeformConv(19) in this one)" in exported(network(), tmp_path)
