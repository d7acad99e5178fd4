"""The norms that blocks are handed, and what a model's section says of its norm."""

from types import SimpleNamespace
from typing import get_args

import paddle
import pytest
from paddle import nn

from models.norm import LAYERS, Norm, Normalization, described, make_norm
from models.resnet import Basic, Bottleneck, Convolutions, conv2d


def said(**section):
    return list(described(SimpleNamespace(**section)).values())


def test_only_what_has_a_meaning_is_said():
    assert list(described(None)) == ["norm", "norm_groups", "norm_channels_per_group", "evaluation_statistics"]
    values = {"norm_groups": 8, "norm_channels_per_group": None, "bn_running_statistics": "mean"}
    assert said(norm="gn", **values) == ["gn", 8, None, None]
    assert said(norm="gn", **values | {"norm_channels_per_group": 4}) == ["gn", None, 4, None]
    assert said(norm="bn", **values) == ["bn", None, None, "mean"]
    assert said(norm="ln", **values) == ["ln", None, None, None]


def test_a_model_without_norms_says_nothing():
    assert said(name="meter", hidden=8) == [None] * 4
    assert said(norm="bn") == ["bn", None, None, None]


@pytest.mark.parametrize("norm", sorted({*get_args(Norm)} - {"none"}))
def test_what_each_word_makes_is_known_as_a_norm(norm):
    """By which weights of another norm are told apart, and a statistic of a single value is."""
    made = make_norm(norm, groups=2)(4, activated=True)
    assert isinstance(made, LAYERS)
    assert norm in ("bn", "sync_bn", "frozen_bn", "brn") or made.groups


class Named(nn.Layer):
    """Stands for a norm or an activation; remembers in which order it was called."""

    called = []

    def __init__(self, *what):
        super().__init__()
        self.what = what

    def forward(self, x):
        Named.called.append(self.what)
        return x


@pytest.mark.parametrize("block", [Basic, Bottleneck])
def test_a_norm_brings_its_activation_wherever_a_block_has_one(block, monkeypatch):
    """Behind the addition too; a norm before it, and the shortcut's, have none."""
    monkeypatch.setattr(Named, "called", [])
    norm = Normalization(
        lambda channels, initial_scale, activated: Named("norm", channels, initial_scale, activated),
        lambda channels: Named("activation", channels),
    )
    made = block(
        4, 8, 2, stride_in="3x3", last_scale=0.5, convolutions=Convolutions(conv2d, conv2d, conv2d), norm=norm
    )
    made(paddle.randn([2, 4, 6, 6]))
    out = 8 * block.expansion
    before = [("norm", 8, 1.0, True)] * (1 if block is Basic else 2)
    assert Named.called == [
        *before, ("norm", out, 0.5, False), ("norm", out, 1.0, False), ("activation", out)
    ]
