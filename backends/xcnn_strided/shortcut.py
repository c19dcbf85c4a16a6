"""A Residual's sum and the ReLU after it as one, around its own layers, which are fused already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcnn.core.likeness import likeness, of_part
from xcnn.core.types import Array, Backward, Weights
from xcnn.errors import inside
from xcnn.layers import ReLU, Residual
from xcnn.layers.layer import Run
from xcnn.training.precision import within
from xcnn_strided.fusion import Fuse

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named


@dataclass(frozen=True)
class Shortcut(ABC):
    """Y = relu(f(X) + g(X)), with or without the ReLU, for a Residual whose own layers are fused already."""

    backend: object
    name: str
    layer: Residual
    relu: bool
    n: int
    """The Residual's number in its container."""

    @abstractmethod
    def fits(self, weights: Weights, x: Array) -> bool:
        """Whether it can take these arrays."""

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer, mine = self.layer, weights.get(self.name, {})
        inner, last = run.child(self.n, self.name, run.wants_dx), len(self.layer) - 1
        beside, shortcut_backward = x, None
        with inside(self.name):
            body, body_backward = layer.body(mine, x, inner)
            if layer.shortcut:
                beside, shortcut_backward = self.beside(mine, x, inner)
            layer.check_shapes(x.shape[1:], body.shape[1:], beside.shape[1:])
        of_body, of_shortcut = likeness(body), likeness(beside)
        y, slope = self.end(body, beside)

        def backward(dy: Array, grads: Weights) -> Array | None:
            with inside(self.name):
                if slope:
                    dy = slope(dy)
                dx, of_layer = body_backward(of_part(of_body, dy))
                if shortcut_backward:
                    dy = layer.back(last, shortcut_backward, of_part(of_shortcut, dy), of_layer)
            if of_layer:
                grads[self.name] = of_layer
            return self.sum(dx, dy, False) if run.wants_dx else None

        return y, backward

    def beside(self, mine: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        """What the shortcut's layer gives, and its backward."""
        return self.layer.call(len(self.layer) - 1, mine, x, run)

    def end(self, a: Array, b: Array) -> tuple[Array, Callable[[Array], Array] | None]:
        """Y = relu(a + b), and the gradient before the ReLU, of that of y; or a + b and None."""
        y = self.sum(a, b, self.relu)
        return y, (lambda dy: self.slope(dy, y)) if self.relu else None

    @abstractmethod
    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        """A + b, or relu(a + b)."""

    @abstractmethod
    def slope(self, dy: Array, y: Array) -> Array:
        """The gradient before the ReLU that gave y."""


def fuse_shortcut(kind: type[Shortcut]) -> Fuse:
    """What knows a Residual, and the ReLU after it, as shortcuts of this kind."""

    def fuse(backend: object, layers: Named, n: int) -> tuple[int, Shortcut] | None:
        name, residual = layers[n]
        if type(residual) is not Residual:
            return None
        relu = len(layers) > n + 1 and type(within(layers[n + 1][1])) is ReLU
        return 1 + relu, kind(backend, name, residual, relu, n)

    return fuse
