"""Layer, group and instance normalisation: one launch forward, three backward.

What is normalised together is a row: a sample, a group of its channels, or the channels at one place. Forward reads x
twice and writes y; mean and 1 / sqrt(variance + epsilon) of each row are float32, or float64 where x is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from xcnn.core.types import Array, Shape
from xcnn_cupy.channels import EACH, SUMMING, SUMS, added_up, next_power_of_2, walk
from xcnn_cupy.device import THREADS, Device, is_channels_last
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.layout import type_name

FIELDS = (
    "count", "cells", "run", "apart", "step", "outer", "inner", "beside", "features", "each", "lanes", "spread",
)  # fmt: skip
ROWS = np.dtype([(name, np.int32) for name in FIELDS])
SIDE_BY_SIDE = 32
"""Rows of a block that lie side by side: threads of a warp then read what lies side by side."""


@dataclass(frozen=True)
class Rows:
    """How an array is cut into rows, and into features, which have a scale and a bias each.

    Parameters
    ----------
    count, cells
        how many rows, and how many cells each has
    run, apart, step, outer, inner, beside, features, each
        where cells lie in memory, as Rows of groups.cu has it
    """

    count: int
    cells: int
    features: int
    each: int
    outer: int
    run: int
    apart: int = 0
    step: int = 1
    inner: int = 1
    beside: int = 1

    @property
    def spread(self) -> bool:
        """Whether rows lie side by side."""
        return self.step != 1

    @property
    def lanes(self) -> int:
        """Threads of a row."""
        wanted = next_power_of_2(-(-self.cells // EACH))
        return THREADS // SIDE_BY_SIDE if self.spread else max(1, min(wanted, THREADS))

    @property
    def blocks(self) -> int:
        """As many as see to all rows."""
        return -(-self.count // (THREADS // self.lanes))

    @property
    def table(self) -> np.ndarray[tuple[()], np.dtype[np.void]]:
        """Rows of groups.cu."""
        return np.array(tuple(int(getattr(self, name)) for name in FIELDS), ROWS)


def rows_of_groups(x: Array, groups: int) -> Rows:
    """A row for each group of channels of a dense (N, C, ...); a feature is a channel."""
    n, c = x.shape[:2]
    cells, depth = prod(x.shape[2:]), c // groups
    if is_channels_last(x):
        return Rows(n * groups, depth * cells, c, 1, cells * c, depth, apart=c, inner=groups, beside=depth)
    return Rows(n * groups, depth * cells, c, cells, depth * cells, depth * cells)


def rows_of_axes(x: Array, axes: Shape) -> Rows | None:
    """A row for all cells along these axes of a dense array; None for axes that kernels do not know."""
    n, c, last = x.shape[0], x.shape[1], is_channels_last(x)
    cells = prod(x.shape[1:])
    if axes == tuple(range(1, x.ndim)):
        return Rows(n, cells, cells, 1, cells, cells)
    if axes == (1,) and last:
        return Rows(x.size // c, c, c, 1, c, c)
    if axes == (1,):
        places = cells // c
        return Rows(n * places, c, c, places, cells, c, step=places, inner=places)
    if axes == (x.ndim - 1,) and not last:
        size = x.shape[-1]
        return Rows(x.size // size, size, size, 1, size, size)
    return None


def standardise(
    device: Device, x: Array, scale: Array | None, bias: Array | None, rows: Rows, epsilon: float
) -> tuple[Array, Array, Array]:
    """Y, and each row's mean and 1 / sqrt(variance + epsilon).

    Parameters
    ----------
    x
        dense, not empty
    scale, bias
        a number for each feature, as features lie in memory; both None for y = x_hat
    """
    kind = SUMS[type_name(x.dtype)]
    y = device.empty(x.shape, x.dtype, is_channels_last(x))
    mean, inverse = (device.empty((rows.count,), kind) for _ in range(2))
    kernel = Kernel("groups", "standardise", type_name(x.dtype))
    device.launch(kernel, rows.blocks, THREADS, x, scale, bias, rows.table, epsilon, y, mean, inverse)
    return y, mean, inverse


def standardise_backward(
    device: Device, dy: Array, x: Array, mean: Array, inverse: Array, scale: Array | None, rows: Rows
) -> Array:
    """DX; dy and x are alike in shape, type and order of memory."""
    dx = device.empty(x.shape, x.dtype, is_channels_last(x))
    kernel = Kernel("groups", "standardise_backward", type_name(x.dtype))
    device.launch(kernel, rows.blocks, THREADS, dy, x, mean, inverse, scale, rows.table, dx)
    return dx


def feature_sums(device: Device, dy: Array, x: Array, mean: Array, inverse: Array, rows: Rows) -> tuple[Array, Array]:
    """Dscale and dbias, a number for each feature, as features lie in memory."""
    sizes = x.size // (rows.features * rows.each), rows.features, rows.each
    way = walk(device, sizes, dy, x, most=SUMMING)
    parts = device.empty((way.splits, 2 * rows.features), SUMS[type_name(x.dtype)])
    kernel = Kernel("groups", "feature_sums", type_name(x.dtype), way.pack)
    device.launch(kernel, way.blocks, THREADS, dy, x, mean, inverse, rows.table, way.box, parts)
    sums = added_up(device, parts)
    return sums[rows.features :], sums[: rows.features]
