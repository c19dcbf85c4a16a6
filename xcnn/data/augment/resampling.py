"""Images at other places than their own cells: linear interpolation, in the array API standard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.arrays import namespace
from xcnn.core.types import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray


def like(x: Array, numbers: Any) -> Array:
    """A host array beside x: on its device, and in its type where it is of floats."""
    xp = namespace(x)
    numbers = np.asarray(numbers)
    dtype = {"i": xp.int64, "b": xp.bool}.get(numbers.dtype.kind, x.dtype)
    return xp.asarray(numbers, dtype=dtype, device=x.device)


def along(x: Array, at: NDArray[np.float64], axis: int) -> Array:
    """X between its cells along an axis, at places from the first cell on; those outside are the outermost cell's."""
    xp, last = namespace(x), x.shape[axis] - 1
    at = np.clip(at, 0, last)
    low = np.minimum(at.astype(np.int64), max(last - 1, 0))
    share = like(x, (at - low).reshape(tuple(-1 if n == axis % x.ndim else 1 for n in range(x.ndim))))
    first, second = (xp.take(x, like(x, np.minimum(low + n, last)), axis=axis) for n in (0, 1))
    return first + share * (second - first)


def centres(first: float, size: float, cells: int) -> NDArray[np.float64]:
    """Where the centres of so many cells lie that share an interval of `size` cells from cell `first` on."""
    return np.asarray((np.arange(cells) + 0.5) * (size / cells) + (first - 0.5), np.float64)


def sampled(x: Array, rows: NDArray[np.float64], columns: NDArray[np.float64], fill: float) -> Array:
    """An image (C, H, W) at any places (h, w) of its rows and columns: bilinear, all beyond its edges being `fill`."""
    xp, (channels, height, width) = namespace(x), x.shape
    flat, shape = xp.reshape(x, (channels, height * width)) - fill, rows.shape
    top, left = np.floor(rows), np.floor(columns)
    y = None
    for i in (0, 1):
        for j in (0, 1):
            row, column = top + i, left + j
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column)) * inside
            at = np.where(inside, row * width + column, 0).astype(np.int64).reshape(-1)
            part = xp.take(flat, like(x, at), axis=1) * like(x, share.reshape(1, -1))
            y = part if y is None else y + part
    return xp.reshape(y, (channels, *shape)) + fill
