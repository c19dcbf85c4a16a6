"""Batches gathered on a device from a data set that lies there as a whole."""

from __future__ import annotations

from math import prod
from typing import Any

from xcnn.core.types import Array
from xcnn_cupy.device import THREADS, Device, is_channels_last
from xcnn_cupy.kernels import Kernel

CELLS = 4
"""Of an image, for one thread."""
MOST_ROWS = 2**16 - 1
"""Of blocks in a grid."""


def gather_batch(
    device: Device,
    images: Array,
    targets: Array,
    order: Array,
    first: Array,
    count: int,
    dtype: Any,
    channels_last: bool = False,
) -> tuple[Array, Array]:
    """The images and targets of samples order[first], ... order[first + count - 1], which there must be.

    Parameters
    ----------
    images : (samples, ...)
        dense; if they lie with the channels last, so do those of the batch
    targets : (samples, ...)
        dense, as it is indexed
    order, first : int64, (samples,) and one cell
    dtype, channels_last
        of the images that are given, (count, ...)
    """
    there = is_channels_last(images)
    last = channels_last or there
    x = device.empty((count, *images.shape[1:]), dtype, last)
    t = device.empty((count, *targets.shape[1:]), targets.dtype)
    cells, target_cells = prod(images.shape[1:]), prod(targets.shape[1:])
    most = max(cells, target_cells)
    if count and most:
        threads = min(THREADS, -(-most // 32) * 32)
        blocks = -(-most // (threads * CELLS)), min(count, MOST_ROWS)
        channels = images.shape[1] if last and not there else 1
        kernel = Kernel("batches", "gather_batch", images.dtype, dtype, targets.dtype)
        device.launch(
            kernel, blocks, threads, images, targets, order, first, count, cells, channels, target_cells, x, t
        )
    return x, t
