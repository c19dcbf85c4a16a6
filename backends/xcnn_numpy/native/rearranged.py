"""Layers that only put cells elsewhere, as copies by the library, forward and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xcnn_strided.fusion import Stretch

from xcnn.core.likeness import likeness, of_part
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Shape, Weights
from xcnn.core.windows import pair
from xcnn.errors import inside
from xcnn.layers import Reshape, UpSampling2D, ZeroPadding2D
from xcnn.layers.layer import Run, no_backward
from xcnn_numpy.native.copy import copy, zeros
from xcnn_numpy.native.joins import NativeBranches
from xcnn_numpy.native.layout import as_lying, holds, lying, new
from xcnn_numpy.native.pooling import sum_pool

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class Rearranged(ABC):
    """Y = X, its cells elsewhere."""

    backend: Host
    name: str
    layer: Any
    n: int
    """The layer's number in its container."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim == 4 and x.size > 0

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        shape = x.shape
        with inside(self.name):
            return self.moved(x), lambda dy, grads: self.back(dy, shape)

    @abstractmethod
    def moved(self, x: Array) -> Array:
        """Y."""

    @abstractmethod
    def back(self, dy: Array, x_shape: Shape) -> Array:
        """DX."""


@dataclass(frozen=True)
class Joined:
    """Y of branches that are joined by the library, each of them fused."""

    backend: Host
    name: str
    layer: NativeBranches
    n: int

    @cached_property
    def branches(self) -> tuple[Stretch, ...]:
        """The branches, each by itself, under its own number."""
        named, fuses = self.layer.named, self.backend.fuses()
        return tuple(Stretch(self.backend, named[: n + 1], fuses, n) for n in range(len(named)))

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, inner = weights.get(self.name, {}), run.child(self.n, self.name, run.wants_dx)
        with inside(self.name):
            ys, backs = zip(*(branch(mine, x, inner) for branch in self.branches), strict=True)
            self.layer.joined_shape([y.shape[1:] for y in ys])
        parts, (whole, split) = [likeness(y) for y in ys], self.layer.joined(ys)
        del ys
        if not run.wants_backward:
            return whole, no_backward

        def backward(dy: Array, grads: Weights) -> Array | None:
            found: Weights = {}
            dxs = []
            for back, part, of_branch in zip(backs, parts, split(dy), strict=True):
                with inside(self.name):
                    dx, gradients = back(of_part(part, of_branch))
                found |= gradients
                dxs.append(dx)
            if found:
                grads[self.name] = found
            return self.layer.summed(dxs) if run.wants_dx else None

        return whole, backward


class Padded(Rearranged):
    """A ZeroPadding2D that takes nothing away."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return super().fits(weights, x) and min(map(min, self.layer.around())) >= 0

    def moved(self, x: Array) -> Array:
        threads = self.backend.workers
        (x, last), (n, c, h, w) = lying(x, threads), x.shape
        (top, bottom), (left, right) = self.layer.around()
        y = zeros(new((n, c, top + h + bottom, left + w + right), x.dtype, last), threads)
        copy(x, y[:, :, top : top + h, left : left + w], threads)
        return y

    def back(self, dy: Array, x_shape: Shape) -> Array:
        (top, _), (left, _) = self.layer.around()
        return dy[:, :, top : top + x_shape[2], left : left + x_shape[3]]


class Repeated(Rearranged):
    """An UpSampling2D that repeats each cell."""

    def moved(self, x: Array) -> Array:
        threads, (s, t) = self.backend.workers, pair("size", self.layer.size)
        (x, last), (n, c, h, w) = lying(x, threads), x.shape
        y = new((n, c, h * s, w * t), x.dtype, last)
        for row in range(s):
            for column in range(t):
                copy(x, y[:, :, row::s, column::t], threads)
        return y

    def back(self, dy: Array, x_shape: Shape) -> Array:
        size = pair("size", self.layer.size)
        return sum_pool(dy, size, size, NO_PADDING, self.backend.workers)


class Reshaped(Rearranged):
    """A Reshape, of images in C's order."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim > 0

    def moved(self, x: Array) -> Array:
        target = self.layer.resolved(x.shape[1:])
        return as_lying(x, False, self.backend.workers).reshape(len(x), *target)

    def back(self, dy: Array, x_shape: Shape) -> Array:
        return as_lying(dy, False, self.backend.workers).reshape(x_shape)


KINDS: dict[type, Any] = {ZeroPadding2D: Padded, UpSampling2D: Repeated, Reshape: Reshaped}


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Rearranged | Joined] | None:
    """A layer that only puts cells elsewhere, or that joins what its branches give."""
    name, layer = layers[n]
    kind: Any = Joined if isinstance(layer, NativeBranches) and layer.named else KINDS.get(type(layer))
    if kind is Repeated and layer.interpolation != "nearest":  # type: ignore[attr-defined]
        return None
    return (1, kind(backend, name, layer, n)) if kind else None
