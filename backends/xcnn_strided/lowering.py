"""Padded copies, spread copies, and windows laid out as the columns of a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import taps


def padded(xp: Any, x: Array, padding: Pads, value: float = 0.0) -> Array:
    """A copy of x with cells of `value` around its last two axes; x itself where there are none.

    A negative number takes cells away, more of them than x has if the other side adds enough.
    """
    if tuple(padding) == NO_PADDING:
        return x
    kept, inside = zip(*map(_overlap, x.shape[2:], padding), strict=True)
    sizes = [n + lo + hi for n, (lo, hi) in zip(x.shape[2:], padding, strict=True)]
    out = xp.full((*x.shape[:2], *sizes), value, dtype=x.dtype)
    out[:, :, *inside] = x[:, :, *kept]
    return out


def _overlap(n: int, around: Pair) -> tuple[slice, slice]:
    """Which of an axis's n cells stay, and where they stand afterwards."""
    lo, hi = around
    first = max(-lo, 0)
    end = max(min(n + hi, n), first)
    return slice(first, end), slice(first + lo, end + lo) if end > first else slice(0, 0)


def spread(xp: Any, x: Array, stride: Pair) -> Array:
    """X with stride - 1 zeros between its cells; x itself where the stride is one."""
    if tuple(stride) == (1, 1):
        return x
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    out = xp.zeros((*x.shape[:2], *sizes), dtype=x.dtype)
    out[:, :, :: stride[0], :: stride[1]] = x
    return out


def columns(
    xp: Any, x: Array, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair, at_once: int
) -> Iterator[tuple[slice, Array]]:
    """`at_once` images at a time: which they are, and their windows as a matrix (C h w, images H' W').

    The matrix is good until the next is asked for: all share one buffer.
    """
    n, c = x.shape[:2]
    rows, cells = c * kernel[0] * kernel[1], output[0] * output[1]
    plain = kernel == (1, 1) and tuple(stride) == (1, 1) and tuple(padding) == NO_PADDING
    buffer = xp.empty(0 if plain and at_once == 1 else rows * min(n, at_once) * cells, dtype=x.dtype)
    for first in range(0, n, at_once):
        images = slice(first, min(first + at_once, n))
        if plain and at_once == 1:
            yield images, x[first].reshape(rows, cells)
            continue
        seen = windows(xp, padded(xp, x[images], padding), kernel, output, stride, dilation)
        laid_out = buffer[: seen.size].reshape(seen.shape)
        laid_out[...] = seen
        yield images, laid_out.reshape(rows, -1)


def windows(xp: Any, x: Array, kernel: Pair, output: Pair, stride: Pair, dilation: Pair) -> Array:
    """The windows of x (N, C, H, W) as a view (C, h, w, N, H', W')."""
    n, c = x.shape[:2]
    image, channel, row, column = x.strides
    return xp.lib.stride_tricks.as_strided(
        x,
        (c, *kernel, n, *output),
        (channel, row * dilation[0], column * dilation[1], image, row * stride[0], column * stride[1]),
    )


def added(
    xp: Any, met: Array, x_shape: Shape, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair
) -> Array:
    """The adjoint of `columns`: the cells of a matrix (C h w, N H' W') added to those of x that they came from."""
    (n, c, rows, columns_), ((top, bottom), (left, right)) = x_shape, padding
    around = xp.zeros((n, c, rows + top + bottom, columns_ + left + right), dtype=met.dtype)
    met = met.reshape(c, *kernel, n, *output)
    for i, j, at in taps(kernel, stride, dilation, output):
        around[at] += met[:, i, j].swapaxes(0, 1)
    return around[:, :, top : top + rows, left : left + columns_]
