"""A batch: a dict of arrays, each [N, ...], so that a step can be cut into passes by slicing every value."""

from collections.abc import Mapping


def length(batch: Mapping) -> int:
    """N: how many samples a batch has."""
    return len(next(iter(batch.values())))
