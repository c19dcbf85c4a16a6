"""Which samples of a batch are whose: consecutive ones, and of a batch that is computed in parts some of each part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from xcnn.data.source import Numbers


def cuts(count: int, parts: int) -> list[tuple[int, int]]:
    """The first and the end of each of so many parts, whose sizes differ by one at most; some may be empty."""
    return [*pairwise(count * n // parts for n in range(parts + 1))]


def slices(count: int, parts: int, rank: int, size: int) -> list[tuple[int, int]]:
    """The samples of a batch that are a rank's, of each of the parts in which it is computed."""
    found = []
    for first, end in cuts(count, parts):
        a, b = cuts(end - first, size)[rank]
        found.append((first + a, first + b))
    return found


def places(count: int, parts: int, rank: int, size: int) -> Numbers:
    """The same as numbers."""
    return np.concatenate([np.arange(a, b) for a, b in slices(count, parts, rank, size)])


@lru_cache(maxsize=64)
def lengths(counts: tuple[int, ...], parts: int) -> list[tuple[int, ...]]:
    """How many samples of each part each rank has, by how many it has in all.

    They are those of `slices`, unless a source left samples out: then each rank cuts what it has.
    """
    size, whole = len(counts), sum(counts)
    planned = [[b - a for a, b in slices(whole, parts, rank, size)] for rank in range(size)]
    if [*map(sum, planned)] != [*counts]:
        planned = [[b - a for a, b in cuts(count, parts)] for count in counts]
    return [*zip(*planned, strict=True)]


def bounds(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where parts of these sizes begin and end, one behind the other."""
    return [*pairwise(accumulate(sizes, initial=0))]
