"""Activations: y = f(x) cell by cell, dx = dy f'(x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcnn._arrays import namespace
from xcnn._typing import Array, Backward, Rng, Shape, Weights
from xcnn.checks import check_dy, check_home
from xcnn.layers.layer import Run


class Activation:
    """A function of single cells, on arrays of any shape. `f` gives y and a function that gives f'(x)."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Callable[[], Array]]:
        """Y, and the slope at x when it is asked for."""
        raise NotImplementedError

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, tuple(input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        y, slope = self.f(namespace(x), x)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, y.shape, dy)
            return dy * slope(), {}

        return y, backward


@dataclass(frozen=True)
class ReLU(Activation):
    """y = max(x, 0);  f' = 1 where x > 0, else 0 (at 0 too)."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Callable[[], Array]]:
        return xp.maximum(x, xp.zeros_like(x)), lambda: xp.astype(x > 0, x.dtype)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which never overflows;  f' = y (1 - y)."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Callable[[], Array]]:
        y = 0.5 * (1 + xp.tanh(0.5 * x))
        return y, lambda: y * (1 - y)
