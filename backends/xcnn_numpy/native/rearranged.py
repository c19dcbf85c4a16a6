"""Layers that only put cells elsewhere, as copies by the library where nobody wants a backward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_strided.fusion import FusedSequential

from xcnn.core.types import Array, Weights
from xcnn.core.windows import pair
from xcnn.errors import inside
from xcnn.layers import Concatenate, Reshape, UpSampling2D, ZeroPadding2D
from xcnn.layers.layer import Run, no_backward
from xcnn_numpy.native.copy import copy, zeros
from xcnn_numpy.native.layout import as_lying, holds, lying, new

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class Rearranged(ABC):
    """Y = X, its cells elsewhere; in training as the layer does it."""

    backend: Host
    name: str
    layer: Any
    n: int
    """The layer's number in its container."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim == 4 and x.size > 0

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, inner = weights.get(self.name, {}), run.child(self.n, self.name, run.wants_dx)
        with inside(self.name):
            if not run.wants_backward:
                return self.moved(mine, x, inner), no_backward
            y, back = self.layer(mine, x, inner)

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                dx, of_layer = back(dy)
            if of_layer:
                grads[self.name] = of_layer
            return dx

        return y, backward

    @abstractmethod
    def moved(self, mine: Weights, x: Array, run: Run) -> Array:
        """Y."""


class Joined(Rearranged):
    """A Concatenate's branches, each fused."""

    @cached_property
    def branches(self) -> tuple[FusedSequential, ...]:
        """The branches, each by itself."""
        return tuple(FusedSequential(self.backend, (named,), self.backend.fuses()) for named in self.layer.named)

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def moved(self, mine: Weights, x: Array, run: Run) -> Array:
        ys = [branch(mine, x, run)[0] for branch in self.branches]
        self.layer.check_shapes([y.shape[1:] for y in ys])
        return joined(ys, self.backend.workers)


def joined(ys: Sequence[Array], threads: int) -> Array:
    """Arrays side by side along the channels, in the first one's order of memory."""
    if not all(holds(y) and y.dtype == ys[0].dtype for y in ys):
        return np.concatenate(ys, axis=1)
    _, last = lying(ys[0], threads)
    edges = [0, *accumulate(y.shape[1] for y in ys)]
    whole = new((len(ys[0]), edges[-1], *ys[0].shape[2:]), ys[0].dtype, last)
    for start, y in zip(edges, ys, strict=False):
        copy(y, whole[:, start : start + y.shape[1]], threads)
    return whole


class Padded(Rearranged):
    """A ZeroPadding2D that takes nothing away."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return super().fits(weights, x) and min(map(min, self.layer.around())) >= 0

    def moved(self, mine: Weights, x: Array, run: Run) -> Array:
        threads = self.backend.workers
        (x, last), (n, c, h, w) = lying(x, threads), x.shape
        (top, bottom), (left, right) = self.layer.around()
        y = zeros(new((n, c, top + h + bottom, left + w + right), x.dtype, last), threads)
        copy(x, y[:, :, top : top + h, left : left + w], threads)
        return y


class Repeated(Rearranged):
    """An UpSampling2D that repeats each cell."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return super().fits(weights, x) and self.layer.interpolation == "nearest"

    def moved(self, mine: Weights, x: Array, run: Run) -> Array:
        threads, (s, t) = self.backend.workers, pair("size", self.layer.size)
        (x, last), (n, c, h, w) = lying(x, threads), x.shape
        y = new((n, c, h * s, w * t), x.dtype, last)
        for row in range(s):
            for column in range(t):
                copy(x, y[:, :, row::s, column::t], threads)
        return y


class Reshaped(Rearranged):
    """A Reshape, of images in C's order."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim > 0

    def moved(self, mine: Weights, x: Array, run: Run) -> Array:
        target = self.layer.resolved(x.shape[1:])
        return as_lying(x, False, self.backend.workers).reshape(len(x), *target)


KINDS: dict[type, Any] = {Concatenate: Joined, ZeroPadding2D: Padded, UpSampling2D: Repeated, Reshape: Reshaped}


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Rearranged] | None:
    """A layer that only puts cells elsewhere."""
    name, layer = layers[n]
    kind = KINDS.get(type(layer))
    return (1, kind(backend, name, layer, n)) if kind else None
