"""Weights from elsewhere: files of every kind that is known are read, as data, by what they hold.

reading.py tells the kinds apart; zips.py, torch_pickle.py and safetensors.py read those that are no plain pickles.
What the names in them mean, `models.weights` knows; pretrained.py asks it.
"""

from engine.weights.pretrained import in_words, read_network

__all__ = ["in_words", "read_network"]
