"""Runs of layers as one, as far as `native` and `plain` agree: shapes, checks, and who gets what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_native.recording import folded
from xcnn_strided.fusion import Fuse
from xcnn_strided.shortcut import Shortcut

from xcnn.core.types import Array, Weights
from xcnn.layers import BatchNorm, Dropout, ReLU
from xcnn.layers.batch_norm import unmoved
from xcnn.layers.layer import Run

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


def holds(x: Array, weight: Array | None = None) -> bool:
    """Whether x is NumPy's own array, of a type that fused runs compute in, and of its weight's."""
    return type(x) is np.ndarray and x.dtype.char in "fd" and (weight is None or x.dtype == weight.dtype)


class HostShortcut(Shortcut):
    """A Shortcut of NumPy's arrays."""

    backend: Host

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)


@dataclass(frozen=True)
class Normalised(ABC):
    """Y = relu(scale X_hat + bias), with or without the ReLU."""

    backend: Host
    name: str
    layer: BatchNorm
    relu: bool

    def fits(self, weights: Weights, x: Array) -> bool:
        scale = weights[self.name]["scale"]
        return holds(x, scale) and x.ndim in (3, 4) and x.size > 0 and x.shape[1:2] == scale.shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, train, x_shape = weights[self.name], run.train, x.shape
        running = mine["running_mean"], mine["running_variance"]
        x = np.ascontiguousarray(x).reshape(*x_shape[:2], -1)
        m = x.size // x.shape[1]
        mean, variance = (np.empty_like(value) if train else value for value in running)
        y, inverse = self.forward(x, mine, mean, variance, train)
        following = unmoved(mine)
        if train and m > 1:
            following = self.layer.moved(np, mine, mean, variance * (m / (m - 1)))

        def backward(dy: Array, grads: Weights) -> Array:
            dx, dscale, dbias = self.backward(x, dy.reshape(x.shape), y, mine, mean, inverse, train)
            grads[self.name] = {"scale": dscale, "bias": dbias, **following}
            return dx.reshape(x_shape)

        return y.reshape(x_shape), backward

    @abstractmethod
    def forward(self, x: Array, mine: Weights, mean: Array, variance: Array, train: bool) -> tuple[Array, Array]:
        """Y (N, C, cells) and 1 / sqrt(variance + epsilon) (C,); in training mean and variance are written too."""

    @abstractmethod
    def backward(
        self, x: Array, dy: Array, y: Array, mine: Weights, mean: Array, inverse: Array, train: bool
    ) -> tuple[Array, Array, Array]:
        """DX (N, C, cells), dscale and dbias."""


def fuse_norm(kind: type[Normalised]) -> Fuse:
    """What knows BatchNorm, and the ReLU after it."""

    def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Normalised] | None:
        name, norm = layers[n]
        if type(norm) is not BatchNorm:
            return None
        relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
        return 1 + relu, kind(backend, name, norm, relu)

    return fuse


@dataclass(frozen=True)
class Dropped(ABC):
    """Y = M X / (1 - rate) in training."""

    backend: Host
    name: str
    layer: Dropout
    n: int
    """The Dropout's number in its container."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        rate = self.layer.rate
        if not run.train:
            return x, lambda dy, grads: dy
        by = x.dtype.type(1) / x.dtype.type(1 - rate)
        masked = self.drawn(x, run, folded((*run.key, self.n)), int(rate * 2**32), by)
        return masked(x), lambda dy, grads: masked(dy)

    @abstractmethod
    def drawn(self, x: Array, run: Run, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        """Draw a word for each cell of x; what multiplies by `by` where it is at least `least`, elsewhere by zero."""


def fuse_dropout(kind: type[Dropped]) -> Fuse:
    """What knows Dropout at a rate that keeps some and drops some."""

    def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Dropped] | None:
        name, dropout = layers[n]
        if type(dropout) is not Dropout or not 0 < dropout.rate < 1:
            return None
        return 1, kind(backend, name, dropout, n)

    return fuse
