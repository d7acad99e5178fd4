"""VGG: shapes, numbers of parameters as published, and the values that do not fit together."""

import numpy as np
import paddle
import pytest

from models import Classifier, find_network, from_torch_names, to_torch_names, vgg
from models.cost import multiply_adds
from ops import BatchNorm, GroupNorm

THIN = {"width": 2, "norm_groups": 2, "pooled_size": 2, "head_widths": (6, 5)}


@pytest.mark.parametrize(("depth", "norm", "published"), [  # torchvision's, with 1000 classes
    (11, "none", 132_863_336), (13, "none", 133_047_848), (16, "none", 138_357_544), (19, "none", 143_667_240),
    (11, "bn", 132_868_840), (16, "bn", 138_365_992), (16, "gn", 138_365_992),
])
def test_parameters_are_as_many_as_published(depth, norm, published):
    with paddle.LazyGuard():  # counted, and never drawn
        model = Classifier(vgg(depth=depth, norm=norm), 1000)
    assert sum(parameter.size for parameter in model.parameters()) == published


def test_multiply_adds_are_as_published():
    """15.47 billion for VGG-16 (torchvision); a quarter of the width has 1/16 of them, but for the first layer's."""
    counted = multiply_adds(Classifier(vgg(width=16, norm="none", head_widths=(1024, 1024)), 250), (3, 224, 224))
    first, fc = 224**2 * 27 * 64, 250 * 1024
    assert 16 * (counted - first // 4 - fc) + first + 1000 * 4096 == 15_470_264_320


def test_a_norm_with_its_relu_stands_behind_every_convolution():
    network = vgg(depth=16, **THIN)
    names = [name for name, _ in network.named_sublayers()]
    convolutions = [name for name in names if name.startswith("conv")]
    assert convolutions[0] == "conv1_1" and convolutions[-1] == "conv5_3" and len(convolutions) == 13
    norms = [layer for layer in network.sublayers() if isinstance(layer, GroupNorm)]
    assert len(norms) == 13 and all(norm.relu for norm in norms)
    assert not [layer for layer in vgg(norm="none", **THIN).sublayers() if isinstance(layer, (BatchNorm, GroupNorm))]


def test_layers_start_by_hes_rule():
    paddle.seed(0)
    network = vgg(width=32, norm="none", pooled_size=2, head_widths=(512,))
    assert network.conv4_1.weight.numpy().std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    assert network.fc6.weight.numpy().std() == pytest.approx(np.sqrt(2 / (4 * 256)), rel=0.02)
    assert not network.conv4_1.bias.numpy().any() and not network.fc6.bias.numpy().any()


@pytest.mark.parametrize(("poolings", "size", "head", "shape"), [
    (5, 224, (), [16, 7, 7]), (5, 32, (), [16, 1, 1]), (3, 28, (), [16, 3, 3]), (4, 40, (9,), [9, 1, 1]),
    (5, 64, (9, 8), [8, 1, 1]),
])
def test_shapes_by_poolings_and_head(poolings, size, head, shape):
    network = vgg(width=2, norm_groups=2, poolings=poolings, head_widths=head)
    network.eval()
    assert network(paddle.zeros([2, 3, size, size]))["c5"].shape == [2, *shape]
    assert network.out_channels["c5"] == shape[0]


def test_images_that_the_pools_leave_nothing_of_are_an_error():
    with pytest.raises(ValueError, match="images of 28 x 40, expected 32 pixels a side or more for 5 poolings"):
        vgg(**THIN)(paddle.zeros([1, 3, 28, 40]))


@pytest.mark.parametrize(("values", "said"), [
    ({"width": 0}, "width: 0"), ({"pooled_size": 0}, "pooled_size: 0"), ({"head_widths": (3, -1)}, "head_widths: -1"),
    ({"head_widths": (3, 3, 3)}, "3 hidden layers, expected 2 at most"), ({"dropout": 1.0}, "dropout: 1.0"),
])
def test_values_that_do_not_fit_are_an_error(values, said):
    with pytest.raises(ValueError, match=said):
        vgg(**{**THIN, **values})


def test_dropout_is_of_training_alone():
    paddle.seed(0)
    network = vgg(**{**THIN, "head_widths": (64,)}, norm="none", dropout=0.5)
    image = paddle.randn([1, 3, 32, 32])
    assert not np.array_equal(network(image)["c5"].numpy(), network(image)["c5"].numpy())
    network.eval()
    assert np.array_equal(network(image)["c5"].numpy(), network(image)["c5"].numpy())


# Of torchvision's vgg16 and vgg16_bn: convolutions, the norms behind them, and the linear layers.
FEATURES = {
    "none": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "bn": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
}


@pytest.mark.parametrize("norm", FEATURES)
def test_torchvisions_names_in_and_out(norm):
    state = state_of(norm)
    theirs = to_torch_names(state)
    wanted = [f"features.{index}.{entry}" for index in FEATURES[norm] for entry in ("weight", "bias")]
    entries = ("weight", "bias", "running_mean", "running_var")
    wanted += [f"features.{index + 1}.{entry}" for index in FEATURES[norm] if norm == "bn" for entry in entries]
    wanted += [f"classifier.{index}.{entry}" for index in (0, 3, 6) for entry in ("weight", "bias")]
    assert theirs.keys() == set(wanted)
    assert theirs["classifier.0.weight"].shape == (6, 64) and theirs["classifier.6.weight"].shape == (3, 5)
    assert_alike(from_torch_names({**theirs, "features.1.num_batches_tracked": np.array(3)}), state)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("norm", ["none", "bn", "gn"])
def test_a_file_of_torchs_or_of_ours_is_found(depth, norm):
    state = state_of(norm, depth=depth)
    theirs = to_torch_names(state)
    spread = {name.replace("features.", "features.module."): value for name, value in theirs.items()}
    for tree in (theirs, {"state_dict": {f"module.{name}": value for name, value in theirs.items()}}, spread):
        network = find_network(tree)
        assert_alike(network.state, state)
        assert str(network).startswith(f"PyTorch's VGG-{depth} of width 2, 3 classes")
    own = find_network({"model": state})
    assert_alike(own.state, state)
    assert own.is_ours and str(own).startswith(f"this project's VGG-{depth} of width 2, 3 classes under model")


def test_a_file_of_paddle_visions_is_found():
    state = state_of("bn")
    renamed = {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): value.T if value.ndim == 2 else value
        for name, value in to_torch_names(state).items()
    }
    network = find_network(renamed)
    assert_alike(network.state, state)
    assert str(network).startswith("paddle.vision's VGG-16 of width 2") and "; batch norm" in str(network)


def test_alexnet_is_no_vgg():
    """Its first convolutions have the indices of VGG-11's."""
    indices = {"features": (0, 3, 6, 8, 10), "classifier": (1, 4, 6)}
    network = find_network({f"{part}.{at}.weight": np.ones((2, 2)) for part in indices for at in indices[part]})
    assert network.source is None


def test_an_entry_that_no_vgg_has_is_an_error():
    with pytest.raises(ValueError, match="conv6_1.weight: torchvision's VGGs have no such entry"):
        to_torch_names({**state_of("none"), "conv6_1.weight": np.ones(1)})


def state_of(norm, **changes):
    model = Classifier(vgg(**{**THIN, "norm": norm, **changes}), 3)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def assert_alike(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
