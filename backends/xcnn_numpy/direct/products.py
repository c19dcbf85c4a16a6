"""The products of a fully connected layer, with its bias and activation, for a range of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn_numpy.direct.blocks import DOT_COLUMNS, DOT_ROWS, compiled, dot, lanes
from xcnn_numpy.direct.layout import SLACK
from xcnn_numpy.direct.lines import NONE, add, copy, shift, slope
from xcnn_numpy.direct.maps import block_rows, product
from xcnn_numpy.direct.team import Shared

CHUNK = 2**16
"""Cells of W at a time, so that they stay in a core's own cache while all samples meet them."""


@Shared
def forward(
    x: Any, w: Any, bias: Any, y: Any, features: int, units: int, activation: int, part: int, first: int, last: int
) -> None:
    """Y = f(x W + b) for samples first to last - 1; an empty bias is none. All arrays are flat."""
    n, rows = lanes(y), last - first
    pitch = max(units, n)
    chunk = features if units % n else min(features, max(CHUNK // units, 1))
    if units < n:
        w = widened(w, features, units, n)
    offsets = np.arange(chunk) * pitch
    panels = np.empty(rows * chunk, x.dtype)
    sums = np.empty(rows * pitch + SLACK, x.dtype)
    most = block_rows(rows)
    for k in range(0, features, chunk):
        count = min(chunk, features - k)
        for r in range(0, rows, most):
            few = min(most, rows - r)
            for q in range(few):
                source, target = np.uintp((first + r + q) * features + k), np.uintp(r * count + q)
                for m in range(np.uintp(count)):
                    panels[target + m * np.uintp(few)] = x[source + m]
        product(sums, 0, pitch, rows, panels, 0, 0, w, k * pitch, offsets, 0, count, units, k > 0)
    if bias.size:
        add(y, first * units, units, sums, 0, pitch, bias, 0, 0, activation, rows, units)
    else:
        shift(y, first * units, units, sums, 0, pitch, 0.0, activation, rows, units)


@Shared
def backward(
    x: Any, dy: Any, y: Any, w: Any, dx: Any, dw: Any, db: Any, features: int, units: int, activation: int, part: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """DW and dX of features first to last - 1, an empty dX being not wanted; and dB, if `first` is zero."""
    n, samples = lanes(dy), dy.size // units
    pitch = max(units, n)
    gradient = np.zeros(samples * pitch + SLACK, dy.dtype)
    slope(gradient, 0, pitch, dy, 0, units, y, 0, units, activation, samples, units)
    if first == 0 and db.size:
        db[:] = 0
        for m in range(samples):
            add(db, 0, 0, db, 0, 0, gradient, m * pitch, 0, NONE, 1, units)
    rows, offsets = last - first, np.arange(samples) * pitch
    if units >= n:
        product(dw, first * units, units, rows, x, first, features, gradient, 0, offsets, 0, samples, units, False)
    else:
        sums = np.empty(rows * pitch, dy.dtype)
        product(sums, 0, pitch, rows, x, first, features, gradient, 0, offsets, 0, samples, units, False)
        copy(dw, first * units, units, sums, 0, pitch, rows, units)
    if dx.size:
        columns = np.arange(features) * units
        for m in range(samples):
            dx[m * features + first : m * features + last] = 0
        for f in range(first, last, DOT_COLUMNS):
            few = min(DOT_COLUMNS, last - f)
            for m in range(0, samples, DOT_ROWS):
                dot(
                    min(DOT_ROWS, samples - m), few, dx, m * features + f, features, gradient, m * pitch, pitch, w, 0,
                    columns, f, units,
                )  # fmt: skip


@compiled
def widened(w: Any, rows: int, columns: int, pitch: int) -> Any:
    """A copy of a matrix, flat, with so many cells from one row to the next."""
    wide = np.zeros(rows * pitch + SLACK, w.dtype)
    copy(wide, 0, pitch, w, 0, columns, rows, columns)
    return wide
