"""Give a model the weights of another: what files call them (names.py), and what fits (loading.py)."""

from models.weights.loading import WeightsReport, load_weights
from models.weights.names import from_torch_names, to_torch_names

__all__ = ["WeightsReport", "from_torch_names", "load_weights", "to_torch_names"]
