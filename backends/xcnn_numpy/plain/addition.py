"""The sum at a shortcut's end and the ReLU after it, in memory that is used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xcnn._typing import Array, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import ReLU, Residual
from xcnn.layers.layer import Run
from xcnn_numpy.buffers import empty
from xcnn_numpy.fusion import holds
from xcnn_numpy.plain import activations, blas
from xcnn_numpy.threads import available

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named

PER_CELL = 30
"""A cell takes about as long as so many multiplications within a product of matrices."""


@dataclass(frozen=True)
class Addition:
    """Y = relu(f(X) + g(X)), with or without the ReLU, for a Residual whose own layers are fused already."""

    backend: NumpyBackend
    name: str
    layer: Residual
    activation: type | None
    n: int

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
        y = self.sum(body, beside, self.activation)

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(layer, y.shape, dy)
                if self.activation is not None:
                    dy = self.before(dy, y)
                dx, of_layer = body_backward(dy)
                if shortcut_backward:
                    dy = layer.back(last, shortcut_backward, dy, of_layer)
            if of_layer:
                grads[self.name] = of_layer
            return self.sum(dx, dy, None)

        return y, backward

    def sum(self, a: Array, b: Array, activation: type | None) -> Array:
        """f(a + b)"""
        out = empty(a.shape, a.dtype)

        def part(first: int, last: int) -> None:
            some = np.add(a[first:last], b[first:last], out=out[first:last])
            activations.apply(activation, some)

        blas.share(part, len(a), PER_CELL * a.size, self.backend.threads or available())
        return out

    def before(self, dy: Array, y: Array) -> Array:
        """The gradient before the activation."""
        out = empty(y.shape, y.dtype)

        def part(first: int, last: int) -> None:
            activations.slope(self.activation, dy[first:last], y[first:last], out[first:last])

        blas.share(part, len(y), PER_CELL * y.size, self.backend.threads or available())
        return out


def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Addition] | None:
    """Residual, and the ReLU after it."""
    name, residual = layers[n]
    if type(residual) is not Residual:
        return None
    relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
    return 1 + relu, Addition(backend, name, residual, ReLU if relu else None, n)
