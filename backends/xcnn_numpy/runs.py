"""Runs of layers as one, as far as the engines with and without Numba agree: shapes, checks, and who gets what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn._typing import Array, Shape, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import BatchNorm, Dropout, ReLU, Residual
from xcnn.layers.layer import Next, Run
from xcnn.random import fold
from xcnn_numpy.fusion import Fuse, holds

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named


@dataclass(frozen=True)
class Shortcut(ABC):
    """Y = relu(f(X) + g(X)), with or without the ReLU, for a Residual whose own layers are fused already."""

    backend: NumpyBackend
    name: str
    layer: Residual
    relu: bool
    n: int
    """The Residual's number in its container."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer, mine = self.layer, weights.get(self.name, {})
        inner, last = run.child(self.n, self.name), len(self.layer) - 1
        beside, shortcut_backward = x, None
        with inside(self.name):
            body, body_backward = layer.body(mine, x, inner)
            if layer.shortcut:
                beside, shortcut_backward = layer.call(last, mine, x, inner)
            layer.check_shapes(x.shape[1:], body.shape[1:], beside.shape[1:])
        y = self.sum(body, beside, self.relu)

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(layer, y.shape, dy)
                if self.relu:
                    dy = self.slope(dy, y)
                dx, of_layer = body_backward(dy)
                if shortcut_backward:
                    dy = layer.back(last, shortcut_backward, dy, of_layer)
            if of_layer:
                grads[self.name] = of_layer
            return self.sum(dx, dy, False)

        return y, backward

    @abstractmethod
    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        """A + b, or relu(a + b)."""

    @abstractmethod
    def slope(self, dy: Array, y: Array) -> Array:
        """The gradient before the ReLU that gave y."""


def fuse_shortcut(kind: type[Shortcut]) -> Fuse:
    """What knows a Residual, and the ReLU after it, as shortcuts of this kind."""

    def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Shortcut] | None:
        name, residual = layers[n]
        if type(residual) is not Residual:
            return None
        relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
        return 1 + relu, kind(backend, name, residual, relu, n)

    return fuse


@dataclass(frozen=True)
class Normalised(ABC):
    """Y = relu(scale X_hat + bias), with or without the ReLU."""

    backend: NumpyBackend
    name: str
    layer: BatchNorm
    relu: bool

    def fits(self, weights: Weights, x: Array) -> bool:
        scale = weights[self.name]["scale"]
        return holds(x, scale) and x.ndim in (3, 4) and x.size > 0 and x.shape[1:2] == scale.shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, train, x_shape = weights[self.name], run.train, x.shape
        running = {name: mine[name] for name in ("running_mean", "running_variance")}
        x = np.ascontiguousarray(x).reshape(*x_shape[:2], -1)
        m = x.size // x.shape[1]
        mean, variance = (np.empty_like(value) if train else value for value in running.values())
        y, inverse = self.forward(x, mine, mean, variance, train)
        following = {name: Next(value) for name, value in running.items()}
        if train and m > 1:
            moved = mean, variance * (m / (m - 1))
            following = {
                name: self.layer.moved(running[name], value) for name, value in zip(running, moved, strict=True)
            }

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, x_shape, dy)
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

    def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Normalised] | None:
        name, norm = layers[n]
        if type(norm) is not BatchNorm:
            return None
        relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
        return 1 + relu, kind(backend, name, norm, relu)

    return fuse


@dataclass(frozen=True)
class Dropped(ABC):
    """Y = M X / (1 - rate) in training."""

    backend: NumpyBackend
    name: str
    layer: Dropout
    n: int
    """The Dropout's number in its container."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x_shape, rate = x.shape, self.layer.rate
        if not run.train:
            return x, lambda dy, grads: self.checked(x_shape, dy)
        by = x.dtype.type(1) / x.dtype.type(1 - rate)
        masked = self.drawn(x, fold((*run.key, self.n)), int(rate * 2**32), by)
        return masked(x), lambda dy, grads: masked(self.checked(x_shape, dy))

    @abstractmethod
    def drawn(self, x: Array, key: tuple[int, int], least: int, by: Any) -> Callable[[Array], Array]:
        """Draw a word for each cell of x; what multiplies by `by` where it is at least `least`, elsewhere by zero."""

    def checked(self, x_shape: Shape, dy: Array) -> Array:
        """DY, if it has the shape of y."""
        with inside(self.name):
            check_dy(self.layer, x_shape, dy)
        return dy


def fuse_dropout(kind: type[Dropped]) -> Fuse:
    """What knows Dropout at a rate that keeps some and drops some."""

    def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Dropped] | None:
        name, dropout = layers[n]
        if type(dropout) is not Dropout or not 0 < dropout.rate < 1:
            return None
        return 1, kind(backend, name, dropout, n)

    return fuse
