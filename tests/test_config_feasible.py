"""Settings that together cannot learn are one line before any work; those beside them are taken."""

from types import SimpleNamespace

import pytest

from engine.build import build_data, build_loaders, build_model, check_model
from engine.config import load_config
from engine.errors import InputError
from engine.tasks import task_of

ALONE = ["data.image_size=8", "batch.images_per_worker=1"]  # maps of 1 x 1 in c5
COSINE = ["schedule.name=cosine", "schedule.epochs=2"]


def look_at(tiny, overrides):
    """What tools/train.py looks at before any work."""
    config = load_config(tiny, overrides)
    train_set, validation_set = build_data(config)
    build_loaders(config, train_set, validation_set)
    check_model(config, build_model(config, train_set), train_set.image_shape)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["model.norm=frozen_bn"], "frozen_bn has no statistics of its own"),
        (["model.frozen=[stem, c2]"], "model.frozen: stem, c2 would keep random weights for ever; name the trained by"),
        (["model.frozen=[c5]", "model.norm=bn"], "model.frozen: c5 would keep random weights"),
        ([*ALONE, "model.norm=bn"], r"c5\.\S+ would normalise single values: images of 8 x 8 are 1 x 1"),
        ([*ALONE, "model.norm=sync_bn", "batch.workers=1"], "would normalise single values"),
        (["data.image_size=16", "model.stem=medium", "model.norm=in"], "would normalise single values"),
        (["data.image_size=32", "model.stem=imagenet", "model.norm_channels_per_group=1"], "would normalise single"),
        (["ema_decay=1.0"], "ema_decay: 1 keeps the average"),
        (["model.norm=bn", "model.bn_momentum=1.0"], "bn_momentum: 1 keeps the running statistics"),
        (["model.norm=brn", "model.bn_running_statistics=precise"], "precise is bn's; brn is trained with the"),
        (["model.norm=brn", "model.brn_r_max=0.5"], "batch renorm: r_max 0.5 and d_max 0.5, expected 1 or more"),
        (["model.norm=brn", "model.brn_relax_steps=[9, 5, 20]"], r"relax_steps \[9, 5, 20\], expected a start"),
        ([*ALONE, "model.norm=brn"], "single values: .* no other image shares .* more images per worker"),
        (["data.image_size=8", "model.norm=frn"], "single values: .* no other channel is in its group; .* or gn with"),
        (["model.norm=evonorm_s0", "model.norm_groups=3"], "evonorm: 3 groups do not divide 8 channels"),
        (["model.norm=none", "model.weight_standardization=true"], "weight_standardization: gives all filters one"),
        (["optimizer.name=adamw", "optimizer.beta2=1.0"], "beta1 or beta2 of 1"),
        ([*COSINE, "schedule.final_lr=9.0"], "schedule.final_lr: 9, more than the .* that the cosine falls from"),
        (["record.responses=conv9_9"], "record.responses: conv9_9: the network has no such convolution"),
        ([*COSINE, "schedule.warmup_epochs=2"], "all 2 epochs warm up to the cosine's end"),
    ],
)
def test_what_cannot_learn_is_refused(tiny, overrides, complaint):
    with pytest.raises(InputError, match=complaint) as failure:
        look_at(tiny, overrides)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.norm=frozen_bn", "pretrained=WEIGHTS.pdparams"],
        ["model.frozen=[stem, c2]", "model.norm=bn", "pretrained=WEIGHTS.pdparams"],
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
    look_at(tiny, overrides)


def test_a_data_set_of_one_class_is_refused():
    with pytest.raises(InputError, match="data: has 1 class"):
        task_of("resnet").check(SimpleNamespace(classes=("cat",)))
