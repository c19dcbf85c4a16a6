"""Dropout that draws its random words by vectors and keeps them for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.types import Array, Weights
from xcnn_numpy.direct.algorithm import flat
from xcnn_numpy.direct.lines import kept, random_words
from xcnn_numpy.direct.thread_pool import Shared
from xcnn_numpy.runs import Dropped, fuse_dropout

PER_WORD = 16
"""A random word takes about as long as so many multiplications within a product."""


@Shared
def draw(words: Any, key: Any, part: int, first: int, last: int) -> None:
    """The words of counters first to last - 1; those of all counters fill `words`, first words before second ones."""
    half = words.size // 2
    random_words(words, first, half + first, key, first, last - first)


@Shared
def scale(y: Any, x: Any, words: Any, least: int, by: float, part: int, first: int, last: int) -> None:
    """Y = x by, where a cell is kept, else x 0."""
    kept(y, x, first, words, first, least, by, last - first)


class FusedDropout(Dropped):
    """Its words drawn and met by compiled loops."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return super().fits(weights, x) and x.size < 2**32

    def drawn(self, x: Array, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        words, direct = empty((x.size + x.size % 2,), np.dtype(np.uint32)), self.backend.direct
        direct.share(draw, words.size // 2, PER_WORD * x.size, words, key)

        def masked(x: Array) -> Array:
            source, y = flat(x), empty((x.size,), x.dtype)
            direct.share(scale, x.size, x.size, y, source, words, least, by)
            return y.reshape(x.shape)

        return masked


fuse = fuse_dropout(FusedDropout)
"""Dropout at a rate that keeps some and drops some."""
