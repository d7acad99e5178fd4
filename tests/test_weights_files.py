"""Files that PyTorch wrote, read without it: every form, and each stage answers as it did there.

The committed ones are thin networks; tests/weights/make_files.py says what they are and makes them. With torchvision
and timm in the Python that TORCHVISION_PYTHON names, torchvision's and timm's own networks are compared too.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest

from engine.weights import read_network
from engine.weights.reading import read_tree
from models import Classifier, from_torch_names, load_weights, resnet, to_torch_names

FILES = Path(__file__).parent / "weights"
THIN = {
    "basic": {"depth": 18, "width": 2, "norm": "bn"}, "deep": {"depth": 26, "width": 2, "norm": "bn"},
    "grouped": {"depth": 26, "width": 2, "norm": "gn", "norm_groups": 2},
}
FULL = {
    "resnet18": {"depth": 18, "norm": "bn"}, "resnet50": {"norm": "bn"}, "resnet101": {"depth": 101, "norm": "bn"},
    "resnet50_gn": {"norm": "gn"},
}
PYTHON = os.environ.get("TORCHVISION_PYTHON")


def arrays(tree):
    return {name: value for name, value in tree.items() if isinstance(value, np.ndarray)}


def assert_answers_alike(path, answers, **network):
    """The network in a file answers at each stage as what was noted beside it."""
    model = Classifier(resnet(**network), answers["logits"].shape[1])
    report = load_weights(model, read_network(path)[0].state)
    assert str(report) == f"{len(model.state_dict())} matched"
    model.eval()
    image = paddle.to_tensor(answers["image"])
    with paddle.no_grad():
        found = {**model.backbone(image), "logits": model({"image": image})}
    for stage, value in found.items():
        scale = np.abs(answers[stage]).max()
        assert np.abs(value.numpy() - answers[stage]).max() <= 1e-4 * scale, stage


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("basic.legacy.pth", "PyTorch's ResNet-18 of width 2, 5 classes; batch norm"),
        ("basic.safetensors", "PyTorch's ResNet-18 of width 2, 5 classes; batch norm"),
        ("deep.checkpoint.pth", "PyTorch's ResNet-26 of width 2, 5 classes under state_dict, module.; batch norm"),
        ("grouped.ema.pth", "PyTorch's ResNet-26 of width 2, 5 classes under model_ema; norms without statistics"),
    ],
)
def test_each_form_answers_as_in_pytorch(file, words):
    name = file.partition(".")[0]
    network, stride_in = read_network(FILES / file)
    assert str(network).startswith(words) and stride_in == "3x3"
    assert_answers_alike(FILES / file, np.load(FILES / f"{name}.npz"), **THIN[name])


@pytest.mark.parametrize(("file", "dtype"), [("basic.half.pth", "float16"), ("basic.bfloat16.safetensors", "bfloat16")])
def test_half_precision_is_read_as_it_was_rounded(file, dtype):
    model = Classifier(resnet(**THIN["basic"]), 5)
    report = load_weights(model, read_network(FILES / file)[0].state)
    assert str(report) == f"102 matched; 102 converted from {dtype}"
    for name, value in read_network(FILES / "basic.safetensors")[0].state.items():
        rounded = nearest(value, dtype)
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), rounded, err_msg=name)


def nearest(value, dtype):
    """As PyTorch rounds, to the nearest and ties to even; Paddle 2.6 cuts off."""
    if dtype == "float16":
        return value.astype(np.float16).astype(np.float32)
    bits = value.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def assert_comes_back(state):
    """A state dict of PyTorch's is the same bit for bit when it was in a network here, but for counters."""
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    ours = from_torch_names(state)
    model = Classifier(resnet(**_network_of(ours)), ours["fc.bias"].size)
    load_weights(model, ours)
    back = to_torch_names({name: value.numpy() for name, value in model.state_dict().items()})
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert value.tobytes() == back[name].tobytes() and value.shape == back[name].shape, name


def _network_of(ours):
    counts = [sum(f"backbone.c{k}.{n}.conv1.weight" in ours for n in range(40)) for k in (2, 3, 4, 5)]
    deep = "backbone.c2.0.conv3.weight" in ours
    depth = {(2, 2, 2, 2): 26 if deep else 18, (3, 4, 6, 3): 50 if deep else 34, (3, 4, 23, 3): 101}[tuple(counts)]
    norm = "bn" if "backbone.stem.norm._mean" in ours else "gn"
    width = len(ours["backbone.stem.norm.bias"])
    return {"depth": depth, "width": width, "norm": norm, "norm_groups": min(32, width)}


@pytest.mark.parametrize(
    ("file", "at"),
    [("basic.safetensors", None), ("basic.legacy.pth", None), ("grouped.ema.pth", "model_ema")],
)
def test_in_and_out_again_is_the_same_bit_for_bit(file, at):
    tree, _ = read_tree(FILES / file)
    assert_comes_back(arrays(tree[at] if at else tree))


def test_what_pytorchs_networks_have_no_place_for_has_no_name_there():
    with pytest.raises(ValueError, match="c5.0.conv4.weight: torchvision's ResNets have no such entry"):
        to_torch_names({"backbone.c5.0.conv4.weight": np.ones(1)})


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    if PYTHON is None:
        pytest.skip("no torchvision and timm: let TORCHVISION_PYTHON be a Python that has them")
    folder = tmp_path_factory.mktemp("full")
    subprocess.run([PYTHON, FILES / "make_files.py", "full", folder], check=True)
    return folder


@pytest.mark.parametrize("name", FULL)
def test_torchvisions_and_timms_networks_answer_as_there(full, name):
    assert_answers_alike(full / f"{name}.pth", np.load(full / f"{name}.npz"), **FULL[name])
    tree, _ = read_tree(full / f"{name}.pth")
    assert_comes_back(arrays(tree))
