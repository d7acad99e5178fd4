"""Multiply-adds against counts by hand and the published one."""

import pytest
from paddle import nn

from models import Classifier, resnet
from models.cost import multiply_adds
from ops import DeformConv2D


class Small(nn.Layer):
    """One layer on [4, 5, 7] with stride 2: 3 x 4 positions."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, batch):
        assert not self.training
        return self.layer(batch["image"])


@pytest.mark.parametrize(("layer", "counted"), [
    (nn.Conv2D(4, 6, 3, stride=2, padding=1), 3 * 4 * 6 * 4 * 9),
    (nn.Conv2D(4, 6, 3, stride=2, padding=1, groups=2), 3 * 4 * 6 * 2 * 9),
    (DeformConv2D(4, 6, 3, stride=2, padding=1, version=1), 3 * 4 * 9 * (6 * 4 + 18 * 4 + 4 * 4)),
    (DeformConv2D(4, 6, 3, stride=2, padding=1, version=2), 3 * 4 * 9 * (6 * 4 + 27 * 4 + 4 * 4)),
], ids=["plain", "groups", "v1", "v2"])
def test_by_hand(layer, counted):
    model = Small(layer)
    assert multiply_adds(model, [4, 5, 7]) == counted
    assert model.training


def test_resnet_50_has_the_published_count():
    model = Classifier(resnet(depth=50), 1000)
    assert multiply_adds(model, [3, 224, 224]) == pytest.approx(4.09e9, rel=1e-3)  # torchvision's and timm's number
    small, large = (multiply_adds(model, [3, size, size]) for size in (64, 128))
    assert large == pytest.approx(4 * small, rel=0.02)
