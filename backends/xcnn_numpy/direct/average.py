"""The mean of each channel's image, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.checks import check_dy
from xcnn.core.types import Array, Weights
from xcnn.errors import inside
from xcnn.layers import GlobalAveragePool2D
from xcnn.layers.layer import Run
from xcnn_numpy.direct.algorithm import Direct, flat
from xcnn_numpy.direct.lines import total
from xcnn_numpy.direct.thread_pool import Shared
from xcnn_numpy.runs import holds

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@Shared
def forward(x: Any, y: Any, cells: int, part: int, first: int, last: int) -> None:
    """Y = the means of planes first to last - 1, each of so many cells. All arrays are flat."""
    for n in range(first, last):
        y[n] = total(x, n * cells, 0, 1, cells) / cells


@Shared
def backward(dy: Any, dx: Any, cells: int, part: int, first: int, last: int) -> None:
    """DX = dY / cells in every cell of planes first to last - 1."""
    for n in range(first, last):
        value = dy[n] / dy.dtype.type(cells)
        for at in range(n * cells, (n + 1) * cells):
            dx[at] = value


@dataclass(frozen=True)
class Average:
    """Y = the mean of X over height and width."""

    direct: Direct
    name: str
    layer: GlobalAveragePool2D

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim == 4 and x.size > 0

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        shape, planes = x.shape, x.shape[:2]
        y, cells, x = np.empty(planes, dtype=x.dtype), shape[2] * shape[3], flat(x)
        self.direct.share(forward, y.size, x.size, x, y.reshape(-1), cells)

        def backward_(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, planes, dy)
            dx = empty(shape, dy.dtype)
            self.direct.share(backward, dy.size, dx.size, flat(dy), dx.reshape(-1), cells)
            return dx

        return y, backward_


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Average] | None:
    """GlobalAveragePool2D."""
    name, layer = layers[n]
    return (1, Average(backend.direct, name, layer)) if type(layer) is GlobalAveragePool2D else None
