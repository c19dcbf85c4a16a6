"""The sum at a shortcut's end and the ReLU after it."""

from __future__ import annotations

import torch
from xcnn_strided.shortcut import Shortcut, fuse_shortcut

from xcnn.core.types import Array, Weights
from xcnn.layers import ReLU
from xcnn_torch.fused.common import holds, slope
from xcnn_torch.memory import empty_like


class Addition(Shortcut):
    """Its sums by PyTorch."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(self.layer, x)

    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        total = torch.add(a, b, out=empty_like(a))
        return total.relu_() if relu else total

    def slope(self, dy: Array, y: Array) -> Array:
        return slope(ReLU, dy, y)


fuse = fuse_shortcut(Addition)
"""Residual, and the ReLU after it."""
