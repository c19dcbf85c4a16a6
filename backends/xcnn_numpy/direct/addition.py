"""The sum at a shortcut's end, and the ReLU after it, as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xcnn._typing import Array, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import ReLU, Residual
from xcnn.layers.layer import Run
from xcnn_numpy.buffers import empty
from xcnn_numpy.direct import lines
from xcnn_numpy.direct.algorithm import Direct, flat
from xcnn_numpy.direct.lines import NONE, RELU
from xcnn_numpy.direct.team import Shared
from xcnn_numpy.fusion import holds

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named


@Shared
def add(out: Any, a: Any, b: Any, activation: int, part: int, first: int, last: int) -> None:
    """Out = f(a + b) in cells first to last - 1."""
    lines.add(out, first, 0, a, first, 0, b, first, 0, activation, 1, last - first)


@Shared
def slope(out: Any, dy: Any, y: Any, activation: int, part: int, first: int, last: int) -> None:
    """Out = dy f' in cells first to last - 1, from y."""
    lines.slope(out, first, 0, dy, first, 0, y, first, 0, activation, 1, last - first)


@dataclass(frozen=True)
class Addition:
    """Y = relu(f(X) + g(X)), with or without the ReLU, for a Residual whose own layers are fused already."""

    direct: Direct
    name: str
    layer: Residual
    activation: int
    n: int

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer, mine, activation = self.layer, weights.get(self.name, {}), self.activation
        inner, last = run.child(self.n, self.name), len(self.layer) - 1
        beside, shortcut_backward = x, None
        with inside(self.name):
            y, body_backward = layer.body(mine, x, inner)
            if layer.shortcut:
                beside, shortcut_backward = layer.call(last, mine, x, inner)
            layer.check_shapes(x.shape[1:], y.shape[1:], beside.shape[1:])
        y = self.sum(y, beside, activation)

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(layer, y.shape, dy)
                if activation != NONE:
                    dy = self.before(dy, y)
                dx, of_layer = body_backward(dy)
                if shortcut_backward:
                    dy = layer.back(last, shortcut_backward, dy, of_layer)
            if of_layer:
                grads[self.name] = of_layer
            return self.sum(dx, dy, NONE)

        return y, backward

    def sum(self, a: Array, b: Array, activation: int) -> Array:
        """f(a + b)"""
        out, a_, b_ = empty((a.size,), a.dtype), flat(a), flat(b)
        self.direct.share(add, a.size, a.size, out, a_, b_, activation)
        return out.reshape(a.shape)

    def before(self, dy: Array, y: Array) -> Array:
        """The gradient before the activation."""
        out, dy_, y_, activation = empty((y.size,), dy.dtype), flat(dy), flat(y), self.activation
        self.direct.share(slope, y.size, y.size, out, dy_, y_, activation)
        return out.reshape(y.shape)


def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Addition] | None:
    """Residual, and the ReLU after it."""
    name, residual = layers[n]
    if type(residual) is not Residual:
        return None
    relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
    return 1 + relu, Addition(backend.direct, name, residual, RELU if relu else NONE, n)
