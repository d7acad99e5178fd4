"""Weights for PyTorch: torchvision's and timm's names, shapes and dtypes, and the same network behind them.

torchvision may live in another Python, named by TORCHVISION_PYTHON: where there is none, the last test is skipped.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import paddle
import pytest

from data import Preparation
from engine.build import build_model
from engine.config import load_config
from engine.config.sections import MODEL_SECTIONS
from engine.errors import InputError
from engine.tasks import task_of
from engine.tasks.export import export_torch, torch_format
from engine.weights.pretrained import read_network

safetensors = pytest.importorskip(
    "safetensors.numpy", reason="safetensors, of requirements-export.txt, is not installed"
)
PYTHON = os.environ.get("TORCHVISION_PYTHON") or (
    sys.executable if importlib.util.find_spec("torchvision") is not None else None
)


def exported(folder, channels=3, **arguments):
    """(model, what was said, {name: array} of the file); the norms' vectors and statistics are not at their start."""
    text = ", ".join(f"{key}: {value}" for key, value in {"name": "resnet", **arguments}.items())
    (folder / "config.yaml").write_text(f"model: {{{text}}}\ndata: {{name: synthetic}}\n")
    config = load_config(folder / "config.yaml")
    preparation = Preparation(tuple("abcdefg"), (channels, 64, 64), (0.5,) * channels, (0.5,) * channels)
    model = build_model(config, preparation)
    random = np.random.default_rng(0)
    for name, entry in model.state_dict().items():
        if ".offset." in name:
            entry.set_value(random.normal(0, 0.02, entry.shape).astype(np.float32))
        elif entry.ndim == 1:
            entry.set_value(random.uniform(0.5, 1.5, entry.shape).astype(np.float32))
    model.eval()
    said = export_torch(model, task_of("resnet"), preparation, folder / "export", config.model.model_dump())
    return model, said, safetensors.load_file(folder / "export" / "model.safetensors")


def listed(state):
    """SHA-256 of the names, shapes and dtypes."""
    lines = sorted(f"{name} {list(value.shape)} {value.dtype}" for name, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(  # of state_dict() of torchvision 0.29.1 and timm 1.0.31 with 7 classes
    ("arguments", "theirs"),
    [
        ({"depth": 18, "norm": "bn"}, "59ca86875c69e87d6e01ff6a0c7c0f68f4bb41bc496351c2cb393443b9a8b4a6"),
        ({"depth": 50, "norm": "sync_bn"}, "ef5eaee2d5577686f8dc1f1c9b824268dc4a86e9ac17927903fe831120f1d337"),
        ({"depth": 50, "norm": "gn"}, "1af90d9d19643e8fa1b9fbc47f1867ceb92bf051c0770edfe27f9d14542cb74e"),
    ],
    ids=str,
)
def test_the_entries_are_those_of_torchvision_and_timm(tmp_path, arguments, theirs):
    assert listed(exported(tmp_path, **arguments)[2]) == theirs


@pytest.mark.parametrize("arguments", [
    {"depth": 26, "norm": "bn", "stem": "medium"},
    {"depth": 26, "norm": "gn", "norm_groups": 2, "deformable_stages": "[c3, c5]"},
    {"name": "vgg", "norm": "bn", "head_widths": "[6, 5]"}, {"name": "vgg", "norm": "none", "head_widths": "[]"},
], ids=str)
def test_out_and_in_again_is_the_same_bit_for_bit(tmp_path, arguments):
    model, said, _ = exported(tmp_path, channels=1, width=4, **arguments)
    network, stride_in = read_network(tmp_path / "export" / "model.safetensors")
    wanted = {name: value.numpy() for name, value in model.state_dict().items()}
    assert network.state.keys() == wanted.keys() and stride_in == (None if "name" in arguments else "3x3")
    assert all(np.array_equal(network.state[name], wanted[name]) for name in wanted)
    assert said.startswith("torchvision has no such network (width: 4; ") and "input channels: 1" in said


@pytest.mark.parametrize(("arguments", "said"), [
    ({"depth": 50, "width": 4, "norm": "bn", "stride_in": "1x1"}, "stride_in: 1x1"),
    ({"depth": 18, "width": 4, "norm": "bn", "dilated_stages": "[c4, c5]"}, r"dilated_stages: \[c4, c5\]"),
    ({"name": "vgg", "width": 4, "norm_groups": 2, "poolings": 4, "head_widths": "[]"}, "poolings: 4"),
    ({"name": "vgg", "width": 4, "norm": "bn", "norm_eps": 0.1, "head_widths": "[]"}, "norm_eps: 0.1"),
])
def test_what_torchvision_would_take_and_compute_otherwise_is_refused(tmp_path, arguments, said):
    with pytest.raises(InputError, match=f"^torch: .*{said} and compute something else"):
        exported(tmp_path, **arguments)
    assert not (tmp_path / "export").exists()


def test_a_vgg_is_named_or_what_keeps_it_from_being_one_of_torchvisions():
    section = MODEL_SECTIONS["vgg"](name="vgg", norm="none").model_dump()
    assert torch_format._misfits(section, 3) == []
    assert torch_format._constructor(section, 7) == "torchvision.models.vgg16(num_classes=7)"
    assert torch_format._misfits({**section, "norm": "gn", "head_widths": (64,), "pooled_size": 2}, 3) == [
        "pooled_size: 2", "head_widths: [64]", "norm: gn",
    ]
    section |= {"norm": "bn", "depth": 19, "dropout": 0.1}
    assert torch_format._constructor(section, 7) == "torchvision.models.vgg19_bn(num_classes=7, dropout=0.1)"


def test_a_basic_block_has_no_other_stride(tmp_path):
    assert "width: 4" in exported(tmp_path, depth=18, width=4, norm="bn", stride_in="1x1")[1]


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(InputError, match="^safetensors cannot be imported .* pip install -r requirements-export.txt$"):
        exported(tmp_path, depth=18, width=4, norm="bn")
    assert not (tmp_path / "export").exists()


SCRIPT = """
import sys
import numpy as np, torch, torchvision
from safetensors import safe_open
from safetensors.torch import load_file

image = torch.from_numpy(np.load(sys.argv[1]))

class Deformable(torchvision.ops.DeformConv2d):
    def __init__(self, plain):
        super().__init__(plain.in_channels, plain.out_channels, 3, plain.stride, plain.padding, bias=False)
        self.offset = torch.nn.Conv2d(plain.in_channels, 27, 3, plain.stride, plain.padding)

    def forward(self, x):
        offset, mask = self.offset(x).split([18, 9], dim=1)
        return super().forward(x, offset, 2 * mask.sigmoid())

def deformable():
    network = torchvision.models.resnet18(num_classes=7)
    for block in network.layer4:
        block.conv2 = Deformable(block.conv2)
    return network

for path in sys.argv[2:]:
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    networks = [eval(notes["network"] or "deformable()")]
    if "resnet50" in notes["network"]:
        import timm
        networks.append(timm.create_model("resnet50_gn", num_classes=7))
    for number, network in enumerate(networks):
        network.load_state_dict(load_file(path), strict=True)
        with torch.no_grad():
            np.save(f"{path}.{number}.npy", network.eval()(image).numpy())
"""


@pytest.mark.skipif(PYTHON is None, reason="no torchvision here; TORCHVISION_PYTHON can name a Python that has it")
def test_pytorch_computes_the_same(tmp_path):
    networks = [
        {"depth": 18, "norm": "bn", "norm_eps": 0.01},
        {"depth": 50, "norm": "gn"},
        {"depth": 26, "norm": "frozen_bn"},
        {"depth": 18, "norm": "ln"},
        {"depth": 18, "norm": "in", "norm_eps": 0.01},
        {"depth": 18, "norm": "gn", "norm_channels_per_group": 16},
        {"depth": 18, "norm": "bn", "deformable_stages": "[c5]"},
    ]
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    wanted = {}
    for number, arguments in enumerate(networks):
        folder = tmp_path / str(number)
        folder.mkdir()
        model, said, _ = exported(folder, **arguments)
        assert said.endswith("takes it with strict=True") or "deformable_stages" in said
        with paddle.no_grad():
            wanted[folder / "export" / "model.safetensors"] = model.logits(paddle.to_tensor(image)).numpy()
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, tmp_path / "image.npy", *wanted], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for path, logits in wanted.items():
        given = sorted(path.parent.glob("*.npy"))
        assert len(given) == 1 + (path.parent.parent.name == "1")
        for each in given:
            np.testing.assert_allclose(np.load(each), logits, rtol=0, atol=1e-4 * np.abs(logits).max())
