"""Windows as the columns of a matrix, and its adjoint, for correlations as products of matrices: one launch each."""

from __future__ import annotations

import numpy as np

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn_cupy.device import THREADS, Device, blocks_for
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.layout import converted, type_name

# Structures of lowering.cu, where they are explained.
AXIS = np.dtype([(name, np.int32) for name in ("cells", "windows", "taps", "stride", "dilation", "before")])
WINDOWS = np.dtype([("rows", AXIS), ("columns", AXIS), ("images", np.int32), ("channels", np.int32)])


def columns(device: Device, x: Array, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair) -> Array:
    """The windows of x, (N, C, H, W), as a matrix (C h w, N H' W'): xcnn_strided/gemm.py multiplies it from the left.

    Padding may be negative, and more than x has; its zeros are in the matrix alone.
    """
    x = converted(device, x, x.dtype, False)
    n, c = x.shape[:2]
    found = device.empty((c * kernel[0] * kernel[1], n * output[0] * output[1]), x.dtype)
    if found.size:
        table = windows(x.shape, kernel, output, stride, padding, dilation)
        blocks = blocks_for(device, c * found.shape[1])
        device.launch(Kernel("lowering", "lay_out", type_name(x.dtype)), blocks, THREADS, x, table, found)
    return found


def folded(
    device: Device,
    found: Array,
    x_shape: Shape,
    kernel: Pair,
    output: Pair,
    stride: Pair,
    padding: Pads,
    dilation: Pair,
) -> Array:
    """The adjoint of `columns`: each cell of x, (N, C, H, W), is the sum of those of the matrix that it went to."""
    dx = device.empty(x_shape, found.dtype)
    if dx.size:
        table = windows(x_shape, kernel, output, stride, padding, dilation)
        device.launch(
            Kernel("lowering", "fold", type_name(found.dtype)), blocks_for(device, dx.size), THREADS, found, table, dx
        )
    return dx


def windows(
    x_shape: Shape, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair
) -> np.ndarray[tuple[()], np.dtype[np.void]]:
    """Windows of lowering.cu."""
    axes = (
        (cells, positions, taps, step, apart, before)
        for cells, positions, taps, step, apart, (before, _) in zip(
            x_shape[2:], output, kernel, stride, dilation, padding, strict=True
        )
    )
    return np.array((*axes, *x_shape[:2]), WINDOWS)
