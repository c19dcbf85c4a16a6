"""How arrays lie in memory: plane by plane, as NumPy makes them, or with the channels of each pixel side by side.

Kernels take both, and give their results in the order of what they were given; anything else is copied first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.types import Array, Shape
from xcnn_numpy.native.copy import copy

LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""By their number: the axes with channels last."""
FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
"""And back."""
TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def holds(x: Array) -> bool:
    """Whether x is NumPy's own array, of a type that kernels compute in."""
    return type(x) is np.ndarray and x.dtype in TYPES


def lying(x: Array, threads: int = 1) -> tuple[Array, bool]:
    """X, copied unless it lies in one of the two orders; and whether its channels are last."""
    flags = x.flags
    if flags.aligned and flags.c_contiguous:
        return x, False
    last = x.ndim in LAST and x.shape[1] > 1 and abs(x.strides[1]) == x.itemsize
    return as_lying(x, last, threads), last


def as_lying(x: Array, last: bool, threads: int = 1) -> Array:
    """X, copied unless it lies in this order."""
    flags = (x.transpose(LAST[x.ndim]) if last else x).flags
    if flags.c_contiguous and flags.aligned:
        return x
    return copy(x, new(x.shape, x.dtype, last), threads)


def new(shape: Shape, dtype: Any, last: bool) -> Array:
    """An array of any content in this order."""
    if not last:
        return empty(shape, dtype)
    n, c, *sizes = shape
    return empty((n, *sizes, c), dtype).transpose(FIRST[len(shape)])
