"""The network that a file of weights holds: found among what lies around it, and brought under the names here."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.resnet import ResNet
from models.weights.layout import as_here, is_folded
from models.weights.names import MOST_BLOCKS, PADDLE_CLAS, Names, VGGNames, names_here, names_there, vgg_depth
from models.weights.sources import SOURCES, Source, StrideIn

# What lies beside weights under names like theirs, and what tells averaged weights.
BESIDE = re.compile(
    r"\.num_batches_tracked$|_momentum$|^(lr|model_iter)$|/(Momentum|Adam|Adam_1)(:0)?$|^EMA/|^(global_step|learning_rate)\b"
)
AVERAGED = re.compile(r"(^|[^a-z])(ema|swa|shadow|averaged?)([^a-z]|$)")
FIRST_NORMS = ("backbone.stem.norm", "backbone.norm1_1")  # of a ResNet, of a VGG
DEEPEST = 4  # dictionaries in each other
MOST = 8  # networks in a dictionary, and places that are named


@dataclass(frozen=True)
class Network:
    """Arrays by their names here, laid out as here, and what is known of them.

    source is None where the names are of no kind that is known; then they are as they were. place: the keys and the
    prefix under which the network lay. changes: what was done to arrays beyond another layout, in words.
    """

    state: dict[str, np.ndarray]
    source: Source | None = None
    place: tuple[str, ...] = ()
    changes: list[str] = field(default_factory=list)

    @property
    def stride_in(self) -> StrideIn | None:
        return self.source and self.source.stride_in

    @property
    def is_ours(self) -> bool:
        return self.source is None or self.source.is_ours

    @property
    def has_bottlenecks(self) -> bool:
        return any(name.endswith(".conv3.weight") for name in self.state)

    def __str__(self) -> str:
        """What it is, in words."""
        size = described({name: value.shape for name, value in self.state.items()})
        if self.source is None or size is None:
            return f"{len(self.state)} arrays of no network that is known"
        place = f" under {', '.join(self.place)}" if self.place else ""
        classes = f", {self.state['fc.bias'].size} classes" if "fc.bias" in self.state else ""
        return "; ".join([f"{self.source.title} {size}{classes}{place}", _norms(self.state), *self.changes])


def described(shapes: Mapping[str, tuple]) -> str | None:
    """A network's size in words, by the shapes of its arrays by their names here: "ResNet-50 of width 64"."""
    if depth := vgg_depth(shapes):
        return f"VGG-{depth} of width {shapes['backbone.conv1_1.weight'][0]}"
    first = shapes.get("backbone.c2.0.conv1.weight")
    if not first:
        return None
    counts = tuple(sum(f"backbone.c{k}.{n}.conv1.weight" in shapes for n in range(MOST_BLOCKS)) for k in range(2, 6))
    expansion = 4 if "backbone.c2.0.conv3.weight" in shapes else 1
    depths = {(block.expansion, blocks): f"ResNet-{depth}" for depth, (block, blocks) in ResNet.BLOCKS.items()}
    size = depths.get((expansion, counts), f"ResNet of {', '.join(map(str, counts))} blocks")
    return f"{size} of width {first[0]}"


def _norms(state):
    first = next((norm for norm in FIRST_NORMS if f"{norm}.weight" in state), None)
    if first is None:
        return "without norms"
    variance = state.get(f"{first}._variance")
    if variance is None:
        return "norms without statistics (group norm)"
    return "batch norm folded into scale and shift" if is_folded(variance) else "batch norm"


def find_network(tree: Mapping, prefer: str | None = None) -> Network:
    """The one network in what a file holds; of several the averaged one.

    tree: arrays and other values by name, with dictionaries in it. prefer: the title of the source that is taken
    where the names are those of several. Raises ValueError where it holds several networks, or one that is of no kind
    that there is here.
    """
    groups = list(_groups(tree))
    found = [(keys, arrays, *reading) for keys, arrays in groups for reading in _readings(arrays, prefer)]
    if not found:
        return Network(max((arrays for _, arrays in groups), key=len, default={}))
    if len(found) > 1:
        averaged = [each for each in found if AVERAGED.search(" ".join((*each[0], each[2])).lower())]
        if len(averaged) != 1:
            places = [" ".join(filter(None, (*keys, prefix))) or "the top" for keys, _, prefix, *_ in found[:MOST]]
            shown = ascii(", ".join(places))[1:-1] + ", …" * (len(found) > MOST)
            raise ValueError(f"holds {len(found)} networks, at {shown}; save the one that is wanted by itself")
        found = averaged
    keys, arrays, prefix, source, known = found[0]
    if source.names is PADDLE_CLAS and f"{prefix}stem.1.conv.weight" in arrays:
        raise ValueError("is a ResNet-vd (three convolutions in the stem, pools in shortcuts): there is none here")
    shown = prefix.removesuffix("backbone.") if source.is_ours else prefix
    state = {}
    for name, value in arrays.items():
        if not BESIDE.search(name):
            ours = known.get(name) or (_own_name(name, prefix) if source.is_ours else name)
            state.setdefault(ours, value)
    return Network(state, source, (*keys, *filter(None, [shown])), as_here(source, state))


def _groups(tree, keys=()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """(keys that lead there, the arrays in it) of every dictionary in a tree."""
    if arrays := {name: value for name, value in tree.items() if isinstance(value, np.ndarray)}:
        yield keys, arrays
    if len(keys) < DEEPEST:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                yield from _groups(value, (*keys, str(name)))


def _readings(arrays, prefer) -> Iterable[tuple[str, Source, dict[str, str]]]:
    """(prefix, source, {name there: name here}) of each network in a dictionary, by the source that knows it best."""
    best = {}
    for source in sorted(SOURCES, key=lambda source: source.title != prefer):
        table, written = names_here(source.names), _as_in_tables(source.names, arrays)
        for prefix in _prefixes(source.names, written.values()):
            known = {
                theirs: table[name.removeprefix(prefix)] for theirs, name in written.items()
                if name.removeprefix(prefix) in table and (name.startswith(prefix) or table[name].startswith("fc."))
            }
            if len(known) > len(best[prefix][2] if prefix in best else ()):
                best[prefix] = prefix, source, known
    return best.values()


def _prefixes(names: Names | VGGNames, written):
    """What stands before the names of each network: the two layers by which it is known are there."""
    first, second = (names_there(names)[sign] for sign in names.signs)
    before = {name.removesuffix(first) for name in written if name.endswith(first)}
    both = sorted(before & {name.removesuffix(second) for name in written if name.endswith(second)})
    if len(both) > MOST:
        raise ValueError(f"holds {len(both)} networks beside each other; save the one that is wanted by itself")
    return both


def _as_in_tables(names, arrays):
    """{name: as the tables have it}: without TensorFlow's number of an output, PaddleClas' blocks counted by stages.

    PyTorch's ImageNet example spreads a VGG's convolutions alone over devices, so that `module` stands within names.
    """
    written = {name: name.removesuffix(":0") for name in arrays}
    if isinstance(names, VGGNames):
        return {name: re.sub(r"\bfeatures\.module\.", "features.", short) for name, short in written.items()}
    if names is not PADDLE_CLAS:
        return written
    parts = {name: re.fullmatch(r"(.*\bblocks\.)(\d{1,3})(\..+)", name) for name in arrays}
    begins = sorted({0, *(int(match[2]) for match in parts.values() if match and match[3] == ".short.conv.weight")})
    for name, match in parts.items():
        if match and len(begins) == 4:
            stage = sum(begin <= int(match[2]) for begin in begins) - 1
            written[name] = f"{match[1]}{stage + 2}.{int(match[2]) - begins[stage]}{match[3]}"
    return written


def _own_name(name, prefix):
    """Of what only some networks here have: a deformable convolution's offsets, a detector's heads."""
    outer = prefix.removesuffix("backbone.")
    return name.removeprefix(outer) if outer != prefix else f"backbone.{name.removeprefix(prefix)}"
