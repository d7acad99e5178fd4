"""What files of weights call the entries of a ResNet or a VGG, and what the entries are called here.

Here, in a ResNet classifier: backbone.stem.conv, backbone.stem.norm, backbone.cK.N.convJ, .normJ, .shortcut.conv and
.shortcut.norm with K from 2 to 5, N from 0, J from 1, and fc; in a VGG's: backbone.convK_N, backbone.normK_N with K
from 1 to 5, N from 1, backbone.fc6, backbone.fc7, and fc; entries .weight, .bias, batch norm's ._mean, ._variance.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from models.vgg import VGG

MOST_BLOCKS = 64  # of a stage; ResNet-152 has 36
DOTTED = (("weight", ".weight"), ("bias", ".bias"))
Entries = tuple[tuple[str, str], ...]  # (the name here, theirs) of each


@dataclass(frozen=True)
class Names:
    """How one kind of file writes the names of a ResNet's layers, and what it sets behind them for their entries.

    Fields in braces: k is the stage as here (2 to 5), s the stage from 1, g from 0; n is the block from 0; j the
    convolution from 1, i from 0, letter from a.
    """

    stem_conv: str
    stem_norm: str
    conv: str
    norm: str
    shortcut_conv: str
    shortcut_norm: str
    fc: tuple[str, ...]  # all that are met
    entries: Entries  # of convolutions and the linear layer
    norm_entries: Entries

    signs = ("backbone.stem.conv.weight", "backbone.c2.0.conv1.weight")  # by which a network is known, by name here

    def layers(self) -> Iterator[tuple[str, str, Entries]]:
        """(their name, the name here, entries) of every layer that a classifier may have, in the order of a network."""
        yield self.stem_conv, "backbone.stem.conv", self.entries
        yield self.stem_norm, "backbone.stem.norm", self.norm_entries
        for k in range(2, 6):
            for n in range(MOST_BLOCKS):
                block, at = f"backbone.c{k}.{n}", {"k": k, "s": k - 1, "g": k - 2, "n": n}
                for j in (1, 2, 3):
                    at.update(j=j, i=j - 1, letter="abc"[j - 1])
                    conv = self.conv.format(**at)
                    yield conv, f"{block}.conv{j}", self.entries
                    yield f"{conv}.offset", f"{block}.conv{j}.offset", self.entries  # where it is deformable
                    yield self.norm.format(**at), f"{block}.norm{j}", self.norm_entries
                yield self.shortcut_conv.format(**at), f"{block}.shortcut.conv", self.entries
                yield self.shortcut_norm.format(**at), f"{block}.shortcut.norm", self.norm_entries
        for fc in self.fc:
            yield fc, "fc", self.entries


@dataclass(frozen=True)
class VGGNames:
    """torchvision's way to write the names of a VGG's layers: they are counted, pools and ReLUs among them.

    with_norms: whether a norm stands behind each convolution, and counts. The pools are all five.
    """

    depth: int
    with_norms: bool
    norm_entries: Entries

    @property
    def signs(self) -> tuple[str, str]:
        """As of `Names`: the first and the last convolution, for AlexNet begins alike."""
        return "backbone.conv1_1.weight", f"backbone.conv5_{VGG.BLOCKS[self.depth][-1]}.weight"

    def layers(self) -> Iterator[tuple[str, str, Entries]]:
        """As of `Names`."""
        index = 0
        for block, count in enumerate(VGG.BLOCKS[self.depth], 1):
            for number in range(1, count + 1):
                yield f"features.{index}", f"backbone.conv{block}_{number}", DOTTED
                if self.with_norms:
                    yield f"features.{index + 1}", f"backbone.norm{block}_{number}", self.norm_entries
                index += 3 if self.with_norms else 2
            index += 1
        for index, layer in ((0, "backbone.fc6"), (3, "backbone.fc7"), (6, "fc")):
            yield f"classifier.{index}", layer, DOTTED


@dataclass(frozen=True)
class OwnVGGNames(VGGNames):
    """How they are written here; those of VGG-19 are all that there are."""

    signs = ("backbone.conv1_1.weight", "backbone.conv5_1.weight")

    def layers(self) -> Iterator[tuple[str, str, Entries]]:
        """As of `Names`."""
        for _, ours, entries in VGGNames.layers(self):
            yield ours.removeprefix("backbone."), ours, entries


@cache
def names_here(names: Names | VGGNames) -> dict[str, str]:
    """Their name -> the name here, of every entry that a classifier may have, in the order of a network."""
    return {
        theirs + after: f"{ours}.{entry}" for theirs, ours, entries in names.layers() for entry, after in entries
    }


@cache
def names_there(names: Names | VGGNames) -> dict[str, str]:
    """The name here -> theirs; the first where there are several."""
    return {ours: theirs for theirs, ours in reversed(names_here(names).items())}


STATISTICS = (("_mean", "._mean"), ("_variance", "._variance"))
TORCH_STATISTICS = (("_mean", ".running_mean"), ("_variance", ".running_var"))
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
    entries=DOTTED, norm_entries=(*DOTTED, *TORCH_STATISTICS),
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


OURS_VGG = OwnVGGNames(max(VGG.BLOCKS), True, (*DOTTED, *STATISTICS))
VGGS = [(depth, with_norms) for depth in VGG.BLOCKS for with_norms in (False, True)]
TORCH_VGG = {kind: VGGNames(*kind, (*DOTTED, *TORCH_STATISTICS)) for kind in VGGS}
PADDLE_VISION_VGG = {kind: VGGNames(*kind, (*DOTTED, *STATISTICS)) for kind in VGGS}


def is_entry(name: str) -> bool:
    """Whether a plain classifier here may have an entry of this name."""
    return name in names_there(OURS) or name in names_there(OURS_VGG)


def vgg_depth(names: Collection[str]) -> int | None:
    """The depth of the VGG whose entries have these names here; None where there are those of none."""
    counts = tuple(sum(f"backbone.conv{block}_{n}.weight" in names for n in range(1, 5)) for block in range(1, 6))
    return next((depth for depth, blocks in VGG.BLOCKS.items() if blocks == counts), None)


def from_torch_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict of a torchvision, timm or GN authors' ResNet, or of a torchvision VGG, as a classifier's here.

    Linear layers are transposed, for torch has them as [out, in]; num_batches_tracked is left out. Names that such a
    network has not stay as they are.
    """
    kept = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    tables = [names_here(TORCH_GN) | names_here(TORCH), *map(names_here, TORCH_VGG.values())]
    here = max(tables, key=lambda table: len(table.keys() & kept.keys()))
    return {here.get(name, name): _turned(value) if name in here else value for name, value in kept.items()}


def to_torch_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A classifier's state dict as torchvision (and timm) names it: the inverse of `from_torch_names`.

    state: the arrays by their names here, with `backbone.` and `fc`; a bare backbone's names will do. Raises ValueError
    for an entry that is none of a ResNet's or VGG's. A deformable convolution's offset branch, which theirs have not,
    is called as here below its convolution.
    """
    whole = {f"backbone.{name}" if not name.startswith(("backbone.", "fc.")) else name: name for name in state}
    depth = vgg_depth(whole)
    names = TORCH_VGG[depth, "backbone.norm1_1.weight" in whole] if depth else TORCH
    renamed, there = {}, names_there(names)
    for ours, name in whole.items():
        if ours not in there:
            raise ValueError(f"{name}: torchvision's {'VGGs' if depth else 'ResNets'} have no such entry")
        renamed[there[ours]] = _turned(state[name])
    return renamed


def _turned(value):
    """A linear layer's weight is [in, out] here and [out, in] there."""
    return np.ascontiguousarray(value.T) if value.ndim == 2 else value
