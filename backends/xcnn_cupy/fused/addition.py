"""The sum at a shortcut's end and the ReLU after it, in one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcnn_strided.shortcut import Shortcut, fuse_shortcut

from xcnn.core.types import Array, Weights
from xcnn_cupy.device import is_channels_last
from xcnn_cupy.epilogue import add, relu_backward
from xcnn_cupy.fused.common import fits
from xcnn_cupy.layout import converted

if TYPE_CHECKING:
    from xcnn_cupy.host import Host


class Addition(Shortcut):
    """Its sums by own kernels; what is added takes the type and order of memory of what the layers gave."""

    backend: Host

    def fits(self, weights: Weights, x: Array) -> bool:
        return fits(self.backend, self.layer, x, {})

    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        return add(self.backend.gpu, *self.alike(a, b), relu)

    def slope(self, dy: Array, y: Array) -> Array:
        return relu_backward(self.backend.gpu, *reversed(self.alike(y, dy)))

    def alike(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Both in memory as the first lies."""
        device, last = self.backend.gpu, is_channels_last(a)
        return converted(device, a, a.dtype, last), converted(device, b, a.dtype, last)


fuse = fuse_shortcut(Addition)
"""Residual, and the ReLU after it."""
