"""Pooling tap by tap, in place: one running result instead of a copy of x for each cell of the window."""

from __future__ import annotations

from typing import Any

from xcnn.core.arrays import namespace, rounded_once
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import first_taps, output_size, taps
from xcnn_strided.lowering import padded

FEW = 64
"""Cells of a window from which on its rows are summed by themselves: fewer passes, and less rounding in each sum."""


def max_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads) -> tuple[Array, Array]:
    """Y = the largest cell so far, and its tap: a later cell takes over where it is larger, or the first NaN."""
    xp = namespace(x)
    output = output_size(x.shape[2:], size, stride, padding)
    around = padded(xp, x, padding, -float("inf"))
    steps = taps(size, stride, (1, 1), output)
    y = around[next(steps)[2]].copy()
    which = xp.zeros(y.shape, dtype=xp.uint8 if size[0] * size[1] <= 256 else xp.uint32)
    if padding != NO_PADDING:  # where all cells are minus infinity, it is the first one within the image
        rows, columns = (xp.asarray(first, dtype=which.dtype) for first in first_taps(size, stride, padding, output))
        which += rows[:, None] * which.dtype.type(size[1]) + columns
    stays, is_nan = xp.empty(y.shape, dtype=bool), xp.empty(y.shape, dtype=bool)
    for tap, (_, _, at) in enumerate(steps, start=1):
        xp.less_equal(around[at], y, out=stays)
        xp.logical_or(stays, xp.not_equal(y, y, out=is_nan), out=stays)
        xp.maximum(y, around[at], out=y)
        xp.maximum(which, xp.multiply(~stays, tap, dtype=which.dtype), out=which)  # taps only grow
    return y, which


@rounded_once
def max_pool_adjoint(dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """DX = the sum over taps of dY, where that tap was largest, added to the cells that it met."""
    xp = namespace(dy, which)
    dx, inside = _zeros(xp, dy, x_shape, padding)
    for tap, (_, _, at) in enumerate(taps(size, stride, (1, 1), dy.shape[2:])):
        dx[at] += _kept(xp, dy, which == tap)
    return dx[inside]


@rounded_once
def sum_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """Y = the sum over taps of the cells that they meet; of a large window the sums of its rows first."""
    if size[0] * size[1] > FEW and min(size) > 1:
        rows = sum_pool(x, (1, size[1]), stride=(1, stride[1]), padding=((0, 0), padding[1]))
        return sum_pool(rows, (size[0], 1), stride=(stride[0], 1), padding=(padding[0], (0, 0)))
    xp = namespace(x)
    output = output_size(x.shape[2:], size, stride, padding)
    around = padded(xp, x, padding)
    y = xp.zeros((*x.shape[:2], *output), dtype=x.dtype)
    for _, _, at in taps(size, stride, (1, 1), output):
        y += around[at]
    return y


@rounded_once
def sum_pool_adjoint(dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """DX = the sum over taps of dY, added to the cells that they met; of a large window those of its columns first."""
    if size[0] * size[1] > FEW and min(size) > 1:
        shape, none = (*x_shape[:3], dy.shape[3]), (0, 0)
        rows = sum_pool_adjoint(dy, shape, (size[0], 1), stride=(stride[0], 1), padding=(padding[0], none))
        return sum_pool_adjoint(rows, x_shape, (1, size[1]), stride=(1, stride[1]), padding=(none, padding[1]))
    dx, inside = _zeros(namespace(dy), dy, x_shape, padding)
    for _, _, at in taps(size, stride, (1, 1), dy.shape[2:]):
        dx[at] += dy
    return dx[inside]


def _zeros(xp: Any, dy: Array, x_shape: Shape, padding: Pads) -> tuple[Array, tuple[slice, ...]]:
    """Zeros for the padded image, and where the image lies in it."""
    (top, bottom), (left, right) = padding
    n, c, rows, columns = x_shape
    dx = xp.zeros((n, c, rows + top + bottom, columns + left + right), dtype=dy.dtype)
    return dx, (slice(None), slice(None), slice(top, top + rows), slice(left, left + columns))


def _kept(xp: Any, dy: Array, mask: Array) -> Array:
    """DY where the mask is true, else zero: a product of its bits, as exact as `where` for infinity, and faster."""
    bits = {2: xp.uint16, 4: xp.uint32, 8: xp.uint64}[dy.dtype.itemsize]
    return xp.multiply(dy.view(bits), mask, dtype=bits).view(dy.dtype)
