"""Max-pooling by two, of cells that went through ReLU, and the gradient of both."""

from __future__ import annotations

import numpy as np

from xcnn.core.types import Array

DEAD = 4
"""Added to the tap where no cell of a window is above zero: none gets a gradient."""


def pool(x: Array, y: Array, which: Array | None) -> None:
    """Y = the largest cell of each window, and where they are wanted its tap, the first of equal ones."""
    a, b, c, d = corners(x, y.shape[2:])
    np.maximum(np.maximum(a, b), np.maximum(c, d), out=y)
    if which is None:
        return
    may_be_nan = bool(np.isnan(y.sum()))
    tap = differs(c, y, may_be_nan).view(np.uint8) + np.uint8(1)
    tap *= differs(b, y, may_be_nan)
    tap += 1
    tap *= differs(a, y, may_be_nan)
    np.add(tap, np.uint8(DEAD) * (y <= 0).view(np.uint8), out=which)  # a NaN is not


def unpool(dy: Array, which: Array, dx: Array) -> None:
    """DX = dY where the largest cell stood, else zero; cells outside of all windows are left alone."""
    for tap, cells in enumerate(corners(dx, dy.shape[2:])):
        cells[...] = 0
        np.copyto(cells, dy, where=which == tap)  # a product would make NaN of infinity


def differs(x: Array, y: Array, may_be_nan: bool) -> Array:
    """Where a cell is not the largest one; a NaN is, where that is NaN."""
    found = x != y
    if may_be_nan:
        found &= x == x
    return found


def corners(x: Array, sizes: tuple[int, ...]) -> list[Array]:
    """The cells at each of the four places in so many windows, row by row."""
    rows, columns = sizes
    return [x[:, :, i : 2 * rows : 2, j : 2 * columns : 2] for i in range(2) for j in range(2)]
