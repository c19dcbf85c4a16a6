"""Dropout whose random words are drawn on all threads; its mask is kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from xcnn_host import random
from xcnn_host.buffers import empty

from xcnn.core.types import Array
from xcnn.layers.layer import Run
from xcnn_numpy.plain import blas
from xcnn_numpy.runs import Dropped, fuse_dropout

PER_WORD = 400
"""A random word takes about as long as so many multiplications within a product of matrices."""


class FusedDropout(Dropped):
    """Its mask drawn by NumPy."""

    takes_shares: ClassVar[bool] = False

    def drawn(self, x: Array, run: Run, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        half = -(-x.size // 2)
        mask = empty((2 * half,), x.dtype)

        def part(first: int, last: int) -> None:
            for a, *pair in random.words(key, first, last):
                for start, word in zip((a, half + a), pair, strict=True):
                    np.multiply(word >= least, by, out=mask[start : start + len(word)])

        blas.share(part, half, PER_WORD * x.size, self.backend.workers)
        mask = mask[: x.size].reshape(x.shape)
        return lambda x: np.multiply(x, mask, out=empty(x.shape, x.dtype))


fuse = fuse_dropout(FusedDropout)
"""Dropout at a rate that keeps some and drops some."""
