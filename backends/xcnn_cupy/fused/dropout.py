"""Dropout in one launch each way: the mask is not kept but drawn again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xcnn.core.types import Array, Weights
from xcnn.layers import Dropout
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_cupy.fused.common import computes_in, fits
from xcnn_cupy.layout import dense
from xcnn_cupy.random import dropped

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class FusedDropout:
    """Y = M X / (1 - rate) in training."""

    takes_shares: ClassVar[bool] = False

    backend: Host
    name: str
    outer: Layer
    n: int
    """The Dropout's number in its container."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return fits(self.backend, self.outer, x, {}) and computes_in(self.outer, x.dtype) == str(x.dtype)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer: Dropout = within(self.outer)  # type: ignore[assignment]
        device, key = self.backend.gpu, (*run.key, self.n)
        least, factor = int(layer.rate * 2**32), 1 / (1 - layer.rate)

        def masked(x: Array) -> Array:
            return dropped(device, dense(device, x), key, least, factor) if run.train else x

        def backward(dy: Array, grads: Weights) -> Array:
            return masked(dy)

        return masked(x), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedDropout] | None:
    """Dropout at a rate that keeps some and drops some."""
    name, layer = layers[n]
    found = within(layer)
    if type(found) is not Dropout or not 0 < found.rate < 1:
        return None
    return 1, FusedDropout(backend, name, layer, n)
