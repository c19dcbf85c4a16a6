"""Dropout whose random words are drawn on all threads; its mask is kept for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xcnn._typing import Array, Shape, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import Dropout
from xcnn.layers.layer import Run
from xcnn.random import fold
from xcnn_numpy import random
from xcnn_numpy.buffers import empty
from xcnn_numpy.fusion import holds
from xcnn_numpy.plain import blas
from xcnn_numpy.threads import available

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named

PER_WORD = 400
"""A random word takes about as long as so many multiplications within a product of matrices."""


@dataclass(frozen=True)
class FusedDropout:
    """Y = M X / (1 - rate) in training."""

    backend: NumpyBackend
    name: str
    layer: Dropout
    n: int

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x_shape, rate = x.shape, self.layer.rate
        if not run.train:
            return x, lambda dy, grads: self.checked(x_shape, dy)
        key, least = fold((*run.key, self.n)), int(rate * 2**32)
        kept = x.dtype.type(1) / x.dtype.type(1 - rate)
        half = -(-x.size // 2)
        mask = empty((2 * half,), x.dtype)

        def draw(first: int, last: int) -> None:
            for a, *pair in random.words(key, first, last):
                for start, word in zip((a, half + a), pair, strict=True):
                    np.multiply(word >= least, kept, out=mask[start : start + len(word)])

        blas.share(draw, half, PER_WORD * x.size, self.backend.threads or available())
        mask = mask[: x.size].reshape(x_shape)
        return self.product(x, mask), lambda dy, grads: self.product(self.checked(x_shape, dy), mask)

    def product(self, x: Array, mask: Array) -> Array:
        """Both are shaped alike."""
        return np.multiply(x, mask, out=empty(x.shape, x.dtype))

    def checked(self, x_shape: Shape, dy: Array) -> Array:
        """DY, if it has the shape of y."""
        with inside(self.name):
            check_dy(self.layer, x_shape, dy)
        return dy


def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, FusedDropout] | None:
    """Dropout at a rate that keeps some and drops some."""
    name, dropout = layers[n]
    if type(dropout) is not Dropout or not 0 < dropout.rate < 1:
        return None
    return 1, FusedDropout(backend, name, dropout, n)
