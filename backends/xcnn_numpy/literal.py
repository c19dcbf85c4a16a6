"""The article's correlations, one plane at a time with scipy.signal: the slow and certain algorithm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xcnn.core.arrays import dilate, pad
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import extent, output_size


def correlate(x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
    """Y[n, o] = sum over c of X[n, c] * K[o, c], valid, every stride-th row and column kept."""
    from scipy.signal import correlate2d  # which takes a second to be imported

    output = output_size(x.shape[2:], k.shape[2:], stride, padding, dilation)
    padded, kernel = pad(x, padding), dilate(k, dilation)
    y = np.zeros((x.shape[0], k.shape[0], *output), dtype=np.result_type(x, k))
    for n, o, i, c in _pairs(len(x), k, groups):
        y[n, o] += correlate2d(padded[n, i], kernel[o, c], "valid")[:: stride[0], :: stride[1]]
    return y


def correlate_input_adjoint(
    dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """DX[n, c] = sum over o of dY[n, o], spread by the stride, convolved in full with K[o, c]."""
    from scipy.signal import convolve2d  # which takes a second to be imported

    spread, kernel = dilate(dy, stride), dilate(k, dilation)
    around = [
        (-lo, n + lo - (m + size - 1))
        for n, m, size, (lo, _) in zip(x_shape[2:], spread.shape[2:], kernel.shape[2:], padding, strict=True)
    ]
    dx = np.zeros(x_shape, dtype=np.result_type(dy, k))
    for n, o, i, c in _pairs(len(dy), k, groups):
        full = convolve2d(spread[n, o], kernel[o, c], "full")
        dx[n, i] += pad(full, (around[0], around[1]))
    return dx


def correlate_kernel_adjoint(
    x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """DK[o, c] = sum over n of X[n, c] correlated, valid, with dY[n, o] spread by the stride.

    In double precision: SciPy sums in one chain, here over all cells of an image.
    """
    from scipy.signal import correlate2d  # which takes a second to be imported

    padded, spread = pad(x, padding), dilate(dy, stride)
    rows, columns = (
        m + extent(size, d) - 1 for m, size, d in zip(spread.shape[2:], k_shape[2:], dilation, strict=True)
    )
    dtype = np.result_type(x, dy)
    dk = np.zeros(k_shape, dtype=np.result_type(dtype, np.float64))
    padded, spread = padded.astype(dk.dtype), spread.astype(dk.dtype)
    for n, o, i, c in _pairs(len(x), dk, groups):
        met = padded[n, i, :rows, :columns]  # a stride may leave cells that no window meets
        dk[o, c] += correlate2d(met, spread[n, o], "valid")[:: dilation[0], :: dilation[1]]
    return dk.astype(dtype)


def _pairs(batch: int, k: Array, groups: int) -> Iterator[tuple[int, int, int, int]]:
    """All (n, output channel o, input channel i, its number c within the group)."""
    outputs, channels = k.shape[:2]
    for n in range(batch):
        for o in range(outputs):
            for c in range(channels):
                yield n, o, o // (outputs // groups) * channels + c, c
