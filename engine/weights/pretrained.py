"""The network in a file of weights, whoever wrote it, and which convolutions of its bottlenecks stride."""

from pathlib import Path
from typing import Literal

from engine.config.yaml_text import read_yaml
from engine.errors import InputError
from engine.run.checkpoint import PADDLES_NOTE, check_names, weights_file
from engine.run.folder import CONFIG_FILE
from engine.weights.reading import read_tree
from models import Network, find_network

StrideIn = Literal["3x3", "1x1"]
NOTE = "stride_in"  # a text that lies beside the arrays of a converted file


def read_network(path: str | Path) -> tuple[Network, StrideIn | None]:
    """The network in a file, or of a checkpoint, and which convolutions of its bottlenecks stride, as far as it tells.

    Raises InputError and DataError, one line.
    """
    file = weights_file(path)
    tree, notes = read_tree(file)
    if not isinstance(tree, dict):
        raise InputError(f"{file}: holds a {type(tree).__name__}, expected a dictionary of arrays")
    # The networks of paddle.vision and of torchvision have the same names where no norm has statistics.
    prefer = "paddle.vision's" if tree.pop(PADDLES_NOTE, None) is not None else None
    try:
        network = find_network(tree, prefer)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    check_names((*network.state, *network.place), file)
    if not network.state:
        raise InputError(f"{file}: holds no weights")
    return network, _stride_in(file, network, notes)


def in_words(network: Network, stride_in: StrideIn | None) -> str:
    """What a network is, and where its strides were taken to be."""
    return f"{network}; its {stride_in} convolutions have the stride" if network.has_bottlenecks else str(network)


def _stride_in(file, network, notes):
    """What is noted in the file, or is so in all of its kind; of ours what the config of the run beside it says."""
    told = notes.get(NOTE) or network.stride_in
    beside = file.parent / CONFIG_FILE
    if told is None and network.is_ours and beside.exists():
        section = read_yaml(beside).get("model")
        told = section.get(NOTE) if isinstance(section, dict) else None
    return told if told in ("3x3", "1x1") else None
