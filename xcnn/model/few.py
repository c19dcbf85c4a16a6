"""What is asked of few numbers on the host, by calls that take less time than NumPy's reductions.

A reduction takes a microsecond where its code is in the processor's cache, and several where a training step has taken
its place.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

FEW = 4096
"""Cells whose squares are added up by the thread that asks, in every BLAS."""
FEWEST = 32
"""Numbers that Python looks at one by one in the time of a reduction."""


def all_finite(x: np.ndarray[Any, Any]) -> bool:
    """Whether all floating-point numbers of an array are finite: so they are where the sum of their squares is."""
    if x.size <= FEW and x.flags.c_contiguous and x.dtype.kind == "f" and isfinite(np.vdot(x, x)):
        return True  # of large numbers the squares are infinite, and `vdot`, unlike `dot`, does not warn of it
    return bool(np.isfinite(x).all())


def extremes(numbers: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The least and the largest of whole numbers, of which there is one at least."""
    if numbers.size <= FEWEST and numbers.ndim == 1:
        values = numbers.tolist()
        return min(values), max(values)
    return numbers.min(), numbers.max()
