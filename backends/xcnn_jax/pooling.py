"""Poolings as sums and comparisons of strided views, tap by tap: XLA makes one loop of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from xcnn._typing import Array, Pads, Pair, Shape
from xcnn.reference import NO_PADDING
from xcnn.windows import output_size, taps

WINDOW = ("size", "stride", "padding")


@partial(jax.jit, static_argnames=WINDOW)
def max_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads) -> tuple[Array, Array]:
    """Y = the largest cell so far, and its tap: a later cell takes over where it is larger, or the first NaN."""
    if stride == size and padding == NO_PADDING and x.shape[2] % size[0] == x.shape[3] % size[1] == 0:
        return _largest_beside(x, size)
    cells = _met(x, size, stride, padding, -jnp.inf)
    y = next(cells)
    which = jnp.zeros(y.shape, jnp.int32)
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


@partial(jax.jit, static_argnames=("x_shape", *WINDOW))
def max_pool_adjoint(dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """DX = each dY, where it came from."""
    nothing = jnp.zeros((), dy.dtype)
    parts = (jnp.where(which == tap, dy, nothing) for tap in range(size[0] * size[1]))
    return _spread(parts, dy, x_shape, size, stride, padding)


@partial(jax.jit, static_argnames=WINDOW)
def sum_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """Y = the sum of each window."""
    return sum(_met(x, size, stride, padding, 0.0))


@partial(jax.jit, static_argnames=("x_shape", *WINDOW))
def sum_pool_adjoint(dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads) -> Array:
    """DX = each dY, added to every cell of its window."""
    return _spread((dy for _ in range(size[0] * size[1])), dy, x_shape, size, stride, padding)


def _met(x: Array, size: Pair, stride: Pair, padding: Pads, value: float) -> Iterator[Array]:
    """What each tap meets, (N, C, H', W')."""
    output = output_size(x.shape[2:], size, stride, padding)
    padded = lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), (0, 0, 0), *((*around, 0) for around in padding)))
    return (padded[at] for _, _, at in taps(size, stride, (1, 1), output))


def _spread(parts: Iterable[Array], dy: Array, x_shape: Shape, size: Pair, stride: Pair, padding: Pads) -> Array:
    """Add each tap's part, spread by the stride, where the tap met the image."""
    zero = jnp.zeros((), dy.dtype)
    dx = jnp.zeros(x_shape, dy.dtype)
    for (i, j, _), part in zip(taps(size, stride, (1, 1), dy.shape[2:]), parts, strict=True):
        around = [(0, 0, 0), (0, 0, 0)]
        for at, (lo, _), n, m, s in zip((i, j), padding, x_shape[2:], dy.shape[2:], stride, strict=True):
            first = at - lo
            around.append((first, n - ((m - 1) * s + 1) - first, s - 1) if m else (n, 0, 0))
        dx = dx + lax.pad(part, zero, around)
    return dx
