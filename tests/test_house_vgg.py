"""The recipes and sweeps of VGG-16 and ResNet-101."""

import pytest
from conftest import ROOT

from engine.build import build_model, check_model
from engine.config import load_config
from engine.errors import InputError
from engine.sweep.definition import load_sweep

CONFIGS = ROOT / "configs"


@pytest.mark.parametrize("norm", ["none", "bn", "gn"])
def test_recipes_are_the_papers(norm):
    config = load_config(CONFIGS / "imagenet" / f"vgg16_{norm}.yaml", ["data.root=nowhere"])
    assert (config.model.name, config.model.depth, config.model.width, config.model.norm) == ("vgg", 16, 64, norm)
    assert config.batch.images_per_step == 256 and config.lr == 0.01 and config.optimizer.weight_decay == 5e-4
    assert config.schedule.epochs == 100 and config.schedule.milestones == (30, 60, 80)
    assert config.record.responses == "conv5_3"


def test_the_thin_one_has_maps_of_2_x_2_before_its_head():
    config = load_config(CONFIGS / "composed_vgg.yaml")
    shapes = []
    model = build_model(config, Images((3, 32, 32)))
    model.backbone.conv5_3.register_forward_post_hook(lambda layer, inputs, output: shapes.append(output.shape))
    check_model(config, model, (3, 32, 32))
    assert shapes == [[1, 128, 2, 2]] and model.fc.weight.shape == [128, 10]


def test_images_that_are_too_small_are_one_line():
    config = load_config(CONFIGS / "composed_vgg.yaml", ["model.poolings=5"])
    said = "^model: images of 28 x 28, expected 32 pixels a side or more for 5 poolings$"
    with pytest.raises(InputError, match=said):
        check_model(config, build_model(config, Images((3, 28, 28))), (3, 28, 28))


@pytest.mark.parametrize(("name", "runs", "shared"), [
    ("vgg", 9, {"name": "vgg", "depth": 16}), ("deeper", 12, {"name": "resnet", "depth": 101}),
])
def test_the_sweeps(name, runs, shared):
    sweep = load_sweep(CONFIGS / "sweeps" / f"{name}.yaml")
    assert len(sweep.runs) == runs and shared.items() <= sweep.shared["model"].items()
    rates = {run.config.lr / run.config.batch.images_per_step for run in sweep.runs}
    assert len(rates) == 1  # one recipe for all


class Images:
    """As far as a model asks of a data set."""

    def __init__(self, shape):
        self.image_shape, self.classes = shape, range(10)
