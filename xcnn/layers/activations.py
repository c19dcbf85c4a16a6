"""Activations: y = f(x) cell by cell, dx = dy f'(x). None overflows, whatever x is, and NaN stays NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcnn.core.arrays import full, namespace
from xcnn.core.checks import check_between, check_home, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run

Slope = Callable[[], Array]
INFINITY = float("inf")


class Activation:
    """A function of single cells, on arrays of any shape. `f` gives y and a function that gives f'(x)."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        """Y, and the slope at x when it is asked for."""
        raise NotImplementedError

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, check_shape("input_shape", input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        y, slope = self.f(namespace(x), x)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return self.through(dy, slope()), {}

        return y, backward

    def through(self, dy: Array, slope: Array) -> Array:
        """DX = dY f'(X)."""
        return dy * slope


@computes_in_half
@checked
@dataclass(frozen=True)
class ReLU(Activation):
    """y = max(x, 0);  dx = dy where x > 0, else 0 (at 0 too), whatever dy is there: NaN and infinity stop as well."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = xp.maximum(x, xp.zeros_like(x))
        return y, lambda: xp.logical_not(y <= 0)  # y is what the next layer keeps; where it is NaN, dy goes on

    def through(self, dy: Array, slope: Array) -> Array:
        return namespace(dy).where(slope, dy, full(dy, (), 0.0))


@computes_in_half
@checked
@dataclass(frozen=True)
class LeakyReLU(Activation):
    """y = max(x, 0) + negative_slope min(x, 0);  f' = 1 where x > 0, else negative_slope (at 0 too).

    Parameters
    ----------
    negative_slope
        of the line below 0, at least 0; PyTorch's default is 0.01, Keras's this

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    """

    negative_slope: float = 0.3

    def __post_init__(self) -> None:
        check_between("negative_slope", self.negative_slope, 0, INFINITY)

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        zero = xp.zeros_like(x)
        y = xp.maximum(x, zero) + self.negative_slope * xp.minimum(x, zero)
        return y, lambda: xp.where(x > 0, full(x, (), 1.0), full(x, (), self.negative_slope))


@computes_in_half
@checked
@dataclass(frozen=True)
class ELU(Activation):
    """y = x where x > 0, else alpha (exp(x) - 1);  f' = 1 where x > 0, else alpha exp(x).

    Parameters
    ----------
    alpha
        what it tends to far below 0 is -alpha

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_between("alpha", self.alpha, 0, INFINITY)

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        below = xp.minimum(x, xp.zeros_like(x))
        y = xp.where(x > 0, x, self.alpha * xp.expm1(below))
        return y, lambda: xp.where(x > 0, full(x, (), 1.0), self.alpha * xp.exp(below))


@computes_in_half
@checked
@dataclass(frozen=True)
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x));  f' = y (1 - y)."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = sigmoid(xp, x)
        return y, lambda: y * (1 - y)


@computes_in_half
@checked
@dataclass(frozen=True)
class Tanh(Activation):
    """y = tanh(x);  f' = 1 - y^2."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = xp.tanh(x)
        return y, lambda: 1 - y * y


@computes_in_half
@checked
@dataclass(frozen=True)
class SiLU(Activation):
    """y = x s, s = sigmoid(x);  f' = s + x s (1 - s). Also called swish."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        s = sigmoid(xp, x)
        return x * s, lambda: s + x * s * (1 - s)


@computes_in_half
@checked
@dataclass(frozen=True)
class Softplus(Activation):
    """y = log(1 + exp(x)), computed as max(x, 0) + log(1 + exp(-|x|));  f' = sigmoid(x)."""

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x))), lambda: sigmoid(xp, x)


def sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)), computed from exp(-|x|), which never overflows, so that small values keep all their digits."""
    power = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, full(x, (), 1.0), power) / (1 + power)
