"""What files of ResNet weights call their entries, and what the entries are called here.

Here, in a classifier: backbone.stem.conv, backbone.stem.norm, backbone.cK.N.convJ, .normJ, .shortcut.conv and
.shortcut.norm with K from 2 to 5, N from 0, J from 1, and fc; entries .weight, .bias, batch norm's ._mean, ._variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

MOST_BLOCKS = 64  # of a stage; ResNet-152 has 36
DOTTED = (("weight", ".weight"), ("bias", ".bias"))


@dataclass(frozen=True)
class Names:
    """How one kind of file writes the names of a ResNet's layers, and what it sets behind them for their entries.

    Fields in braces: k is the stage as here (2 to 5), s the stage from 1, g from 0; n is the block from 0; j the
    convolution from 1, i from 0, letter from a. The entries are pairs (here, there).
    """

    stem_conv: str
    stem_norm: str
    conv: str
    norm: str
    shortcut_conv: str
    shortcut_norm: str
    fc: tuple[str, ...]  # all that are met
    entries: tuple[tuple[str, str], ...]  # of convolutions and the linear layer
    norm_entries: tuple[tuple[str, str], ...]


@cache
def names_here(names: Names) -> dict[str, str]:
    """Their name -> the name here, of every entry that a classifier may have, in the order of a network."""
    table = {}

    def put(theirs, ours, entries):
        table.update({theirs + after: f"{ours}.{entry}" for entry, after in entries})

    put(names.stem_conv, "backbone.stem.conv", names.entries)
    put(names.stem_norm, "backbone.stem.norm", names.norm_entries)
    for k in range(2, 6):
        for n in range(MOST_BLOCKS):
            block, at = f"backbone.c{k}.{n}", {"k": k, "s": k - 1, "g": k - 2, "n": n}
            for j in (1, 2, 3):
                at.update(j=j, i=j - 1, letter="abc"[j - 1])
                put(names.conv.format(**at), f"{block}.conv{j}", names.entries)
                put(f"{names.conv.format(**at)}.offset", f"{block}.conv{j}.offset", names.entries)  # where deformable
                put(names.norm.format(**at), f"{block}.norm{j}", names.norm_entries)
            put(names.shortcut_conv.format(**at), f"{block}.shortcut.conv", names.entries)
            put(names.shortcut_norm.format(**at), f"{block}.shortcut.norm", names.norm_entries)
    for fc in names.fc:
        put(fc, "fc", names.entries)
    return table


@cache
def names_there(names: Names) -> dict[str, str]:
    """The name here -> theirs; the first where there are several."""
    return {ours: theirs for theirs, ours in reversed(names_here(names).items())}


STATISTICS = (("_mean", "._mean"), ("_variance", "._variance"))
OURS = Names(
    stem_conv="stem.conv", stem_norm="stem.norm", conv="c{k}.{n}.conv{j}", norm="c{k}.{n}.norm{j}",
    shortcut_conv="c{k}.{n}.shortcut.conv", shortcut_norm="c{k}.{n}.shortcut.norm", fc=("fc",),
    entries=DOTTED, norm_entries=(*DOTTED, *STATISTICS),
)
# torchvision and timm, which calls group norm bn too; the GN authors' PyTorch code (ppwwyyxx/GroupNorm-reproduce)
# calls it gn, but for the shortcut's.
TORCH = Names(
    stem_conv="conv1", stem_norm="bn1", conv="layer{s}.{n}.conv{j}", norm="layer{s}.{n}.bn{j}",
    shortcut_conv="layer{s}.{n}.downsample.0", shortcut_norm="layer{s}.{n}.downsample.1", fc=("fc",),
    entries=DOTTED, norm_entries=(*DOTTED, ("_mean", ".running_mean"), ("_variance", ".running_var")),
)
TORCH_GN = replace(TORCH, stem_norm="gn1", norm="layer{s}.{n}.gn{j}", norm_entries=DOTTED)
PADDLE_VISION = replace(TORCH, norm_entries=(*DOTTED, *STATISTICS))
# Its blocks are counted through all stages; by here network.py has counted them by stages.
PADDLE_CLAS = Names(
    stem_conv="stem.0.conv", stem_norm="stem.0.bn",
    conv="blocks.{k}.{n}.conv{i}.conv", norm="blocks.{k}.{n}.conv{i}.bn",
    shortcut_conv="blocks.{k}.{n}.short.conv", shortcut_norm="blocks.{k}.{n}.short.bn", fc=("fc",),
    entries=DOTTED, norm_entries=(*DOTTED, *STATISTICS),
)
# With batch norm folded into scale and shift. fc1000 is MSRA's.
DETECTRON = Names(
    stem_conv="conv1", stem_norm="res_conv1_bn",
    conv="res{k}_{n}_branch2{letter}", norm="res{k}_{n}_branch2{letter}_bn",
    shortcut_conv="res{k}_{n}_branch1", shortcut_norm="res{k}_{n}_branch1_bn", fc=("pred", "fc1000"),
    entries=(("weight", "_w"), ("bias", "_b")), norm_entries=(("weight", "_s"), ("bias", "_b")),
)
DETECTRON_BN = replace(DETECTRON, norm_entries=(*DETECTRON.norm_entries, ("_mean", "_rm"), ("_variance", "_riv")))
DETECTRON_GN = replace(
    DETECTRON, stem_norm="conv1_gn", norm="res{k}_{n}_branch2{letter}_gn", shortcut_norm="res{k}_{n}_branch1_gn",
)
TENSORPACK = Names(
    stem_conv="conv0", stem_norm="conv0/bn", conv="group{g}/block{n}/conv{j}", norm="group{g}/block{n}/conv{j}/bn",
    shortcut_conv="group{g}/block{n}/convshortcut", shortcut_norm="group{g}/block{n}/convshortcut/bn", fc=("linear",),
    entries=(("weight", "/W"), ("bias", "/b")),
    norm_entries=(("weight", "/gamma"), ("bias", "/beta"), ("_mean", "/mean/EMA"), ("_variance", "/variance/EMA")),
)
TENSORPACK_GN = replace(
    TENSORPACK, stem_norm="conv0/gn", norm="group{g}/block{n}/conv{j}/gn",
    shortcut_norm="group{g}/block{n}/convshortcut/gn", norm_entries=TENSORPACK.norm_entries[:2],
)


def is_entry(name: str) -> bool:
    """Whether a plain classifier here may have an entry of this name."""
    return name in names_there(OURS)


def from_torch_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict of a torchvision, timm or GN authors' ResNet as a classifier's here.

    The linear layer is transposed, for torch has it as [out, in]; num_batches_tracked is left out. Names that such a
    network has not stay as they are.
    """
    here = {**names_here(TORCH_GN), **names_here(TORCH)}
    kept = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    return {here.get(name, name): _turned(here.get(name), value) for name, value in kept.items()}


def to_torch_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A classifier's state dict as torchvision (and timm) names it: the inverse of `from_torch_names`.

    state: the arrays by their names here, with `backbone.` and `fc`; a bare ResNet's names will do. Raises ValueError
    for an entry that is none of a ResNet's. A deformable convolution's offset branch, which theirs have not, is called
    as here below its convolution.
    """
    renamed, there = {}, names_there(TORCH)
    for name, value in state.items():
        ours = name if name in there else f"backbone.{name}"
        if ours not in there:
            raise ValueError(f"{name}: torchvision's ResNets have no such entry")
        renamed[there[ours]] = _turned(ours, value)
    return renamed


def _turned(name, value):
    """The linear layer's weight is [in, out] here and [out, in] there."""
    return np.ascontiguousarray(value.T) if name == "fc.weight" and value.ndim == 2 else value
