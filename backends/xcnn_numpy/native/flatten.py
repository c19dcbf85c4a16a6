"""Flatten without a look at the arrays' library: for single images that takes as long as small layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from xcnn.core.types import Array, Weights
from xcnn.layers import Flatten
from xcnn.layers.layer import Run
from xcnn_numpy.native.layout import as_lying

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class FusedFlatten:
    """Y = X, reshaped: of images in C's order."""

    backend: Host
    name: str
    layer: Flatten

    def fits(self, weights: Weights, x: Array) -> bool:
        return type(x) is np.ndarray and x.ndim > 0

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        shape, flat = x.shape, (x.shape[0], prod(x.shape[1:]))

        def backward(dy: Array, grads: Weights) -> Array:
            return dy.reshape(shape)

        return as_lying(x, False, self.backend.workers).reshape(flat), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedFlatten] | None:
    """Flatten."""
    name, layer = layers[n]
    return (1, FusedFlatten(backend, name, layer)) if type(layer) is Flatten else None
