"""Residual blocks as one op: the values, gradients and running statistics of their layers, and only where it may."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import paddle
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops_conv2d import PADDLE_TAKES_EMPTY_BATCHES, used

from models.i3d import conv3d, i3d
from models.norm import make_norm
from models.resnet import Basic, Bottleneck, Convolutions, Stage, conv2d, resnet
from ops import Conv2D, DeformConv2D, native, residual_blocks
from ops.conv2d import onednn
from ops.residual_blocks import _plan

NORMS = {
    "gn": {"groups": 8},
    "gn, groups across blocks": {"groups": 2},
    "bn": {},
    "bn, workers": {"images_per_worker": 2, "running_statistics": "mean", "bn_momentum": 0.7},
    "frozen_bn": {},
}


def stage(
    norm, block=Bottleneck, *, channels=32, width=16, count=2, stride=2, spatial=conv2d, dilation=1, made_of=None,
    **options,
):
    """Blocks as ResNet makes them, with values of their own for all that learns or is tracked."""
    make = make_norm(norm.partition(",")[0], **{"eps": 2**-4, **options})
    blocks = []
    convolutions = made_of or Convolutions(
        conv2d, conv2d, lambda *arguments, **more: spatial(*arguments, **more, dilation=dilation)
    )
    for position in range(count):
        blocks.append(block(
            channels, width, stride if position == 0 else 1, stride_in="3x3", last_scale=1.0,
            convolutions=convolutions, norm=make,
        ))
        channels = width * block.expansion
    made = Stage(*blocks)
    rng = np.random.default_rng(0)
    for name, value in made.state_dict().items():
        drawn = rng.normal(size=value.shape)
        if value.ndim == 1:
            drawn = 1 + drawn**2 if name.endswith("_variance") else 1 + 0.3 * drawn if "norm" in name else drawn
        elif ".offset." in name:
            drawn /= np.prod(value.shape[1:]) ** 0.5
        else:
            drawn *= (2 / np.prod(value.shape[1:])) ** 0.5
        value.set_value(drawn.astype("float32"))
    return made


def parts(made):
    return [block.residual() for block in made]


def outcome(made, x, implementation, dtype="float32", learning=True):
    """y, x's gradient and those of all parameters at a fixed cotangent, and the running statistics that are left."""
    before = {name: value.numpy() for name, value in made.state_dict().items()}
    made.to(dtype=dtype)
    made.set_state_dict({name: value.astype(dtype) for name, value in before.items()})
    x = paddle.to_tensor(x).astype(dtype)
    x.stop_gradient = not learning
    y = residual_blocks(x, parts(made), implementation)
    cotangent = np.random.default_rng(7).normal(size=y.shape)
    (y * paddle.to_tensor(cotangent.astype(dtype))).sum().backward()
    results = {"y": y, **({"x": x.grad} if learning else {})}
    results |= {name: value.grad for name, value in made.named_parameters() if not value.stop_gradient}
    results |= {name: value for name, value in made.named_buffers() if name.endswith(("_mean", "_variance"))}
    results = {name: value.numpy() for name, value in results.items()}
    made.clear_gradients()
    made.to(dtype="float32")
    made.set_state_dict(before)
    return results


def wanted(made, shape):
    return _plan(paddle.zeros(shape), parts(made)) is not None


serves = native.paddle.get_device() == "cpu" and onednn() is not None and wanted(stage("gn", groups=8), [2, 32, 6, 5])
needs_blocks = pytest.mark.skipif(not serves, reason="no oneDNN here that wants blocks of 16 channels, or a GPU")


def relative_error(value, expected):
    return np.abs(value - expected).max() / max(1e-3, np.abs(expected).max())


def check_exact(made, shape, learning=True, at_most=1e-5):
    """Against the layers in float64. Where a ReLU meets about 0 it falls to either side: then another x is drawn."""
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        expected = outcome(made, x, "layers", "float64", learning)
        got = outcome(made, x, "native", learning=learning)
        assert got.keys() == expected.keys()
        errors = {name: relative_error(got[name], value) for name, value in expected.items()}
        assert errors["y"] <= at_most
        if max(errors.values()) <= at_most:
            return
    raise AssertionError(errors)


@needs_blocks
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", [Basic, Bottleneck])
def test_values_gradients_and_statistics_are_as_good_as_float32(norm, block):
    check_exact(stage(norm, block, **NORMS[norm]), [4, 32, 7, 6])


@needs_blocks
@pytest.mark.parametrize("norm", ["gn", "bn, workers"])
@pytest.mark.parametrize("version, modulation, groups", [(1, "2sigmoid", 1), (2, "2sigmoid", 2), (2, "sigmoid", 1)])
def test_deformable_convolutions_too(norm, version, modulation, groups):
    def deformable(*arguments, **options):
        return DeformConv2D(
            *arguments, **options, version=version, modulation=modulation, deformable_groups=groups
        )

    def spatial(*arguments, **options):
        return conv2d(*arguments, layer=deformable, **options)

    check_exact(stage(norm, spatial=spatial, dilation=2, **NORMS[norm]), [2, 32, 7, 6], at_most=3e-5)


OVER_CLIPS = Convolutions(conv3d, partial(conv3d, frames=3), conv3d)


@needs_blocks
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", [Basic, Bottleneck])
def test_blocks_over_clips(norm, block):
    check_exact(stage(norm, block, made_of=OVER_CLIPS, **NORMS[norm]), [4, 32, 3, 7, 6])


@needs_blocks
@pytest.mark.parametrize("shape", [[1, 32, 1, 5, 4], [2, 32, 5, 2, 1], [1, 32, 2, 18, 13]], ids=str)
def test_clips_of_one_frame_and_small_and_larger_maps(shape):
    check_exact(stage("gn", groups=4, made_of=OVER_CLIPS), shape)
    made = stage("gn", groups=4, made_of=OVER_CLIPS)
    made[1].conv2 = Conv2D(16, 16, 3, padding=1, bias_attr=False)  # no layer of pictures among those of clips
    assert not wanted(made, shape)


@needs_blocks
@pytest.mark.parametrize(
    "shape, options",
    [
        ([1, 32, 1, 1], {"stride": 1}), ([1, 64, 9, 8], {"count": 1, "stride": 1}), ([2, 32, 2, 3], {"dilation": 2}),
        ([2, 32, 1, 1], {}), ([2, 32, 20, 17], {"count": 1}), ([3, 16, 5, 5], {"channels": 16, "width": 48}),
    ],
    ids=str,
)
def test_small_odd_and_larger_maps(shape, options):
    check_exact(stage("gn", groups=4, **{"channels": shape[1], **options}), shape)


@needs_blocks
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_random_stages(data):
    draw = lambda values, name: data.draw(st.sampled_from(values), name)  # noqa: E731
    channels, width = draw([16, 32, 48], "channels"), draw([16, 32], "width")
    norm = draw(["gn", "bn"], "norm")
    images = draw([1, 2, 4], "images")
    if norm == "gn":
        options = {"groups": draw([1, 2, 8, 16], "groups")}
    else:
        options = {"images_per_worker": draw([1, images], "images per worker")}
    made = stage(
        norm, draw([Basic, Bottleneck], "block"), channels=channels, width=width, count=draw([1, 2], "count"),
        stride=draw([1, 2], "stride"), dilation=draw([1, 2], "dilation"), **options,
    )
    check_exact(made, [images, channels, data.draw(st.integers(2, 9), "H"), data.draw(st.integers(2, 9), "W")])


@needs_blocks
@pytest.mark.parametrize("norm", ["bn", "bn, workers", "gn"])
def test_evaluation(norm):
    made = stage(norm, **NORMS[norm])
    made.eval()
    check_exact(made, [3, 32, 6, 5])
    with paddle.no_grad():
        x = paddle.randn([3, 32, 6, 5])
        got, expected = (residual_blocks(x, parts(made), name) for name in ("native", "layers"))
    assert got.stop_gradient
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


@needs_blocks
@pytest.mark.parametrize(("norm", "options"), [("gn", {"groups": 8}), ("bn", {})])
def test_standardised_filters(norm, options):
    standardized = partial(conv2d, standardized=True)
    deformable = partial(conv2d, standardized=True, layer=partial(DeformConv2D, deformable_groups=2))
    made_of = Convolutions(standardized, standardized, deformable)
    check_exact(stage(norm, made_of=made_of, **options), [2, 32, 6, 5])


@needs_blocks
def test_some_filters_are_standardised_and_of_those_some_learn():
    made = stage("bn", made_of=Convolutions(conv2d, partial(conv2d, standardized=True), conv2d))
    made[0].conv1.weight.stop_gradient = True
    assert [conv.standardized for conv, _ in parts(made)[0].path] == [True, False, False]
    check_exact(made, [2, 32, 6, 5])


@needs_blocks
def test_only_what_learns_gets_a_gradient():
    made = stage("bn")
    for name, value in made.named_parameters():
        value.stop_gradient = not name.startswith("1.conv2") and name != "0.norm1.bias"
    check_exact(made, [2, 32, 6, 5], learning=False)


@needs_blocks
@pytest.mark.parametrize("kept", ["offset.weight", "offset.bias"])
def test_of_an_offset_branch_either_may_learn_alone(kept):
    made = stage("gn", spatial=partial(conv2d, layer=DeformConv2D), groups=8)
    for name, value in made.named_parameters():
        value.stop_gradient = name.endswith(kept)
    check_exact(made, [2, 32, 7, 6], at_most=3e-5)


@needs_blocks
def test_what_it_does_not_serve_is_left_to_the_layers(monkeypatch):
    x = [2, 32, 6, 5]
    assert wanted(stage("gn", groups=8), x)
    left = [
        stage("none"), stage("sync_bn"), stage("gn", groups=8, width=24), stage("bn", images_per_worker=2),
        stage("gn", groups=8), stage("gn", groups=8), stage("gn", groups=8), stage("gn", groups=8),
    ]
    left[4][1].conv2.implementation = "paddle"
    left[5][1].norm2.eps = 0.5
    left[6][1].norm3.relu = True
    left[7][1].conv2 = Conv2D(16, 16, 3, padding=1, groups=2, bias_attr=False)
    sizes = [x] * 3 + [[3, 32, 6, 5]] + [x] * 4
    for made, shape in zip(left, sizes, strict=True):
        assert not wanted(made, shape)
        with pytest.raises(ValueError, match="'native' does not serve"):
            residual_blocks(paddle.zeros(shape), parts(made), "native")
    with pytest.raises(ValueError, match="3 images do not divide"):
        left[3](paddle.zeros([3, 32, 6, 5]))
    good = stage("gn", groups=8)
    assert not wanted(good, [0, 32, 6, 5])
    if PADDLE_TAKES_EMPTY_BATCHES:
        assert good(paddle.zeros([0, 32, 6, 5])).shape == [0, 64, 3, 3]
    assert not wanted(good, [2, 16, 6, 5])
    good.to(dtype="float64")
    assert good(paddle.zeros(x, "float64")).dtype == paddle.float64


@needs_blocks
def test_a_network_is_one_op_a_stage_until_somebody_looks_inside(monkeypatch):
    names = used(monkeypatch)
    network = resnet(depth=50, width=16, norm_groups=4, stem="small")
    x = paddle.randn([2, 3, 16, 12])
    stages = network(x)
    assert names.count("residual_blocks") == 4 and names.count("conv") == 1
    seen = []
    hook = network.c3[1].conv2.register_forward_post_hook(lambda layer, inputs, y: seen.append((*inputs, y)))
    looked = network(x)
    assert names.count("residual_blocks") == 7
    ((given, made),) = seen
    np.testing.assert_allclose(network.c3[1].conv2(given).numpy(), made.numpy(), rtol=1e-5, atol=1e-5)
    hook.remove()
    whole = network.c3.register_forward_post_hook(lambda layer, inputs, y: seen.append(y))
    again = network(x)
    assert names.count("residual_blocks") == 11 and seen[-1] is again["c3"]
    whole.remove()
    for name, value in stages.items():
        scale = float(value.abs().max())
        assert float((looked[name] - value).abs().max()) <= 1e-4 * scale, name
        assert (again[name] == value).all()


@needs_blocks
def test_a_network_over_clips_is_one_op_a_stage(monkeypatch):
    names = used(monkeypatch)
    i3d(depth=50, width=16, norm_groups=4, stem="small", stem_time_stride=1)(paddle.randn([1, 3, 4, 16, 12]))
    assert names.count("residual_blocks") == 4 and names.count("conv") == 1


def bits(steps=3):
    """A short name of all weights after some steps."""
    import hashlib

    paddle.seed(3)
    network = resnet(depth=18, width=16, norm="bn", bn_images_per_worker=2, stem="small", deformable_stages=("c5",))
    optimizer = paddle.optimizer.Momentum(0.1, parameters=network.parameters())
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=[4, 3, 16, 12]).astype("float32"))
    for _ in range(steps):
        network(x)["c5"].square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    values = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    return hashlib.sha256(values).hexdigest()


def check_small_machine():
    """Where oneDNN does not want blocks of 16 the layers are called, and no slow kernel is met."""
    import time

    made = stage("gn", groups=8)
    assert not wanted(made, [2, 32, 6, 5])
    start = time.process_time()
    bits()
    assert time.process_time() - start < 10
    return "fine"


def child(call, **environment):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", f"import test_ops_residual_blocks as here; print(here.{call})"], text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


@pytest.mark.ci
@needs_blocks
def test_the_same_bits_in_every_process_and_smaller_processors_and_teams():
    same = {"OMP_NUM_THREADS": "2", "OMP_THREAD_LIMIT": "2"}, {"OMP_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "2"}
    processes = [child("bits()", **environment) for environment in same]
    processes += [child("check_small_machine()", ONEDNN_MAX_CPU_ISA=name) for name in ("AVX2", "SSE41")]
    told = [process.communicate(timeout=200) for process in processes]
    assert all(process.returncode == 0 for process in processes), told
    words = [stdout.split()[-1] for stdout, _ in told]
    assert words[0] == words[1] and words[2:] == ["fine", "fine"]
