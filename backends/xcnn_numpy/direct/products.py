"""The products of a fully connected layer, with its bias and activation, for a range of its samples or features."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn_numpy.direct.blocks import LONGEST, compiled, lanes
from xcnn_numpy.direct.layout import SLACK
from xcnn_numpy.direct.lines import add, copy, shift, slope
from xcnn_numpy.direct.maps import block_rows, dots, product
from xcnn_numpy.direct.thread_pool import Shared

CHUNK = 2**16
"""Cells of W at a time, so that they stay in a core's own cache while all samples meet them."""


@compiled
def multiplied(
    x: Any, w: Any, sums: Any, sample: int, samples: int, features: int, units: int, first: int, last: int
) -> None:
    """Sums = x W of some samples over features first to last - 1, `pitched` cells from one sample to the next."""
    n, pitch = lanes(sums), pitched(sums, units)
    chunk = last - first if units % n else min(last - first, max(CHUNK // units, 1))
    base = 0
    if units < n:
        w, base = widened(w, first, last - first, units, n), first
    offsets = np.arange(chunk) * pitch
    panels = np.empty(samples * chunk, x.dtype)
    most = block_rows(samples)
    for k in range(first, last, chunk):
        count = min(chunk, last - k)
        for r in range(0, samples, most):
            few = min(most, samples - r)
            for q in range(few):
                source, target = np.uintp((sample + r + q) * features + k), np.uintp(r * count + q)
                for m in range(np.uintp(count)):
                    panels[target + m * np.uintp(few)] = x[source + m]
        at = (k - base) * pitch
        product(sums, 0, pitch, samples, panels, 0, 0, w, at, offsets, 0, count, units, k > first)


@compiled
def pitched(sums: Any, units: int) -> Any:
    """Cells from one sample's sums to the next: a whole vector is written even for fewer units."""
    return max(units, lanes(sums))


@compiled
def end(sums: Any, bias: Any, y: Any, at: int, rows: int, units: int, activation: int) -> None:
    """Y = f(sums + b) of some samples from the cell `at` on; an empty bias is none."""
    pitch = pitched(sums, units)
    if bias.size:
        add(y, at, units, sums, 0, pitch, bias, 0, 0, activation, rows, units)
    else:
        shift(y, at, units, sums, 0, pitch, 0.0, activation, rows, units)


@Shared
def forward(
    x: Any, w: Any, bias: Any, y: Any, features: int, units: int, activation: int, part: int, first: int, last: int
) -> None:
    """Y = f(x W + b) for samples first to last - 1. All arrays are flat."""
    rows = last - first
    sums = np.empty(rows * pitched(y, units) + SLACK, x.dtype)
    multiplied(x, w, sums, first, rows, features, units, 0, features)
    end(sums, bias, y, first * units, rows, units, activation)


@Shared
def partial(
    x: Any, w: Any, sums: Any, samples: int, features: int, units: int, part: int, first: int, last: int
) -> None:
    """The part of x W that features first to last - 1 have, a row of `sums` for each part."""
    multiplied(x, w, sums[part], 0, samples, features, units, first, last)


@compiled
def whole(sums: Any, parts: int, bias: Any, y: Any, samples: int, units: int, activation: int) -> None:
    """Y = f(x W + b) from its parts, added in their order."""
    for part in range(1, parts):
        sums[0] += sums[part]
    end(sums[0], bias, y, 0, samples, units, activation)


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
        total = np.zeros(units)
        for m in range(samples):
            at = np.uintp(m * pitch)
            for u in range(np.uintp(units)):
                total[u] += gradient[at + u]
        for u in range(units):
            db[u] = total[u]
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
        for u in range(0, units, LONGEST):
            some = min(LONGEST, units - u)
            dots(samples, last - first, False, dx, first, features, gradient, u, pitch, w, u, columns, first, some)


@compiled
def widened(w: Any, first: int, rows: int, columns: int, pitch: int) -> Any:
    """A copy of some rows of a matrix, flat, with so many cells from one row to the next."""
    wide = np.zeros(rows * pitch + SLACK, w.dtype)
    copy(wide, 0, pitch, w, first * columns, columns, rows, columns)
    return wide
