"""Networks made of ops: plain keyword arguments in, nothing of configs known."""

from models.classifier import Classifier
from models.resnet import ResNet, from_paddle_names, resnet
from models.weights import WeightsReport, load_weights

__all__ = ["Classifier", "ResNet", "WeightsReport", "from_paddle_names", "load_weights", "resnet"]
