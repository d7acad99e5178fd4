"""A file of another's weights as one of this project's."""

from pathlib import Path

import numpy as np
import paddle

from engine.errors import InputError
from engine.files import written_whole
from engine.weights.pretrained import NOTE, StrideIn, in_words, read_network
from models import Network
from models.weights.layout import widened
from models.weights.names import is_entry

SHOWN = 6  # names in a message


def convert(path: str | Path, target: Path, stride_in: StrideIn | None = None) -> list[str]:
    """Write the network in a file of weights to `target`, a .pdparams of float32 arrays; what was found, in lines.

    `stride_in` goes before what the file tells. Raises InputError and DataError, one line, and DiskError.
    """
    if target.suffix != ".pdparams":
        raise InputError(f"{target}: expected a name that ends in .pdparams, which is what is written")
    network, told = read_network(path)
    stride_in = stride_in or told
    _check(path, network, stride_in)
    kept = [name for name in network.state if network.is_ours or is_entry(name)]
    left = [name for name in network.state if name not in kept]
    note = {NOTE: stride_in} if network.has_bottlenecks else {}
    with written_whole(target) as part:
        paddle.save({**{name: _tensor(network.state[name]) for name in kept}, **note}, str(part))
    return [
        f"{path}: {in_words(network, stride_in)}",
        *([f"left out, for no network here has such entries: {_some(left)}"] if left else []),
        f"{target}: {len(kept)} arrays in float32; start from them with pretrained={target}",
    ]


def _check(path, network: Network, stride_in):
    if network.source is None:
        raise InputError(
            f"{path}: has {network}, {_some(list(network.state))}; "
            "expected a ResNet or VGG with the names of PyTorch, Paddle, Detectron or tensorpack"
        )
    if network.has_bottlenecks and stride_in is None:
        raise InputError(
            f"{path}: is {network}; it does not tell which convolutions of its blocks have the stride: "
            "say --stride-in 3x3, as most do, or --stride-in 1x1, as Caffe's did"
        )


def _tensor(array):
    array = widened(array)
    return paddle.to_tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)


def _some(names):
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
