"""Detectron's and tensorpack's files, made by hand of a network that is known: read, they are that network again."""

import pickle

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from data.transforms import MEAN, STD
from engine.weights import read_network
from models import Classifier, load_weights, resnet
from models.weights import layout

DEEP = {"depth": 26, "width": 2, "norm_groups": 2}
MEANS = np.array([122.7717, 115.9465, 102.9801])  # Detectron's, of R, G, B


def known(norm, **changes):
    """A network with random weights, gammas, betas and statistics, and its arrays."""
    random = np.random.default_rng(0)
    model = Classifier(resnet(**{**DEEP, "norm": norm, **changes}), 5)
    for name, value in model.state_dict().items():
        if len(value.shape) == 1:
            middle = 0.0 if name.endswith(("bias", "_mean")) else 0.8
            value.set_value((middle + 0.1 * random.normal(size=value.shape)).astype("float32"))
    model.eval()
    return model, {name: value.numpy() for name, value in model.state_dict().items()}


def parts(name):
    """backbone.c3.1.conv2.weight -> (3, 1, "conv2", "weight"); the stem is stage 1."""
    *layer, entry = name.removeprefix("backbone.").split(".")
    if layer[0] == "stem":
        return 1, 0, layer[1], entry
    return int(layer[0][1]), int(layer[1]), ".".join(layer[2:]), entry


def detectron(state, norm):
    """The arrays under Detectron's names, for its inputs: written out, without the tables that are tested."""
    blobs = {"pred_w": state["fc.weight"].T, "pred_b": state["fc.bias"], "pred_b_momentum": np.ones(5)}
    branches = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut.conv": "branch1"}
    for name, conv in state.items():
        if "conv" not in name:
            continue
        stage, block, layer, _ = parts(name)
        theirs = f"res{stage}_{block}_{branches[layer]}" if stage > 1 else "conv1"
        weight, bias, mean, variance = (
            state.get(name.replace("conv", "norm").removesuffix("weight") + entry)
            for entry in ("weight", "bias", "_mean", "_variance")
        )
        blobs[f"{theirs}_w"] = conv
        if norm == "gn":
            blobs[f"{theirs}_gn_s"], blobs[f"{theirs}_gn_b"] = weight, bias
            continue
        theirs = theirs if stage > 1 else "res_conv1"
        blobs[f"{theirs}_bn_s"] = scale = weight / np.sqrt(variance + np.float32(1e-5))
        blobs[f"{theirs}_bn_b"] = bias - mean * scale
    blobs["conv1_w"] = (blobs["conv1_w"] / (255 * np.array(STD))[:, None, None])[:, ::-1].astype("float32")
    if norm != "gn":  # what its inputs have more than ours is taken off again
        more = np.einsum("oihw,i->o", blobs["conv1_w"].astype(float), (255 * np.array(MEAN) - MEANS)[::-1])
        blobs["res_conv1_bn_b"] = (blobs["res_conv1_bn_b"] - blobs["res_conv1_bn_s"] * more).astype("float32")
    return blobs


def tensorpack(state, norm):
    """The arrays under tensorpack's names and in its layout."""
    found = {"linear/W:0": state["fc.weight"], "linear/b:0": state["fc.bias"], "global_step:0": np.ones(1)}
    after = {"weight": "gamma", "bias": "beta", "_mean": "mean/EMA", "_variance": "variance/EMA"}
    for name, value in state.items():
        if name.startswith("fc."):
            continue
        stage, block, layer, entry = parts(name)
        conv = "convshortcut" if "shortcut" in layer else f"conv{layer[-1]}"
        base = f"group{stage - 2}/block{block}/{conv}" if stage > 1 else "conv0"
        found[f"{base}/W:0" if "conv" in layer else f"{base}/{norm}/{after[entry]}:0"] = (
            value.transpose(2, 3, 1, 0) if "conv" in layer else value
        )
    found["conv0/W:0"] = found["conv0/W:0"][:, :, ::-1]
    return found


def assert_alike(network, model, state, tolerance=1e-4, **changes):
    """What the network of a file gives is what the model that it was made of gives, stage by stage."""
    copy = Classifier(resnet(**{**DEEP, **changes}), 5)
    report = load_weights(copy, state)
    assert not report.missing and not report.unexpected and not report.reshaped and not report.other_norms, str(report)
    copy.eval()
    image = paddle.randn([2, 3, 48, 40])
    with paddle.no_grad():
        found, wanted = ({**each.backbone(image), "logits": each({"image": image})} for each in (copy, model))
    for stage, value in wanted.items():
        assert float((found[stage] - value).abs().max()) <= tolerance * float(value.abs().max()), stage


def write_pkl(path, blobs):
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "MODEL: {}"}, 2))
    return path


def test_a_normal_input_is_what_the_pictures_of_this_project_become():
    np.testing.assert_array_equal((layout.MEAN, layout.STD), (MEAN, STD))


def test_detectrons_group_norm_network(tmp_path):
    model, state = known("gn")
    network, stride_in = read_network(write_pkl(tmp_path / "R-50-GN.pkl", detectron(state, "gn")))
    assert stride_in == "3x3" and "Detectron's ResNet-26 of width 2, 5 classes under blobs" in str(network)
    changes = "the stem turned from BGR to RGB and scaled for normalised inputs, the means of pixels 0.9 of 255 apart"
    assert changes in str(network)
    assert_alike(network, model, network.state, norm="gn")


def test_detectrons_folded_batch_norm_network(tmp_path):
    model, state = known("frozen_bn", stride_in="1x1")
    network, stride_in = read_network(write_pkl(tmp_path / "R-50.pkl", detectron(state, "bn")))
    assert stride_in == "1x1" and "batch norm folded into scale and shift" in str(network)
    assert "scaled for normalised inputs, the means of pixels taken into its norm" in str(network)
    assert_alike(network, model, network.state, norm="frozen_bn", stride_in="1x1")


def test_a_stem_from_detectron_sees_pictures_as_it_did_there(tmp_path):
    """On pixels of 0 to 255, blue first, less Detectron's means: away from the border, where zeros are padded."""
    _, state = known("frozen_bn")
    blobs = {name: np.asarray(value, "float32") for name, value in detectron(state, "bn").items()}
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 3, 32, 32))
    theirs = paddle.to_tensor((pixels[:, ::-1] - MEANS[::-1, None, None]).astype("float32"))
    theirs = F.conv2d(theirs, paddle.to_tensor(blobs["conv1_w"]), stride=2, padding=3).numpy()
    scale, shift = (blobs[f"res_conv1_bn_{entry}"][:, None, None] for entry in "sb")
    model = Classifier(resnet(**DEEP, norm="frozen_bn"), 5)
    load_weights(model, read_network(write_pkl(tmp_path / "x.pkl", blobs))[0].state)
    ours = (pixels / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    stem = model.backbone.stem
    ours = stem.norm(stem.conv(paddle.to_tensor(ours.astype("float32")))).numpy()
    inside = (..., slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(ours[inside], np.maximum(theirs * scale + shift, 0)[inside], atol=1e-4)


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_tensorpacks_network(tmp_path, norm):
    model, state = known(norm)
    np.savez_compressed(tmp_path / "x.npz", **tensorpack(state, norm))
    network, stride_in = read_network(tmp_path / "x.npz")
    assert stride_in == ("3x3" if norm == "gn" else None) and "the stem turned from BGR to RGB" in str(network)
    assert_alike(network, model, network.state, tolerance=0, norm=norm)
