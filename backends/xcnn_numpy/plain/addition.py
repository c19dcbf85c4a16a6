"""The sum at a shortcut's end and the ReLU after it, in memory that is used again."""

from __future__ import annotations

import numpy as np
from xcnn_host.buffers import empty
from xcnn_strided.shortcut import fuse_shortcut

from xcnn.core.types import Array
from xcnn.layers import ReLU
from xcnn_numpy.plain import activations, blas
from xcnn_numpy.runs import HostShortcut

PER_CELL = 30
"""A cell takes about as long as so many multiplications within a product of matrices."""


class Addition(HostShortcut):
    """Its sums by NumPy, a few images to a thread."""

    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        out = empty(a.shape, a.dtype)

        def part(first: int, last: int) -> None:
            some = np.add(a[first:last], b[first:last], out=out[first:last])
            activations.apply(ReLU if relu else None, some)

        blas.share(part, len(a), PER_CELL * a.size, self.backend.workers)
        return out

    def slope(self, dy: Array, y: Array) -> Array:
        out = empty(y.shape, y.dtype)

        def part(first: int, last: int) -> None:
            activations.slope(ReLU, dy[first:last], y[first:last], out[first:last])

        blas.share(part, len(y), PER_CELL * y.size, self.backend.workers)
        return out


fuse = fuse_shortcut(Addition)
"""Residual, and the ReLU after it."""
