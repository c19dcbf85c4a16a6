"""Dropout: a byte for each cell, drawn on all threads, says whether it is kept, forward and back."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from xcnn_native.library import address, call, library

from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Run
from xcnn_numpy.native.layout import as_lying, holds, lying, new
from xcnn_numpy.runs import Dropped, fuse_dropout


class FusedDropout(Dropped):
    """Its words drawn in the order of x in memory, each by the number of its cell."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.size < 2**32

    def drawn(self, x: Array, run: Run, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        x, last = lying(x)
        whole = (run.batch_size(x.shape[0]), *x.shape[1:])
        kept, threads = new(whole, np.dtype(np.uint8), last), self.backend.workers
        sizes = (whole[0], whole[1], prod(whole[2:])) if last else (1, 1, prod(whole))
        if x.size:
            library().keep_u32(*key, least, *sizes, address(kept), threads)  # type: ignore[union-attr]
        if run.share is not None:
            kept = kept[run.share.first :][: x.shape[0]]

        def masked(x: Array) -> Array:
            x, y = as_lying(x, last), new(x.shape, x.dtype, last)
            call("masked", x.dtype, x.size, float(by), kept, x, y, threads)
            return y

        return masked


fuse = fuse_dropout(FusedDropout)
"""Dropout at a rate that keeps some and drops some."""
