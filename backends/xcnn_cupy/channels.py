"""How kernels go through memory channel by channel: Box of channels.cu, and the grid for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from xcnn.core.types import Array
from xcnn_cupy.device import THREADS, Device
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.kernels.instances import PACKS
from xcnn_cupy.layout import type_name

SUMS = {"float32": "float32", "float64": "float64", "float16": "float32", "bfloat16": "float32"}
"""Types of images, and of what belongs to their channels: biases, statistics, sums."""
PACK = 16
"""Bytes of a pack, if it has more than one cell."""
LINE = 128
"""Bytes that come from memory together."""
EACH = 4
"""Packs of a thread, at least, before there are more threads."""
PASSING, SUMMING = 16, 5
"""Blocks for each of the device's processors, at most. As many as sum, and leave parts to be added up, run at once."""
BOX = np.dtype([(name, np.int32) for name in ("outer", "columns", "inner", "wide", "spread")])


@dataclass(frozen=True)
class Walk:
    """A Box, the cells V of its packs, the grid that goes through it, and for how many channels."""

    box: np.ndarray[Any, Any]
    pack: int
    blocks: tuple[int, int]
    channels: int

    @property
    def splits(self) -> int:
        """Among how many blocks the cells of a channel are shared out."""
        return self.blocks[1]


def walk(device: Device, sizes: tuple[int, int, int], *arrays: Array, most: int = PASSING) -> Walk:
    """The way through arrays of one type and size, (outer, channels, inner) as `by_channel` has it.

    `most` is PASSING, SUMMING, or 0, for which one block sees all cells of its channels.
    """
    length = sizes[1] if sizes[2] == 1 else sizes[2]
    pack = cells_of_pack(device, length, *arrays)
    return way_of(sizes, int(arrays[0].dtype.itemsize), pack, most * device.processors)


@lru_cache(maxsize=4096)
def way_of(sizes: tuple[int, int, int], itemsize: int, pack: int, most: int) -> Walk:
    """The same for packs of so many cells, of so many bytes each, and for so many blocks."""
    outer, channels, inner = sizes
    spread, wide = inner == 1, 1
    columns, inner = (channels // pack, 1) if spread else (channels, inner // pack)
    rows = outer * inner
    if spread:
        wide = min(LINE // (pack * itemsize), next_power_of_2(columns))
    if not most:  # then it is better to have each thread read little
        wide = max(1, min(wide, THREADS * EACH // next_power_of_2(rows)))
    across, wanted = max(1, -(-columns // wide)), -(-rows * wide // (THREADS * EACH))
    splits = max(1, min(wanted, most // across))
    return Walk(np.array((outer, columns, inner, wide, spread), BOX), pack, (across, splits), channels)


def cells_of_pack(device: Device, length: int, *arrays: Array) -> int:
    """How many cells can be read at once of arrays of one type, of which `length` cells belong together."""
    cells = PACKS[type_name(arrays[0].dtype)]
    fits = length % cells == 0 and all(device.address(array) % PACK == 0 for array in arrays)
    return cells if fits else 1


def next_power_of_2(n: int) -> int:
    """The least that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


def alike(x: Array) -> tuple[int, int, int]:
    """The sizes where channels do not matter: all cells are of one."""
    return 1, 1, prod(x.shape)


def added_up(device: Device, parts: Array) -> Array:
    """The sums of columns: (splits, cells) -> (cells,), in the order of the rows."""
    splits, cells = parts.shape
    if splits == 1:
        return parts.reshape(cells)
    sums = device.empty((cells,), parts.dtype)
    way = walk(device, (splits, cells, 1), parts, most=0)
    kernel = Kernel("channels", "activation_backward", type_name(parts.dtype), way.pack, "Identity")
    device.launch(kernel, way.blocks, THREADS, parts, None, way.box, None, sums)
    return sums
