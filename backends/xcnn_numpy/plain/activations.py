"""Activations at the end of a pass, in place, and their slopes; both from y alone."""

from __future__ import annotations

import numpy as np

from xcnn.core.types import Array
from xcnn.layers import ReLU, Sigmoid

FUSED = (ReLU, Sigmoid)


def apply(activation: type | None, y: Array) -> None:
    """Y = f(y), in place."""
    if activation is ReLU:
        np.maximum(y, 0, out=y)
    elif activation is Sigmoid:
        power = np.abs(y)
        np.negative(power, out=power)
        np.exp(power, out=power)  # of -|y|, which never overflows
        np.maximum(power, y >= 0, out=y)  # 1 where y >= 0, else the power, which is below
        power += 1
        y /= power


def slope(activation: type | None, dy: Array, y: Array, out: Array) -> None:
    """Out = dy f', y being the activation's result."""
    if activation is ReLU:
        np.copyto(out, dy)
        np.copyto(out, 0, where=y <= 0)  # a product would make NaN of infinity
    elif activation is Sigmoid:
        factor = 1 - y
        factor *= y
        np.multiply(dy, factor, out=out)
    else:
        np.copyto(out, dy)
