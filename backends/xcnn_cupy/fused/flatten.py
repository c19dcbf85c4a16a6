"""Flatten: images whose channels lie last in memory are laid out as they are indexed, in one launch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from xcnn.core.types import Array, Weights
from xcnn.layers import Flatten
from xcnn.layers.layer import Layer, Run
from xcnn_cupy.fused.common import computes_in, fits, fuse_alone, gives
from xcnn_cupy.layout import converted

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward

    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class Flattened:
    """(N, ...) -> (N, features)."""

    backend: Host
    name: str
    outer: Layer
    """The Flatten, or a Cast around it."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return fits(self.backend, self.outer, x, {}) and 1 < x.ndim <= 4

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x_shape, dtype = x.shape, gives(self.outer, computes_in(self.outer, x.dtype))
        y = converted(self.backend.gpu, x, dtype, False).reshape(x_shape[0], prod(x_shape[1:]))

        def backward(dy: Array, grads: Weights) -> Array:
            return dy.reshape(x_shape)

        return y, backward


fuse = fuse_alone(Flatten, Flattened)
"""Flatten by itself."""
