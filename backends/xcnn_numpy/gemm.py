"""Correlation as matrix products: windows become columns, a few images at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xcnn._arrays import dilate, pad
from xcnn._typing import Array, Pads, Pair, Shape
from xcnn.windows import extent, output_size

WORKSPACE = 2**21
"""Cells of columns at a time: 8 MiB of float32, about what stays in cache. One image's may be more."""


def correlate(x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
    """Y = K (O, C h w) times the windows of X (C h w, H' W')."""
    n, (o, c, h, w) = len(x), k.shape
    output = output_size(x.shape[2:], (h, w), stride, padding, dilation)
    kernel = np.ascontiguousarray(k).reshape(groups, o // groups, c * h * w)
    y = np.empty((n, groups, o // groups, output[0] * output[1]), dtype=np.result_type(x, k))
    for images, columns in _columns(x, (h, w), output, stride, padding, dilation, groups):
        np.matmul(kernel, columns, out=y[images])
    return y.reshape(n, o, *output)


def correlate_input_adjoint(
    dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """DX = dY, spread by the stride, correlated in full with the rotated kernel, its channels exchanged."""
    o, c, h, w = k.shape
    spread = dilate(dy, stride)
    around = []
    for size, m, cells, d, (lo, _) in zip(x_shape[2:], spread.shape[2:], (h, w), dilation, padding, strict=True):
        before = extent(cells, d) - 1 - lo
        around.append((before, size + extent(cells, d) - 1 - m - before))
    turned = np.flip(k, axis=(2, 3)).reshape(groups, o // groups, c, h, w).swapaxes(1, 2).reshape(-1, o // groups, h, w)
    padded = pad(spread, (around[0], around[1]))
    return correlate(padded, turned, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=dilation, groups=groups)


def correlate_kernel_adjoint(
    x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """DK = dY (O, H' W') times the windows of X, transposed, summed over the images."""
    o, c, h, w = k_shape
    output = (dy.shape[2], dy.shape[3])
    gradient = np.ascontiguousarray(dy).reshape(len(x), groups, o // groups, output[0] * output[1])
    dk = np.zeros((groups, o // groups, c * h * w), dtype=np.result_type(x, dy))
    for images, columns in _columns(x, (h, w), output, stride, padding, dilation, groups):
        dk += (gradient[images] @ columns.swapaxes(-1, -2)).sum(axis=0)
    return dk.reshape(k_shape)


def _columns(
    x: Array, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Iterator[tuple[slice, Array]]:
    """The windows of a few images at a time: (images, groups, C / groups h w, H' W'), in one buffer used again."""
    n, channels = x.shape[:2]
    (h, w), (rows, columns) = kernel, output
    shape = (groups, channels // groups * h * w, rows * columns)
    if kernel == (1, 1) and stride == (1, 1) and padding == ((0, 0), (0, 0)):
        yield slice(0, n), x.reshape(n, *shape)
        return
    at_once = max(1, min(n, WORKSPACE // max(1, channels * h * w * rows * columns)))
    buffer = np.empty((at_once, channels, h, w, rows, columns), dtype=x.dtype)
    for first in range(0, n, at_once):
        images = slice(first, min(first + at_once, n))
        padded = pad(x[images], padding)
        windows = np.lib.stride_tricks.as_strided(
            padded,
            (len(padded), channels, h, w, rows, columns),
            (*padded.strides[:2], *_steps(padded, dilation), *_steps(padded, stride)),
            writeable=False,
        )
        used = buffer[: len(padded)]
        used[...] = windows
        yield images, used.reshape(len(padded), *shape)


def _steps(x: Array, cells: Pair) -> tuple[int, int]:
    return x.strides[2] * cells[0], x.strides[3] * cells[1]
