"""Predictions of layers that normalise each sample for itself, a few samples at a time.

What such a layer makes on its way, several arrays as large as X, is of these few alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcnn_host.buffers import empty

from xcnn.core.types import Array, Weights
from xcnn.errors import inside
from xcnn.layers import GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from xcnn.layers.layer import Run
from xcnn_numpy.plain import blas
from xcnn_numpy.plain.cells import PER_CELL, InBlocks

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host

BLOCK = 2**16
"""Cells of a few samples."""


class BySamples(InBlocks):
    """Y = f(X), of a prediction by blocks of samples; what is to have a gradient is the layer's own, whole."""

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine = weights.get(self.name, {})
        with inside(self.name):
            if not run.wants_backward:
                return self.by_blocks(mine, x, run), lambda dy, grads: dy
            y, of_layer = self.layer(mine, x, run)

        def backward(dy: Array, grads: Weights) -> Array:
            dx, found = of_layer(dy)
            if found:
                grads[self.name] = found
            return dx

        return y, backward

    def by_blocks(self, mine: Weights, x: Array, run: Run) -> Array:
        """Y alone, blocks shared out among threads."""
        samples, most = len(x), max(1, BLOCK * len(x) // x.size)
        if samples <= most:
            return self.layer(mine, x, run)[0]
        y = empty(x.shape, x.dtype)

        def part(first: int, last: int) -> None:
            for a in range(first, last, most):
                some = slice(a, min(a + most, last))
                y[some] = self.layer(mine, x[some], run)[0]

        blas.share(part, samples, PER_CELL * x.size, self.backend.workers)
        return y


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, BySamples] | None:
    """A layer that normalises each sample for itself."""
    name, layer = layers[n]
    if type(layer) not in (GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm):
        return None
    return 1, BySamples(backend, name, layer)
