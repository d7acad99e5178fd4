"""A model is one entry in MODELS: what a config may say of it, and its errors, follow from the builders' signatures."""

import importlib
import sys

import pytest
from conftest import picture

import engine
from engine.build import build_data
from engine.errors import InputError
from models import MODELS, Classifier


def stand_in(*, layers: int = 3, frozen_stages: tuple[int, ...] = (1, 2), in_channels: int = 3):
    """A second model's backbone, whose keys are not those of a ResNet."""


@pytest.fixture
def load_config(monkeypatch):
    """`load_config` of a project with two models."""
    monkeypatch.setitem(MODELS, "stand_in", (stand_in, Classifier))
    for name in [name for name in sys.modules if name.startswith("engine.config")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(engine, "config", importlib.import_module("engine.config"))
    return engine.config.load_config


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text("data: {name: synthetic}\nmodel: {label_smoothing: 0.1}\n")
    return path


def test_the_first_model_is_the_default(load_config, base):
    assert load_config(base).model.name == "resnet"
    assert load_config(base, ["model.name=resnet"]).model.label_smoothing == 0.1  # the same model: nothing starts anew
    config = load_config(base, ["model.layers=4", "model.name=stand_in", "model.frozen_stages.1=5"])
    assert (config.model.name, config.model.layers, config.model.frozen_stages) == ("stand_in", 4, (1, 5))
    assert config.model.label_smoothing == 0.0  # another model's section starts anew
    assert "in_channels" not in type(config.model).model_fields


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.name=alexnet"],
         f"-o model.name=alexnet: model.name: expected one of {', '.join([*MODELS, 'stand_in'])}, got 'alexnet'"),
        (["model.depht=18"], "-o model.depht=18: model.depht: unknown key; did you mean depth?"),
        (["model.depth=17"], "-o model.depth=17: model.depth: should be 18, 26, 34, 50, 101 or 152, got 17"),
        (["model.name=stand_in", "model.layer=2"], "model.layer: unknown key; did you mean layers?"),
        (["model.name=stand_in", "model.layers=two"], "model.layers: should be a valid integer, got 'two'"),
        (["model.name=stand_in", "record.offsets=2"], "offsets: 2 pictures want deformable layers"),
        (["data.clases=3"], "data.clases: unknown key; did you mean classes?"),
        (["data.name=imagenet"], "data.name: expected one of fashion_mnist, .*, got 'imagenet'"),
    ],
)
def test_errors_do_not_depend_on_the_number_of_models(load_config, base, overrides, words):
    with pytest.raises(InputError, match=words) as caught:
        load_config(base, overrides)
    assert "stand_in.l" not in str(caught.value) and "resnet.d" not in str(caught.value)


def test_axes_reach_every_model(load_config):
    keys = engine.config.config_keys()
    assert {"model.depth", "model.layers", "model.frozen_stages"} <= set(keys) and len(keys) == len(set(keys))


@pytest.mark.parametrize("name", ["image_folder", "video_folder"])
def test_the_validation_set_may_be_the_training_set(tmp_path, name):
    """Which an overfitting on purpose wants, and any data set accepts."""
    for label in ("a", "b"):
        for number in range(2):
            folder = tmp_path / "train" / label / f"clip{number}"
            folder.mkdir(parents=True)
            for frame in range(1, 5):
                picture(16, 16).save(folder / f"{frame}.jpg")
    path = tmp_path / "x.yaml"
    path.write_text(f"data: {{name: {name}, root: {tmp_path}, train: train, validation: train}}\n")
    train_set, validation_set = build_data(engine.config.load_config(path))
    assert train_set.classes == validation_set.classes == ("a", "b") and len(train_set) == len(validation_set) > 0


def test_memory_that_is_used_up_has_words_for_it(base, monkeypatch):
    """Python's own MemoryError has none."""
    def take_all(seed: int = 0):
        raise MemoryError

    config = engine.config.load_config(base)
    monkeypatch.setattr("engine.build.data.DATASETS", {"synthetic": take_all})
    with pytest.raises(InputError, match="data: memory is used up"):
        build_data(config)
