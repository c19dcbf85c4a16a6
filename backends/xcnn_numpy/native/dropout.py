"""Dropout: a byte for each cell, channel or sample, drawn on all threads, says whether it is kept, forward and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import address, call, library
from xcnn_native.recording import stays

from xcnn.core.types import Array, Weights
from xcnn.layers import Dropout, SpatialDropout2D, StochasticDepth
from xcnn.layers.layer import Run
from xcnn_numpy.native.arithmetic import scaled
from xcnn_numpy.native.layout import as_lying, holds, lying, new
from xcnn_numpy.runs import Dropped

if TYPE_CHECKING:
    from xcnn_strided.fusion import Named

    from xcnn_numpy.host import Host


class FusedDropout(Dropped):
    """Its words drawn in the order of x in memory, each by the number of its cell."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.size < 2**32

    def drawn(self, x: Array, run: Run, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        x, last = lying(x)
        kept, threads = new(x.shape, np.dtype(np.uint8), last), self.backend.workers
        sizes = (x.shape[0], x.shape[1], prod(x.shape[2:])) if last else (1, 1, x.size)
        if x.size:
            library().keep_u32(*key, least, *sizes, *cells_of(x, run), address(kept), threads)  # type: ignore[union-attr]

        def masked(x: Array) -> Array:
            x, y = as_lying(x, last), new(x.shape, x.dtype, last)
            call("masked", x.dtype, x.size, float(by), kept, x, y, threads)
            return y

        return masked


class DroppedParts(Dropped):
    """Whole channels of images, or whole samples, dropped: each is multiplied by its factor."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim == (4 if type(self.layer) is SpatialDropout2D else max(x.ndim, 2)) and x.size > 0

    def drawn(self, x: Array, run: Run, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        shape, threads = x.shape[: 2 if type(self.layer) is SpatialDropout2D else 1], self.backend.workers
        kept, factors = empty(shape, np.uint8), empty(shape, x.dtype)
        library().keep_u32(*key, least, 1, 1, kept.size, *cells_of(kept, run), address(kept), 1)  # type: ignore[union-attr]
        call("masked", x.dtype, kept.size, float(by), kept, stays(ones(kept.size, x.dtype)), factors, 1)
        return lambda x: scaled(x, factors, threads)


def cells_of(x: Array, run: Run) -> tuple[int, int]:
    """The number of x's first cell in the batch, and how many the batch has."""
    cells = x.size // len(x) if len(x) else 0
    return cells * (run.share.first if run.share else 0), cells * run.batch_size(len(x))


@cache
def ones(count: int, dtype: Any) -> Array:
    """So many ones."""
    return np.ones(count, dtype)


KINDS: dict[type, type[Dropped]] = {
    Dropout: FusedDropout, SpatialDropout2D: DroppedParts, StochasticDepth: DroppedParts
}  # fmt: skip


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Dropped] | None:
    """Dropout of any kind at a rate that keeps some and drops some."""
    name, dropout = layers[n]
    kind = KINDS.get(type(dropout))
    if kind is None or not 0 < dropout.rate < 1:  # type: ignore[attr-defined]
        return None
    return 1, kind(backend, name, dropout, n)  # type: ignore[arg-type]
