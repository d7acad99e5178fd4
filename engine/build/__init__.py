"""The door: a Config comes in; a model, data and an optimizer of plain arguments go out."""

from engine.build.data import build_data, build_labelled, build_loaders, build_validation_loader
from engine.build.learner import build_schedule, check_device, make_learner
from engine.build.model import build_model, check_model, load_pretrained
from engine.build.trained import load_trained, set_precise

__all__ = [
    "build_data", "build_labelled", "build_loaders", "build_model", "build_schedule", "build_validation_loader",
    "check_device", "check_model", "load_pretrained", "load_trained", "make_learner", "set_precise",
]
