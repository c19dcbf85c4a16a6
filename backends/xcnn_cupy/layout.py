"""Arrays brought into another type and order of memory: one of them in a launch, or many small ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from xcnn.core.types import Array, Shape
from xcnn_cupy.device import THREADS, Device, blocks_for, is_channels_last, is_dense, is_in_order
from xcnn_cupy.kernels import Kernel

# Structures and constants of layout.cu, where they are explained.
CHUNK, TILE = 4 * THREADS, 32
AXES = ("sizes", "source_strides", "target_strides")
COPY = np.dtype(
    [(name, np.uint64) for name in ("source", "target")]
    + [(name, np.int32, 4) for name in AXES]
    + [(name, np.int32) for name in ("turned", "first_chunk")]
)
COPIES = 56
TABLE = np.dtype([("copy", COPY, COPIES), ("count", np.int32), ("chunks", np.int32)])
LEAST = 8
"""Cells of an axis below which tiles would be mostly empty: then the cache does their work."""


def converted(device: Device, x: Array, dtype: Any, channels_last: bool) -> Array:
    """X in dense memory of this type, as it is indexed or with the channels last; x itself where it is that already.

    Parameters
    ----------
    x
        of any floating type, of up to four axes, with any strides, also negative ones and 0
    channels_last
        for images and kernels alone, which have four axes
    """
    return converted_all(device, [x], [dtype], [channels_last])[0]


def converted_all(
    device: Device, arrays: Sequence[Array], dtypes: Sequence[Any], channels_last: Sequence[bool]
) -> list[Array]:
    """Each array as `converted` gives it, in one launch for every 56 that go from one type to another."""
    found, sources, targets = [], [], []
    for x, dtype, last in zip(arrays, dtypes, channels_last, strict=True):
        y = x
        if type_name(x.dtype) != type_name(dtype) or not is_in_order(x, order(x.ndim, last)):
            y = device.empty(x.shape, dtype, last)
            sources.append(x)
            targets.append(y)
        found.append(y)
    copy_all(device, sources, targets)
    return found


def copy(device: Device, x: Array) -> Array:
    """A dense array's copy, lying as it does."""
    y = device.empty(x.shape, x.dtype, is_channels_last(x))
    copy_all(device, [x], [y])
    return y


def copy_all(device: Device, sources: Sequence[Array], targets: Sequence[Array]) -> None:
    """Copy arrays into dense others of the same shapes, in one launch for every 56 that go from one type to another."""
    groups = dict[tuple[str, str], list[tuple[Array, Array]]]()
    for x, y in zip(sources, targets, strict=True):
        if x.size:
            groups.setdefault((type_name(x.dtype), type_name(y.dtype)), []).append((x, y))
    for types, pairs in groups.items():
        for first in range(0, len(pairs), COPIES):
            launch(device, types, pairs[first : first + COPIES])


@cache
def type_name(dtype: Any) -> str:
    """A data type's name, "float32"; kept, since it takes longer to make than a launch."""
    return str(dtype)


def dense(device: Device, x: Array) -> Array:
    """X itself where it is dense, else a copy as it is indexed."""
    return x if is_dense(x) else converted(device, x, x.dtype, False)


def launch(device: Device, types: tuple[str, str], pairs: list[tuple[Array, Array]]) -> None:
    """Copy the first of each pair, of which there are at most COPIES, into the second, which is dense."""
    table = planned(tuple((x.shape, x.strides, int(x.dtype.itemsize), is_channels_last(y)) for x, y in pairs)).copy()
    for side, arrays in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
        table["copy"][side][: len(pairs)] = [device.address(array) for array in arrays]
    kernel, chunks = Kernel("layout", "convert", *types), int(table["chunks"])
    device.launch(kernel, blocks_for(device, chunks, 1), THREADS, table)


@lru_cache(maxsize=1024)
def planned(copies: tuple[tuple[Shape, Shape, int, bool], ...]) -> np.ndarray[Any, Any]:
    """Copies of layout.cu, but for the addresses."""
    table, chunks = np.zeros((), TABLE), 0
    for n, copy in enumerate(copies):
        of_axes, turned, its_chunks = plan(*copy)
        table["copy"][n] = (0, 0, *of_axes, turned, chunks)
        chunks += its_chunks
    table["count"], table["chunks"] = len(copies), chunks
    return table


def plan(shape: Shape, strides: Shape, itemsize: int, channels_last: bool) -> tuple[tuple[Shape, ...], bool, int]:
    """Sizes, source strides and target strides of a Copy, in cells; whether it is turned; how many chunks it has."""
    axes = joined([(shape[axis], strides[axis] // itemsize) for axis in order(len(shape), channels_last)])
    axes = [(1, 0)] * (4 - len(axes)) + axes
    whole = [(n, stride, prod(n for n, _ in axes[at + 1 :])) for at, (n, stride) in enumerate(axes)]
    nearest = min(range(4), key=lambda at: (whole[at][0] == 1 or whole[at][1] == 0, abs(whole[at][1])))
    turned = nearest < 3 and whole[3][1] != 0 and min(whole[nearest][0], whole[3][0]) >= LEAST
    if turned:
        whole.insert(2, whole.pop(nearest))
    sizes, source, target = zip(*whole, strict=True)
    tiles = prod(sizes[:2]) * -(-sizes[2] // TILE) * -(-sizes[3] // TILE)
    return (sizes, source, target), turned, tiles if turned else -(-prod(sizes) // CHUNK)


def order(rank: int, channels_last: bool) -> tuple[int, ...]:
    """The axes from the slowest in memory to the fastest."""
    return (0, 2, 3, 1) if channels_last else tuple(range(rank))


def joined(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Axes (size, stride) of which those that are walked as one are one; of size 1 there are none left."""
    found = list[tuple[int, int]]()
    for n, stride in axes:
        if n == 1:
            continue
        if found and found[-1][1] == n * stride:
            found[-1] = found[-1][0] * n, stride
        else:
            found.append((n, stride))
    return found
