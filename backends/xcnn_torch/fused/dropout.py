"""Dropout, and the Flatten after it, whose order of memory the mask has anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from xcnn.core.types import Array, Weights
from xcnn.layers import Dropout, Flatten
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_torch.fused.common import computes_in, followed_by, gives, holds
from xcnn_torch.memory import typed

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.host import Host


@dataclass(frozen=True)
class FusedDropout:
    """Y = M X / (1 - rate) in training, flat or not."""

    takes_shares: ClassVar[bool] = False

    backend: Host
    name: str
    outer: Layer
    """The Dropout, or a Cast around it."""
    flat: bool
    end: Layer
    n: int
    """The Dropout's number in its container."""

    @property
    def layer(self) -> Dropout:
        """The Dropout itself."""
        return within(self.outer)  # type: ignore[return-value]

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(self.outer, x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x_type, x_shape, dtype = x.dtype, x.shape, computes_in(self.outer, x.dtype)
        mask = None
        if run.train:
            mask = self.backend.kept((*run.key, self.n), x_shape, self.layer.rate, dtype)
        y = typed(x, dtype)
        if mask is not None:
            y = torch.mul(y.contiguous() if self.flat else y, mask)
        y = y.reshape(len(x), -1) if self.flat else y

        def backward(dy: Array, grads: Weights) -> Array:
            dy = typed(dy, dtype).reshape(x_shape)
            return typed(dy if mask is None else torch.mul(dy, mask), x_type)

        return typed(y, gives(self.end, dtype)), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedDropout] | None:
    """Dropout at a rate that drops some, and Flatten after it."""
    name, outer = layers[n]
    dropout = within(outer)
    if type(dropout) is not Dropout or dropout.rate == 0:
        return None
    flat = followed_by(layers, n, Flatten) is not None
    return 1 + flat, FusedDropout(backend, name, outer, flat, layers[n + flat][1], n)
