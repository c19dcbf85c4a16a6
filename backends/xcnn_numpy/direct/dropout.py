"""Dropout that draws its random words by vectors and keeps them for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn import random
from xcnn._typing import Array, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import Dropout
from xcnn.layers.layer import Run
from xcnn_numpy.buffers import empty
from xcnn_numpy.direct.algorithm import Direct, flat
from xcnn_numpy.direct.lines import kept, random_words
from xcnn_numpy.direct.team import Shared
from xcnn_numpy.fusion import holds

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named


@Shared
def draw(words: Any, key: Any, part: int, first: int, last: int) -> None:
    """The words of counters first to last - 1; those of all counters fill `words`, first words before second ones."""
    half = words.size // 2
    random_words(words, first, half + first, key, first, last - first)


@Shared
def scale(y: Any, x: Any, words: Any, least: int, by: float, part: int, first: int, last: int) -> None:
    """Y = x by, where a cell is kept, else x 0."""
    kept(y, x, first, words, first, least, by, last - first)


@dataclass(frozen=True)
class FusedDropout:
    """Y = M X / (1 - rate) in training."""

    direct: Direct
    name: str
    layer: Dropout
    n: int

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.size < 2**32

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x_shape, rate = x.shape, self.layer.rate
        if not run.train:
            return x, lambda dy, grads: self.checked(x_shape, dy)
        key, least = random.fold((*run.key, self.n)), int(rate * 2**32)
        by = x.dtype.type(1) / x.dtype.type(1 - rate)
        words = empty((x.size + x.size % 2,), np.dtype(np.uint32))
        half, work = words.size // 2, 16 * x.size  # a word takes about as long as so many multiplications
        self.direct.share(draw, half, work, words, key)

        def product(x: Array) -> Array:
            source, y = flat(x), empty((x.size,), x.dtype)
            self.direct.share(scale, x.size, x.size, y, source, words, least, by)
            return y.reshape(x_shape)

        return product(x), lambda dy, grads: product(self.checked(x_shape, dy))

    def checked(self, x_shape: tuple[int, ...], dy: Array) -> Array:
        """DY, if it has the shape of y."""
        with inside(self.name):
            check_dy(self.layer, x_shape, dy)
        return dy


def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, FusedDropout] | None:
    """Dropout at a rate that keeps some and drops some."""
    name, dropout = layers[n]
    if type(dropout) is not Dropout or not 0 < dropout.rate < 1:
        return None
    return 1, FusedDropout(backend.direct, name, dropout, n)
