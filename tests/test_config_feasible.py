"""Settings that together cannot learn are one line before any work; those beside them are taken."""

from types import SimpleNamespace

import paddle
import pytest

from engine.build import build_data, build_loaders
from engine.config import load_config
from engine.config.feasible import check_feasible
from engine.errors import InputError
from models import resnet

ALONE = ["data.image_size=8", "batch.images_per_worker=1"]  # maps of 1 x 1 in c5
COSINE = ["schedule.name=cosine", "schedule.epochs=2"]


def loaders(tiny, overrides):
    config = load_config(tiny, overrides)
    return build_loaders(config, *build_data(config))


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["model.norm=frozen_bn"], "frozen_bn has no statistics of its own"),
        ([*ALONE, "model.norm=bn"], "bn would normalise single values: images of 8 x 8 are 1 x 1 in c5"),
        ([*ALONE, "model.norm=sync_bn", "batch.workers=1"], "sync_bn would normalise single values"),
        (["data.image_size=16", "model.stem=medium", "model.norm=in"], "in would normalise single values"),
        (["data.image_size=32", "model.stem=imagenet", "model.norm_channels_per_group=1"], "gn would normalise single"),
        (["ema_decay=1.0"], "ema_decay: 1 keeps the average"),
        (["model.norm=bn", "model.bn_momentum=1.0"], "bn_momentum: 1 keeps the running statistics"),
        (["optimizer.name=adamw", "optimizer.beta2=1.0"], "beta1 or beta2 of 1"),
        ([*COSINE, "schedule.warmup_epochs=2"], "all 2 epochs warm up to the cosine's end"),
    ],
)
def test_what_cannot_learn_is_refused(tiny, overrides, complaint):
    with pytest.raises(InputError, match=complaint) as failure:
        loaders(tiny, overrides)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.norm=frozen_bn", "pretrained=WEIGHTS.pdparams"],
        ["data.image_size=8", "batch.images_per_worker=2", "model.norm=bn"],
        ["data.image_size=9", "batch.images_per_worker=1", "model.norm=bn"],
        [*ALONE, "model.norm=sync_bn"],
        [*ALONE, "model.norm=gn"],
        [*ALONE, "model.norm=ln"],
        ["data.image_size=9", "model.norm=in"],
        ["model.norm=bn", "model.bn_momentum=1.0", "model.bn_running_statistics=precise"],
        ["optimizer.base_lr=0.0"],  # a measurement of what does not learn
        [*COSINE, "schedule.warmup_epochs=2", "schedule.final_lr=0.1"],
    ],
)
def test_what_can_is_taken(tiny, overrides):
    loaders(tiny, overrides)


def test_a_data_set_of_one_class_is_refused(tiny):
    with pytest.raises(InputError, match="data: has 1 class"):
        check_feasible(load_config(tiny), SimpleNamespace(classes=("cat",), image_shape=(3, 32, 32)))


def test_images_of_single_pixels_in_c5_are_what_the_network_has():
    for stem, size in (("small", 8), ("medium", 16), ("imagenet", 32)):
        for edge, expected in ((size, 1), (size + 1, 2)):
            network = resnet(depth=18, width=4, stem=stem, in_channels=1, norm="none")
            assert network(paddle.zeros([1, 1, edge, edge]))["c5"].shape[2:] == [expected, expected]
