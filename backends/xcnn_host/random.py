"""Random bits by the compiled library; without it a cache-full at a time, in 32-bit words that wrap around."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from xcnn_native.library import address, library

from xcnn.core.random import MASK, Key, Words, encrypt, fold
from xcnn.core.types import Shape

CHUNK = 2**15
"""Counters at a time: three arrays of 128 KiB."""


def bits(key: Key, shape: Shape, threads: int = 1) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What xcnn.core.random.bits draws, bit for bit."""
    size = prod(shape)
    half = -(-size // 2)
    drawn = np.empty(2 * half, dtype=np.int64)
    if compiled := library():
        compiled.random_bits_u32(*fold(key), half, address(drawn), threads)
        return drawn[:size].reshape(shape)
    for first, x0, x1 in words(fold(key), 0, half):
        drawn[first : first + len(x0)] = x0
        drawn[half + first : half + first + len(x0)] = x1
    return drawn[:size].reshape(shape)


def words(key: tuple[int, int], first: int, last: int) -> Iterator[tuple[int, Words, Words]]:
    """Both words of counters first to last - 1, some at a time, and which counter these begin with."""
    for start in range(first, last, CHUNK):
        counters = np.arange(start, min(start + CHUNK, last), dtype=np.uint64)
        x0, x1 = (counters >> np.uint64(32)).astype(np.uint32), (counters & np.uint64(MASK)).astype(np.uint32)
        encrypt(key, x0, x1)
        yield start, x0, x1
