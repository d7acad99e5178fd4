"""Give a model the weights of another.

names.py and sources.py say what files of weights call the entries and what else is different there; network.py finds
the network in a file and brings it under the names here, laid out by layout.py; loading.py puts it into a model.
"""

from models.weights.loading import WeightsReport, frozen_entries, load_weights
from models.weights.names import from_torch_names, to_torch_names
from models.weights.network import Network, find_network

__all__ = [
    "Network", "WeightsReport", "find_network", "from_torch_names", "frozen_entries", "load_weights", "to_torch_names",
]
