"""Poolings: small windows as sums and comparisons of strided views, tap by tap, of which XLA makes one loop.

Larger ones go by XLA's window reductions, along the rows and then along the columns: what is compiled does not grow
with the window, and what is computed grows with its height and width, not with its cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from xcnn.core.arrays import rounded_once
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import first_taps, output_size, taps

WINDOW = ("size", "stride", "padding")
FEW_TAPS = 16
"""Windows of so many cells are small: then views are as fast, and compile in half a second."""
ROWS, COLUMNS = 2, 3
"""The axes of images."""


@partial(jax.jit, static_argnames=WINDOW)
def max_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads) -> tuple[Array, Array]:
    """Y = the largest cell so far, and its tap: a later cell takes over where it is larger, or the first NaN."""
    if stride == size and padding == NO_PADDING and x.shape[2] % size[0] == x.shape[3] % size[1] == 0:
        return _largest_beside(x, size)
    output = output_size(x.shape[2:], size, stride, padding)
    rows, columns = (jnp.asarray(n, jnp.int32) for n in first_taps(size, stride, padding, output))
    inside = rows[:, None] * size[1] + columns  # it is, where all cells are minus infinity
    if size[0] * size[1] > FEW_TAPS:
        y, which = _largest_along(x, size, stride, padding)
        return y, jnp.where(y == -jnp.inf, inside, which)
    cells = _met(x, size, stride, padding, -jnp.inf)
    y = next(cells)
    which = jnp.broadcast_to(inside, y.shape)
    for tap, cell in enumerate(cells, start=1):
        larger = (cell > y) | (jnp.isnan(cell) & ~jnp.isnan(y))
        y, which = jnp.where(larger, cell, y), jnp.where(larger, tap, which)
    return y, which


def _largest_beside(x: Array, size: Pair) -> tuple[Array, Array]:
    """The same for windows side by side that leave no cells over: two reductions, which XLA likes better."""
    (n, c, rows, columns), (h, w) = x.shape, size
    cells = x.reshape(n, c, rows // h, h, columns // w, w)
    y = jnp.max(cells, axis=(3, 5), keepdims=True)
    taps_of_cells = jnp.arange(h * w, dtype=jnp.int32).reshape(h, 1, w)
    found = (cells == y) | jnp.isnan(cells)
    which = jnp.min(jnp.where(found, taps_of_cells, h * w), axis=(3, 5))
    return y[:, :, :, 0, :, 0], which


def _largest_along(x: Array, size: Pair, stride: Pair, padding: Pads) -> tuple[Array, Array]:
    """The same, row by row and then over the rows: each cell goes with its number, the smaller of which wins a tie."""
    rows, columns = x.shape[2:]
    numbers = jnp.broadcast_to(jnp.arange(rows * columns, dtype=jnp.int32).reshape(rows, columns), x.shape)
    nothing = jnp.asarray(-jnp.inf, x.dtype), jnp.asarray(rows * columns, jnp.int32)

    def larger(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        (x, m), (y, n) = a, b
        tie = (x == y) | (jnp.isnan(x) & jnp.isnan(y))
        first = (x > y) | (jnp.isnan(x) & ~jnp.isnan(y)) | (tie & (m < n))
        return jnp.where(first, x, y), jnp.where(first, m, n)

    y, found = x, numbers
    for axis in (COLUMNS, ROWS):
        how = _along(axis, size[axis - ROWS], stride[axis - ROWS], padding[axis - ROWS])
        y, found = lax.reduce_window((y, found), nothing, larger, **how)
    tops, lefts = (
        jnp.arange(count, dtype=jnp.int32) * s - lo
        for count, s, (lo, _) in zip(y.shape[2:], stride, padding, strict=True)
    )
    return y, (found // columns - tops[:, None]) * size[1] + found % columns - lefts


def _along(axis: int, size: int, stride: int, padding: Pair) -> dict[str, Any]:
    """The window of a reduction along one axis."""
    window, steps, around = [1] * 4, [1] * 4, [(0, 0)] * 4
    window[axis], steps[axis], around[axis] = size, stride, padding
    return {"window_dimensions": window, "window_strides": steps, "padding": around}


@partial(jax.jit, static_argnames=("x_shape", *WINDOW))
@rounded_once
def max_pool_adjoint(dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """DX = each dY, where it came from."""
    if size[0] * size[1] > FEW_TAPS:
        n, c, rows, columns = x_shape
        tops, lefts = (
            jnp.arange(count) * s - lo for count, s, (lo, _) in zip(dy.shape[2:], stride, padding, strict=True)
        )
        i, j = tops[:, None] + which // size[1], lefts + which % size[1]
        inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
        places = jnp.where(inside, i * columns + j, rows * columns)

        def added(dy: Array, places: Array) -> Array:
            return jnp.zeros(rows * columns, dy.dtype).at[places].add(dy, mode="drop")

        flat = (n * c, dy.shape[2] * dy.shape[3])
        return jax.vmap(added)(dy.reshape(flat), places.reshape(flat)).reshape(x_shape)
    return _spread(dy, which, x_shape, size, stride, padding)


@partial(jax.jit, static_argnames=WINDOW)
@rounded_once
def sum_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """Y = the sum of each window."""
    if size[0] * size[1] > 4 * FEW_TAPS:  # a sum of views compiles sooner than the others
        for axis in (COLUMNS, ROWS):
            how = _along(axis, size[axis - ROWS], stride[axis - ROWS], padding[axis - ROWS])
            x = lax.reduce_window(x, jnp.zeros((), x.dtype), lax.add, **how)
        return x
    return sum(_met(x, size, stride, padding, 0.0))


@partial(jax.jit, static_argnames=("x_shape", *WINDOW))
@rounded_once
def sum_pool_adjoint(dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """DX = each dY, added to every cell of its window."""
    if size[0] * size[1] > FEW_TAPS:  # each cell sums the dY, spread by the stride, whose windows meet it
        for axis in (COLUMNS, ROWS):
            k, s, (lo, _) = size[axis - ROWS], stride[axis - ROWS], padding[axis - ROWS]
            around = [(0, 0, 0)] * 4
            around[axis] = (k - 1 - lo, x_shape[axis] - ((dy.shape[axis] - 1) * s + 1) + lo, s - 1)
            dy = lax.pad(dy, jnp.zeros((), dy.dtype), around)
            dy = lax.reduce_window(dy, jnp.zeros((), dy.dtype), lax.add, **_along(axis, k, 1, (0, 0)))
        return dy
    return _spread(dy, None, x_shape, size, stride, padding)


def _met(x: Array, size: Pair, stride: Pair, padding: Pads, value: float) -> Iterator[Array]:
    """What each tap meets, (N, C, H', W')."""
    output = output_size(x.shape[2:], size, stride, padding)
    padded = lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), (0, 0, 0), *((*around, 0) for around in padding)))
    return (padded[at] for _, _, at in taps(size, stride, (1, 1), output))


def _spread(dy: Array, which: Array | None, x_shape: Shape, size: Pair, stride: Pair, padding: Pads) -> Array:
    """Each cell of X sums dY of the windows that meet it: of those that have it as their tap, or of all.

    Cells that lie alike between two windows are summed together, from neighbours in dY, and stand side by side then:
    cell by cell XLA's loops would look for each tap whether it is there.
    """
    (h, w), (s, t) = size, stride
    top, left = (before for before, _ in padding)
    reach = (h - 1) // s, (w - 1) // t
    count = -(-(x_shape[2] + top) // s), -(-(x_shape[3] + left) // t)
    around = [(0, 0, 0)] * 2 + [(r, n - m, 0) for r, n, m in zip(reach, count, dy.shape[2:], strict=True)]
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), around)
    which = None if which is None else lax.pad(which, jnp.asarray(-1, which.dtype), around)

    def met(u: int, v: int) -> Array:
        """DY by the windows that have these cells at (u, v)."""
        first = reach[0] - u // s, reach[1] - v // t
        at = (..., *(slice(begin, begin + n) for begin, n in zip(first, count, strict=True)))
        return dy[at] if which is None else jnp.where(which[at] == u * w + v, dy[at], 0)

    def alike(u: int, v: int) -> Array:
        """All cells that are (u, v) behind a window's first."""
        terms = (met(row, column) for row in range(u, h, s) for column in range(v, w, t))
        return reduce(add, terms)[:, :, :, None, :, None]

    columns = range(min(t, w))
    rows = [jnp.concatenate([alike(u, v) for v in columns], axis=5) for u in range(min(s, h))]
    dx = jnp.concatenate(rows, axis=3)
    left_out = [(0, 0, 0)] * 3 + [(0, max(s - h, 0), 0), (0, 0, 0), (0, max(t - w, 0), 0)]
    dx = lax.pad(dx, jnp.zeros((), dy.dtype), left_out).reshape(*x_shape[:2], count[0] * s, count[1] * t)
    return dx[:, :, top : top + x_shape[2], left : left + x_shape[3]]
