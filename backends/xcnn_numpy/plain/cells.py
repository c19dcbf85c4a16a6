"""Activations a few cells at a time: what a formula makes on its way stays in cache, and takes no memory beside Y."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.trace import is_formula

from xcnn.core.arrays import namespace
from xcnn.core.pure import is_own
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Run
from xcnn_numpy.plain import blas
from xcnn_numpy.runs import holds

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host

BLOCK = 2**14
"""Cells at a time: a dozen arrays of them fit into a core's own cache."""
PER_CELL = 100
"""A cell takes about as long as so many multiplications within a product of matrices."""


@dataclass(frozen=True)
class InBlocks:
    """A layer alone whose Y is as large as X, and computed block by block."""

    backend: Host
    name: str
    layer: Any

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.size > 0


class Cells(InBlocks):
    """Y = f(X). Back, f is computed once more: what it made on the way forward would take several times X."""

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x, xp = np.ascontiguousarray(x), namespace(x)
        y, shape = empty(x.shape, x.dtype), x.shape
        cells = x.reshape(-1)

        def forward(here: slice) -> Any:
            return self.layer.f(xp, cells[here])[0]

        self.each_block(forward, y)

        def backward(dy: Array, grads: Weights) -> Array:
            dx, slopes = empty(shape, x.dtype), np.ascontiguousarray(dy).reshape(-1)

            def through(here: slice) -> Any:
                return self.layer.through(slopes[here], self.layer.f(xp, cells[here])[1]())

            self.each_block(through, dx)
            return dx

        return y, backward

    def each_block(self, of: Callable[[slice], Any], out: Array) -> None:
        """Fill an array with what `of` gives for each block of its cells, blocks shared out among threads."""
        flat = out.reshape(-1)

        def part(first: int, last: int) -> None:
            for n in range(first, last):
                here = slice(n * BLOCK, (n + 1) * BLOCK)
                flat[here] = of(here)

        blas.share(part, -(-out.size // BLOCK), PER_CELL * out.size, self.backend.workers)


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Cells] | None:
    """An activation of xcnn's own."""
    name, layer = layers[n]
    if not (is_formula(layer) and is_own(type(layer))):
        return None
    return 1, Cells(backend, name, layer)
