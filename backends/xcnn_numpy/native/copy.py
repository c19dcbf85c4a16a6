"""Arrays copied by the compiled library, whatever the order of either in memory, on several threads."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np
from xcnn_native.library import Held, call
from xcnn_native.recording import stays

from xcnn.core.types import Array, Shape

AXES = 6
"""Of the library's copies, as in kernels/copy.c."""
NOTHING = {char: np.zeros((), char) for char in "fd"}
"""A zero of each type."""


class Axes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ssize_t * AXES) for name in ("size", "x", "y")]


@lru_cache(maxsize=512)
def axes(shape: Shape, x: Shape, y: Shape) -> Held | None:
    """The description of a copy, strides being in cells; None where it has more axes than the library's.

    Axes that follow each other in both arrays are one. The last is that whose cells are neighbours in Y, and the one
    before it, if that is another, that whose cells are neighbours in X: these two are copied in squares.
    """
    found = sorted((one for one in zip(shape, x, y, strict=True) if one[0] > 1), key=lambda one: -abs(one[2]))
    joined: list[tuple[int, int, int]] = []
    for size, from_x, from_y in found:
        if joined and joined[-1][1:] == (from_x * size, from_y * size):
            size *= joined.pop()[0]
        joined.append((size, from_x, from_y))
    close = next((n for n, one in enumerate(joined[:-1]) if abs(one[1]) == 1), None)
    if close is not None:
        joined[close:-1] = [*joined[close + 1 : -1], joined[close]]
    if len(joined) > AXES:
        return None
    made = Axes(*zip(*[(1, 0, 0)] * (AXES - len(joined)), *joined, strict=True))
    return Held(ctypes.addressof(made), made)


def copy(x: Array, y: Array, threads: int = 1) -> Array:
    """Write x, broadcast to y's shape, into y, which shares no memory with it; y."""
    source, size = np.broadcast_to(x, y.shape), y.itemsize
    known = x.dtype.char in NOTHING and x.dtype == y.dtype and x.flags.aligned and x.dtype.isnative
    whole = known and not any(stride % size for stride in source.strides)
    strides = ([stride // size for stride in array.strides] for array in (source, y))
    how = axes(y.shape, *map(tuple, strides)) if whole and y.size else None
    if how is None:
        np.copyto(y, source)
    else:
        call("copy", y.dtype, how, x, y, threads)
    return y


def zeros(y: Array, threads: int = 1) -> Array:
    """Write zeros into y; y."""
    return copy(stays(NOTHING[y.dtype.char]), y, threads)
