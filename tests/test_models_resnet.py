from typing import get_args

import paddle
import pytest

from models import Classifier, find_network, load_weights, resnet
from models.norm import Norm, make_norm
from ops import DeformConv2D, FrozenBatchNorm, GroupNorm

THIN = {"width": 8, "stem": "small", "in_channels": 1, "norm_groups": 4}


def arrays(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def randomise_statistics(model):
    """Running statistics that differ from 0 and 1, as after training, and outputs of ordinary size."""
    for name, buffer in model.named_buffers():
        if name.endswith("_mean"):
            buffer.set_value(0.1 * paddle.randn(buffer.shape))
        elif name.endswith("_variance"):
            buffer.set_value(1 + paddle.rand(buffer.shape))


def test_bn_resnet50_is_paddles():
    paddle.seed(3)
    theirs = paddle.vision.models.resnet50(num_classes=1000)
    randomise_statistics(theirs)
    ours = Classifier(resnet(norm="bn"), 1000)
    assert sum(parameter.size for parameter in ours.parameters()) == 25_557_032
    report = load_weights(ours, find_network(arrays(theirs)).state)
    assert not report.missing and not report.unexpected and not report.reshaped
    ours.eval()
    theirs.eval()
    x = paddle.randn([2, 3, 64, 96])
    with paddle.no_grad():
        expected = {}
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage, layer in (("c2", "layer1"), ("c3", "layer2"), ("c4", "layer3"), ("c5", "layer4")):
            y = getattr(theirs, layer)(y)
            expected[stage] = y
        got = ours.backbone(x)
        for stage, features in expected.items():
            scale = float(features.abs().max())
            assert got[stage].shape == features.shape
            assert float((got[stage] - features).abs().max()) <= 1e-4 * max(1.0, scale), stage
        logits = theirs(x)
        assert float((ours({"image": x}) - logits).abs().max()) <= 1e-4 * max(1.0, float(logits.abs().max()))


@pytest.mark.parametrize("depth", [18, 26, 34, 50, 101, 152])
def test_depth_is_the_number_of_weighted_layers_and_stages_have_their_strides(depth):
    network = resnet(depth=depth, width=4, norm_groups=2)
    main_path = [name for name, layer in network.named_sublayers() if "conv" in name and "shortcut" not in name]
    assert len(main_path) + 1 == depth  # and the linear layer
    expansion = 1 if depth in (18, 34) else 4
    stages = network(paddle.zeros([1, 3, 64, 96]))
    for index, stage in enumerate(("c2", "c3", "c4", "c5")):
        stride, channels = 4 * 2**index, 4 * 2**index * expansion
        assert stages[stage].shape == [1, channels, 64 // stride, 96 // stride]
        assert network.out_channels[stage] == channels


def test_small_stem_keeps_the_size():
    stages = resnet(depth=18, **THIN)(paddle.zeros([1, 1, 28, 20]))
    assert stages["c2"].shape == [1, 8, 28, 20] and stages["c5"].shape == [1, 64, 4, 3]


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("depth", [18, 50])
def test_every_norm_trains(norm, depth):
    model = Classifier(resnet(depth=depth, norm=norm, **THIN), 3)
    outputs = model({"image": paddle.randn([4, 1, 12, 16]), "label": paddle.to_tensor([0, 1, 2, 0])})
    outputs["loss"].backward()
    assert float(outputs["loss"]) > 0 and 0 <= float(outputs["top1_error"]) <= 1
    assert all(parameter.grad is not None for parameter in model.parameters() if not parameter.stop_gradient)
    model.eval()
    assert model({"image": paddle.randn([2, 1, 12, 16])}).shape == [2, 3]


def test_norms_are_what_they_are_called():
    assert make_norm("gn", groups=4)(12).groups == 4
    assert make_norm("gn", channels_per_group=3)(12).groups == 4
    assert make_norm("ln")(12).groups == 1
    assert make_norm("in")(12).groups == 12
    assert isinstance(make_norm("frozen_bn")(12), FrozenBatchNorm)
    bn = make_norm("bn", images_per_worker=2, running_statistics="mean", bn_momentum=0.8)(12)
    assert (bn.images_per_worker, bn.running_statistics, bn.momentum) == (2, "mean", 0.8)
    kinds = {type(layer) for layer in resnet(depth=18, **THIN).sublayers() if "Norm" in type(layer).__name__}
    assert kinds == {GroupNorm}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"norm_groups": 32, "width": 8}, "32 groups do not divide 8 channels"),
        ({"norm_channels_per_group": 3, "width": 8}, "gn: groups of 3 channels do not divide 8 channels"),
        ({"norm": "batch"}, "norm 'batch': expected one of bn, gn"),
        ({"deformable_stages": ("c5",), "deformable_groups": 5}, "5 deformable groups do not divide"),
    ],
)
def test_values_that_do_not_fit(arguments, words):
    with pytest.raises(ValueError, match=words):
        resnet(**{"depth": 18, **arguments})


def test_last_norm_starts_at_zero_so_that_blocks_start_as_the_identity():
    network = resnet(depth=50, **THIN)
    assert all(float(block.norm3.weight.abs().max()) == 0 for block in [*network.c2, *network.c5])
    plain = resnet(depth=50, zero_init_last_norm=False, **THIN)
    assert all(float(block.norm3.weight.min()) == 1 for block in plain.c2)
    x = paddle.randn([2, 32, 5, 6]).abs()
    assert bool((network.c2[1](x) == x).all())
    assert not bool((plain.c2[1](x) == x).all())


def test_stride_place():
    for place, strides in (("3x3", (1, 2)), ("1x1", (2, 1))):
        block = resnet(depth=50, stride_in=place, **THIN).c3[0]
        assert (block.conv1._stride[0], block.conv2._stride[0]) == strides


@pytest.mark.parametrize("depth", [18, 50])
def test_dilated_stages_keep_their_size(depth):
    x = paddle.randn([1, 1, 32, 24])
    plain = resnet(depth=depth, **THIN)
    dilated = resnet(depth=depth, dilated_stages=("c4",), **THIN)
    dilated.set_state_dict(plain.state_dict())
    shapes, others = ({name: stage.shape for name, stage in network(x).items()} for network in (plain, dilated))
    assert shapes == others
    for stage in ("c3", "c4", "c5"):
        dilations = {block.conv2._dilation[0] for block in getattr(dilated, stage)}
        assert dilations == {2 if stage == "c4" else 1}
    both = resnet(depth=depth, dilated_stages=("c4",), deformable_stages=("c4",), **THIN)
    assert load_weights(both, arrays(plain)).missing
    assert float((both(x)["c5"] - dilated(x)["c5"]).abs().max()) < 1e-5  # a deformable stage starts as the dilated one


@pytest.mark.parametrize("depth", [18, 50])
def test_deformable_stages_start_as_the_plain_network(depth):
    x = paddle.randn([2, 1, 16, 12])
    plain = Classifier(resnet(depth=depth, **THIN), 3)
    for version in (1, 2):
        deformable = Classifier(
            resnet(depth=depth, deformable_stages=("c4", "c5"), deformable_version=version, **THIN), 3
        )
        places = {name.split(".")[1] for name, layer in deformable.named_sublayers() if isinstance(layer, DeformConv2D)}
        assert places == {"c4", "c5"}
        report = load_weights(deformable, arrays(plain))
        assert not report.unexpected and all(".offset." in name for name in report.missing)
        deformable.eval()
        plain.eval()
        assert float((deformable({"image": x}) - plain({"image": x})).abs().max()) < 1e-5


def test_initial_values_follow_the_recipe():
    paddle.seed(0)
    network = Classifier(resnet(depth=50, width=32, norm="bn"), 200)
    conv = network.backbone.c4[1].conv2.weight
    assert float(conv.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)  # He, fan-out
    assert float(network.fc.weight.std()) == pytest.approx(0.01, rel=0.02) and float(network.fc.bias.abs().max()) == 0


def test_weights_report_and_other_heads():
    source, target = Classifier(resnet(depth=18, **THIN), 5), Classifier(resnet(depth=18, **THIN), 3)
    report = load_weights(target, {**arrays(source), "neck.weight": source.fc.weight.numpy()})
    assert [name for name, *_ in report.reshaped] == ["fc.bias", "fc.weight"]
    assert report.unexpected == ["neck.weight"] and not report.missing
    assert "fc.bias [5] for [3]" in str(report)
    assert bool((target.backbone.stem.conv.weight == source.backbone.stem.conv.weight).all())
    with pytest.raises(ValueError, match="none of its 1 arrays fits"):
        load_weights(target, {"x": source.fc.weight.numpy()})


def test_label_smoothing_and_evaluation_outputs():
    model = Classifier(resnet(depth=18, **THIN), 3, label_smoothing=0.3)
    batch = {"image": paddle.randn([2, 1, 8, 8]), "label": paddle.to_tensor([0, 2])}
    loss = float(model(batch)["loss"])
    model.eval()
    log_probability = paddle.nn.functional.log_softmax(model(batch), axis=1).numpy()
    target = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]  # 1 - 0.3 + 0.3 / 3 and 0.3 / 3
    assert loss == pytest.approx(-(log_probability * target).sum() / 2, rel=1e-5)
    with pytest.raises(ValueError, match="label_smoothing"):
        Classifier(resnet(depth=18, **THIN), 3, label_smoothing=1.0)
