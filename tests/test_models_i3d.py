"""I3D: the non-local paper's layer table, inflation of image networks, and every norm over clips."""

from typing import get_args

import numpy as np
import paddle
import pytest
from test_models_resnet import arrays, randomise_statistics

from models import Classifier, ClipClassifier, find_network, i3d, inflated, load_weights, resnet
from models.cost import multiply_adds
from models.norm import Norm, batch_norms, norms_of_one_value
from models.passing import see_layers
from ops import Conv3D

THIN = {"width": 8, "norm_groups": 4}
# Of conv1, pool1, c2, pool2, c3, c4 and c5: frames and the side of the map, for clips of 32 x 224 x 224.
TABLE = {
    "32x2": ({}, 32, [(16, 112), (8, 55), (8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
    "8x8": ({"stem_time_stride": 1}, 32, [(32, 112), (32, 55), (32, 55), (16, 55), (16, 28), (16, 14), (16, 7)]),
    "8x8, of 8": ({"stem_time_stride": 1}, 8, [(8, 112), (8, 55), (8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
    "padded": ({"stem_pool_padding": 1}, 8, [(4, 112), (2, 56), (2, 56), (1, 56), (1, 28), (1, 14), (1, 7)]),
}


@pytest.mark.parametrize("values, frames, expected", TABLE.values(), ids=TABLE)
@paddle.no_grad()
def test_the_layer_table_by_shapes(values, frames, expected):
    network = i3d(width=4, norm_groups=2, **values)
    x, seen = paddle.zeros([1, 3, frames, 224, 224]), []
    for layer in (
        network.stem.conv, network.stem.pool, network.c2, network.before["c3"], network.c3, network.c4, network.c5,
    ):
        x = layer(x)
        seen.append((x.shape[2], x.shape[3]))
        assert x.shape[3] == x.shape[4]
    assert seen == expected and x.shape[1] == network.out_channels["c5"] == 4 * 8 * 4


def test_which_convolutions_look_at_other_frames():
    network, kernels, strides = i3d(width=4, norm_groups=2), {}, set()
    for name, layer in network.named_sublayers():
        if isinstance(layer, Conv3D):
            kernels[name] = list(layer.weight.shape[2:])
            strides.add((name, *layer._stride)) if layer._stride[0] != 1 else None
    assert kernels.pop("stem.conv") == [5, 7, 7] and strides == {("stem.conv", 2, 2, 2)}
    in_time = {name for name, kernel in kernels.items() if kernel[0] > 1}
    places = {"c2": (0, 1, 2), "c3": (0, 2), "c4": (0, 2, 4), "c5": (1,)}
    assert in_time == {f"{stage}.{block}.conv1" for stage, blocks in places.items() for block in blocks}
    assert all(kernels[name] == [3, 1, 1] for name in in_time)
    assert all(kernel == [1, 3, 3] for name, kernel in kernels.items() if name.endswith("conv2"))
    assert all(kernel == [1, 1, 1] for name, kernel in kernels.items() if name.endswith(("conv3", "shortcut.conv")))


def test_parameters_are_those_of_the_published_network():
    """28.04 million with the head of 400 classes, as SlowFast's model zoo counts I3D ResNet-50; 27.22 without."""
    model = ClipClassifier(i3d(norm="bn"), 400)
    assert sum(parameter.size for parameter in model.parameters()) == 28_043_472
    assert sum(parameter.size for parameter in model.backbone.parameters()) == 27_223_872


@pytest.mark.parametrize("depth", [18, 26, 34, 101])
def test_any_depth_and_stem(depth):
    stems = {"imagenet": 2, "medium": 4, "small": 8}
    for stem, side in stems.items():
        network = i3d(depth=depth, stem=stem, stem_time_stride=1, stem_pool_padding=1, **THIN)
        assert network(paddle.zeros([1, 3, 4, 64, 48]), last="c4")["c4"].shape[2:] == [2, 2 * side, 3 * side // 2]


def still_clip(frames, size=(33, 48), seed=0):
    image = paddle.to_tensor(np.random.default_rng(seed).normal(size=[2, 3, *size]).astype("float32"))
    return image, image.unsqueeze(2).expand([2, 3, frames, *size])


@pytest.mark.parametrize("depth", [18, 50])
@paddle.no_grad()
def test_a_still_clip_gives_the_image_networks_response_on_interior_frames(depth):
    """Every stage of the whole network, in evaluation: the border of time is farther off than anything looks."""
    values = {"depth": depth, "width": 8, "norm": "bn", "zero_init_last_norm": False}
    paddle.seed(1)
    of_images, of_clips = resnet(**values), i3d(**values, stem_pool_padding=1)
    randomise_statistics(of_images)
    report = load_weights(of_clips, inflated(arrays(of_images), of_clips))
    assert not (report.missing or report.unexpected or report.reshaped)
    of_images.eval()
    of_clips.eval()
    image, clip = still_clip(frames=128)
    expected, got = of_images(image), of_clips(clip)
    for stage, features in expected.items():
        middle = got[stage].shape[2] // 2
        inner = got[stage][:, :, middle - 1 : middle + 1]
        scale = max(1.0, float(features.abs().max()))
        assert float((inner - features.unsqueeze(2)).abs().max()) <= 1e-4 * scale, stage
    assert float((got["c5"][:, :, 0] - expected["c5"]).abs().max()) > 1e-3  # zeros beyond the border weaken it


@paddle.no_grad()
def test_inflation_is_copies_divided_by_their_number_convolution_by_convolution():
    of_images, of_clips = Classifier(resnet(width=4, norm="bn"), 10), ClipClassifier(i3d(width=4, norm="bn"), 10)
    state = arrays(of_images)
    report = load_weights(of_clips, inflated(state, of_clips))
    assert report.missing == ["fc.bias", "fc.weight"] and not report.reshaped and not report.unexpected
    for name, layer in of_clips.named_sublayers():
        if isinstance(layer, Conv3D):
            frames, kernel = layer.weight.shape[2], state[f"{name}.weight"]
            for frame in range(frames):
                np.testing.assert_allclose(layer.weight[:, :, frame].numpy(), kernel / frames, rtol=1e-6)
    halves = (state["backbone.stem.conv.weight"].view(np.uint32) >> 16).astype(np.uint16)  # bfloat16, as Paddle has it
    rounded = inflated({**state, "backbone.stem.conv.weight": halves}, of_clips)["backbone.stem.conv.weight"]
    np.testing.assert_allclose(rounded.sum(axis=2), state["backbone.stem.conv.weight"], rtol=1e-2)
    assert inflated(state, of_images).keys() == state.keys()  # nothing to inflate: the linear layer stays


@paddle.no_grad()
def test_paddles_own_resnet50_can_be_inflated():
    theirs, ours = paddle.vision.models.resnet50(num_classes=10), ClipClassifier(i3d(norm="frozen_bn"), 400)
    report = load_weights(ours, inflated(find_network(arrays(theirs)).state, ours))
    assert report.missing == ["fc.bias", "fc.weight"] and not report.reshaped and not report.unexpected


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("depth", [18, 26])
def test_every_norm_trains(norm, depth):
    model = ClipClassifier(i3d(depth=depth, norm=norm, stem="small", stem_time_stride=1, **THIN), 3)
    outputs = model({"clip": paddle.randn([4, 3, 4, 12, 16]), "label": paddle.to_tensor([0, 1, 2, 0])})
    outputs["loss"].backward()
    assert float(outputs["loss"]) > 0 and 0 <= float(outputs["top1_error"]) <= 1
    assert all(parameter.grad is not None for parameter in model.parameters() if not parameter.stop_gradient)
    model.eval()
    assert model({"clip": paddle.randn([2, 3, 4, 12, 16])}).shape == [2, 3]


def test_clips_of_a_worker_share_statistics_and_no_others():
    """Each half of a step normalised as if it were alone, over its frames too; the running ones are the first's."""
    paddle.seed(0)
    values = {"depth": 18, "width": 8, "norm": "bn", "stem": "small", "stem_time_stride": 1}
    of_workers, alone = i3d(**values, bn_images_per_worker=2), i3d(**values)
    alone.set_state_dict(of_workers.state_dict())
    x = paddle.randn([4, 3, 4, 10, 9]) + paddle.arange(4).astype("float32").reshape([4, 1, 1, 1, 1])
    together = of_workers(x)["c5"]
    second, first = alone(x[2:])["c5"], None
    for layer in batch_norms(alone):
        layer._mean.set_value(paddle.zeros_like(layer._mean))
        layer._variance.set_value(paddle.ones_like(layer._variance))
    first = alone(x[:2])["c5"]
    np.testing.assert_allclose(together.numpy(), paddle.concat([first, second]).numpy(), rtol=1e-3, atol=1e-4)
    for one, other in zip(batch_norms(of_workers), batch_norms(alone), strict=True):
        np.testing.assert_allclose(one._mean.numpy(), other._mean.numpy(), rtol=1e-3, atol=1e-5)


def test_group_norm_does_not_see_the_other_clips():
    network = i3d(depth=26, stem="small", stem_time_stride=1, zero_init_last_norm=False, **THIN)
    x = paddle.randn([3, 3, 4, 10, 9])
    np.testing.assert_allclose(network(x)["c5"][1:2].numpy(), network(x[1:2])["c5"].numpy(), rtol=1e-3, atol=1e-4)


@paddle.no_grad()
def test_no_layer_sees_frames_as_images():
    """Nothing folds time into the batch: whatever a layer is given, its first axis is that of the clips."""
    model, seen = ClipClassifier(i3d(depth=50, width=4, norm_groups=2), 3), []
    see_layers(model, (paddle.nn.Layer,), lambda name, layer, x, y, _: seen.append((name, x.shape)), (3, 8, 32, 32))
    assert len(seen) > 140 and all(shape[0] == 1 for _, shape in seen)
    assert {len(shape) for name, shape in seen if name.startswith("backbone.")} == {5}


@paddle.no_grad()
def test_evaluation_averages_the_softmax_over_places_and_views():
    paddle.seed(0)
    backbone = i3d(depth=18, stem="small", stem_time_stride=1, zero_init_last_norm=False, **THIN)
    model = ClipClassifier(backbone, 3, pool_window=(2, 2, 1))
    model.fc.weight.set_value(5 * paddle.randn(model.fc.weight.shape))
    model.eval()
    clip = paddle.randn([2, 5, 3, 6, 24, 16])  # five views; in c5 of 3 x 3 x 2 a window of 2 x 2 x 1 has 8 places
    features = [backbone(clip[:, view])["c5"].numpy() for view in range(5)]
    assert features[0].shape[2:] == (3, 3, 2)
    expected, weight, bias = np.zeros([2, 3]), model.fc.weight.numpy(), model.fc.bias.numpy()
    for view in features:
        for t, h, w in np.ndindex(2, 2, 2):
            logits = view[:, :, t : t + 2, h : h + 2, w].mean(axis=(2, 3)) @ weight + bias
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
            expected += exponents / exponents.sum(axis=1, keepdims=True) / 40
    got = paddle.nn.functional.softmax(model({"clip": clip}), axis=1).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(got - paddle.nn.functional.softmax(model({"clip": clip[:, 0]}), axis=1).numpy()).max() > 1e-3
    whole = ClipClassifier(backbone, 3, pool_window=(9, 9, 9))
    whole.set_state_dict(model.state_dict())
    whole.eval()
    logits = features[0].mean(axis=(2, 3, 4)) @ weight + bias
    np.testing.assert_allclose(whole({"clip": clip[:, 0]}).numpy(), logits, rtol=1e-3, atol=1e-4)


def test_dropout_is_of_training_alone_and_follows_the_seed():
    model = ClipClassifier(i3d(depth=18, stem="small", stem_time_stride=1, **THIN), 3, dropout=0.9)
    batch = {"clip": paddle.randn([2, 3, 4, 8, 8]), "label": paddle.to_tensor([0, 2])}
    losses = []
    for seed in (1, 1, 2):
        paddle.seed(seed)
        losses.append(float(model(batch)["loss"]))
    assert losses[0] == losses[1] != losses[2]
    model.eval()
    assert bool((model(batch) == model(batch)).all())


def test_clips_of_too_few_frames_are_refused():
    for values, fewest in (
        ({}, 7), ({"stem_time_stride": 1}, 2), ({"stem": "small"}, 3), ({"stem": "small", "stem_time_stride": 1}, 2),
    ):
        network = i3d(depth=18, **THIN, **values)
        assert network(paddle.zeros([1, 3, fewest, 32, 32]))["c5"].shape[2] == 1
        with pytest.raises(ValueError, match=f"clips of {fewest - 1} frames, expected {fewest} or more"):
            network(paddle.zeros([1, 3, fewest - 1, 32, 32]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 0}, "width: 0, expected 1 or more"), ({"norm_groups": 3}, "3 groups do not divide"),
        ({"norm": "batch"}, "expected one of bn, gn"), ({"bn_momentum": 2.0}, "bn_momentum 2.0 from 0 to 1"),
    ],
)
def test_values_that_do_not_fit(values, words):
    with pytest.raises(ValueError, match=words):
        i3d(**{"depth": 18, "width": 8, "norm_groups": 4, **values})
    for head, words in (({"dropout": 1.0}, "dropout: 1.0"), ({"pool_window": (0, 1, 1)}, "pool_window: \\[0, 1, 1\\]")):
        with pytest.raises(ValueError, match=words):
            ClipClassifier(i3d(depth=18, **THIN), 3, **head)


def test_cost_and_single_values_are_told_of_clips_too():
    model = ClipClassifier(i3d(depth=18, width=4, norm_groups=2, stem="small", stem_time_stride=1), 3)
    counted = []

    def count(name, layer, x, y, times):
        counted.append(times * layer.weight.size * int(np.prod(y.shape[2:] if x.ndim == 5 else 1)))

    see_layers(model, (Conv3D, paddle.nn.Linear), count, (3, 4, 8, 8))
    assert multiply_adds(model, (3, 4, 8, 8)) == sum(counted) > 1e5
    alone = ClipClassifier(i3d(depth=18, width=4, norm="in", stem="small", stem_time_stride=1), 3)
    assert norms_of_one_value(alone, (3, 2, 8, 8), 8)[0].startswith("backbone.c5")
    assert not norms_of_one_value(alone, (3, 4, 8, 8), 8)
