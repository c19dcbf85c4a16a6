"""Pooling over windows, and the mean of each image, in one launch each way.

Images are (N, C, H, W), of any floating type; results lie in memory as they do. Adjoints gather: each cell of dx asks
the windows that meet it, so that nothing is added up in an order that changes.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn_cupy.channels import PASSING, cells_of_pack
from xcnn_cupy.device import THREADS, Device, blocks_for, is_channels_last
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.layout import converted, dense, type_name

# Structures of pooling.cu, where they are explained.
AXIS = np.dtype([(name, np.int32) for name in ("cells", "windows", "size", "stride", "before")])
POOL = np.dtype([("rows", AXIS), ("columns", AXIS), ("outer", np.int32), ("inner", np.int32)])

FEW_TAPS = 256
"""Of a window: their numbers fit into 8 bits."""
WARPS = THREADS // 32
"""Of a block."""


def max_pool(device: Device, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
    """The largest cell of each window, (N, C, H', W'), and the number of its tap, row by row, uint8 or uint32.

    Padding counts for nothing; of equal cells the first wins, minus infinity too, and the first NaN over all.
    """
    x = dense(device, x)
    last = is_channels_last(x)
    y = device.empty((*x.shape[:2], *output_size(x.shape[2:], size, stride, padding)), x.dtype, last)
    which = device.empty(y.shape, "uint8" if prod(size) <= FEW_TAPS else "uint32", last)
    launch(device, "max_pool", (x,), (y, which), last, pool(x.shape, y.shape, size, stride, padding))
    return y, which


def max_pool_adjoint(
    device: Device, dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
) -> Array:
    """Each dy goes to the cell that was largest; `which` is max_pool's."""
    last = is_channels_last(which)
    dy, dx = converted(device, dy, dy.dtype, last), device.empty(x_shape, dy.dtype, last)
    launch(device, "max_pool_adjoint", (dy, which), (dx,), last, pool(x_shape, dy.shape, size, stride, padding))
    return dx


def sum_pool(device: Device, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
    """The sum of each window, (N, C, H', W'); padding counts as zero."""
    x = dense(device, x)
    last = is_channels_last(x)
    y = device.empty((*x.shape[:2], *output_size(x.shape[2:], size, stride, padding)), x.dtype, last)
    launch(device, "sum_pool", (x,), (y,), last, pool(x.shape, y.shape, size, stride, padding))
    return y


def sum_pool_adjoint(
    device: Device, dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
) -> Array:
    """Each dy goes to all cells of its window."""
    dy = dense(device, dy)
    last = is_channels_last(dy)
    dx = device.empty(x_shape, dy.dtype, last)
    launch(device, "sum_pool_adjoint", (dy,), (dx,), last, pool(x_shape, dy.shape, size, stride, padding))
    return dx


def image_mean(device: Device, x: Array) -> Array:
    """The mean of each image, (N, C, H, W) -> (N, C); x has cells."""
    x = dense(device, x)
    n, c, h, w = x.shape
    y, last = device.empty((n, c), x.dtype), is_channels_last(x)
    if not y.size:
        return y
    pack = cells_of_pack(device, c if last else h * w, x)
    if last:
        across = -(-c // (32 * pack))
        blocks = across, min(n, max(1, PASSING * device.processors // across))
        device.launch(
            Kernel("pooling", "mean_of_columns", type_name(x.dtype), pack), blocks, THREADS, x, n, h * w, c // pack, y
        )
    else:
        kernel = Kernel("pooling", "mean_of_rows", type_name(x.dtype), pack)
        device.launch(kernel, blocks_for(device, n * c, WARPS), THREADS, x, n * c, h * w // pack, y)
    return y


def image_mean_adjoint(device: Device, dy: Array, x_shape: Shape, channels_last: bool) -> Array:
    """Each dy, (N, C), divided among all cells of its image."""
    dy = converted(device, dy, dy.dtype, False)
    (n, c, h, w), dx = x_shape, device.empty(x_shape, dy.dtype, channels_last)
    if dx.size:
        pack = cells_of_pack(device, c if channels_last else h * w, dx)
        sizes = (n, h * w, c // pack) if channels_last else (n * c, h * w // pack, 1)
        kernel, blocks = (
            Kernel("pooling", "mean_adjoint", type_name(dy.dtype), pack),
            blocks_for(device, dx.size // pack),
        )
        device.launch(kernel, blocks, THREADS, dy, *sizes, channels_last, h * w, dx)
    return dx


def pool(x_shape: Shape, y_shape: Shape, size: Pair, stride: Pair, padding: Pads) -> tuple[Any, ...]:
    """The axes of a Pool."""
    return tuple(
        (cells, windows, taps, step, before)
        for cells, windows, taps, step, (before, _) in zip(x_shape[2:], y_shape[2:], size, stride, padding, strict=True)
    )


def launch(
    device: Device, name: str, given: tuple[Array, ...], made: tuple[Array, ...], last: bool, axes: tuple[Any, ...]
) -> None:
    """Run a kernel, with a thread for each pack of what is made first. All arrays lie in the same order."""
    target, which = made[0], (*given[1:], *made[1:])
    n, c = target.shape[:2]
    if not target.size:
        return
    few = all(taps.dtype == "uint8" for taps in which)
    pack = cells_of_pack(device, c, given[0], target) if last and few else 1
    table = np.array((*axes, *((n, c // pack) if last else (n * c, 1))), POOL)
    kernel = Kernel("pooling", name, type_name(target.dtype), pack, *(type_name(taps.dtype) for taps in which))
    device.launch(kernel, blocks_for(device, target.size // pack), THREADS, *given, table, *made)
