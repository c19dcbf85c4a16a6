"""Arrays of the host that every library takes over as they lie."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from xcnn.core.types import Shape

ALIGNED = 64
"""Bytes: what JAX asks of an address, else it copies."""


def aligned(shape: Shape, dtype: Any) -> np.ndarray[Any, Any]:
    """An array of any content at such an address."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNED, np.uint8)
    first = -memory.__array_interface__["data"][0] % ALIGNED
    cells: np.ndarray[Any, Any] = memory[first : first + size].view(dtype)
    return cells.reshape(shape)
