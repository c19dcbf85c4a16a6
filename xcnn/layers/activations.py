"""Activations: y = f(x) cell by cell, dx = dy f'(x). None overflows, whatever x is, and NaN stays NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcnn.core.arrays import full, namespace
from xcnn.core.checks import check_between, check_home, check_positive, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run

Slope = Callable[[], Array]
INFINITY = float("inf")
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


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
    """y = max(x, 0);  dx = dy where x > 0, else 0 (at 0 too), whatever dy is there: NaN and infinity stop as well.

    Examples
    --------
    >>> xcnn.Model(xcnn.ReLU(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[0., 0., 2.]], dtype=float32)
    """

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

    Examples
    --------
    >>> xcnn.Model(xcnn.LeakyReLU(0.01), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.01,  0.  ,  2.  ]], dtype=float32)
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

    Examples
    --------
    >>> xcnn.Model(xcnn.ELU(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.63,  0.  ,  2.  ]], dtype=float32)
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
    """y = 1 / (1 + exp(-x));  f' = y (1 - y).

    Examples
    --------
    >>> xcnn.Model(xcnn.Sigmoid(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[0.27, 0.5 , 0.88]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = sigmoid(xp, x)
        return y, lambda: y * (1 - y)


@computes_in_half
@checked
@dataclass(frozen=True)
class Tanh(Activation):
    """y = tanh(x);  f' = 1 - y^2.

    Examples
    --------
    >>> xcnn.Model(xcnn.Tanh(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.76,  0.  ,  0.96]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = xp.tanh(x)
        return y, lambda: 1 - y * y


@computes_in_half
@checked
@dataclass(frozen=True)
class SiLU(Activation):
    """y = x s, s = sigmoid(x);  f' = s + x s (1 - s). Also called swish.

    Examples
    --------
    >>> xcnn.Model(xcnn.SiLU(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.27,  0.  ,  1.76]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        s = sigmoid(xp, x)
        return x * s, lambda: s + x * s * (1 - s)


@computes_in_half
@checked
@dataclass(frozen=True)
class Softplus(Activation):
    """y = log(1 + exp(x)), computed as max(x, 0) + log(1 + exp(-|x|));  f' = sigmoid(x).

    Examples
    --------
    >>> xcnn.Model(xcnn.Softplus(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[0.31, 0.69, 2.13]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x))), lambda: sigmoid(xp, x)


@computes_in_half
@checked
@dataclass(frozen=True)
class ClippedReLU(Activation):
    """y = min(max(x, 0), max_value);  dx = dy where 0 < x < max_value, else 0. With 6 it is called ReLU6.

    Parameters
    ----------
    max_value
        the largest y, above 0

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.ClippedReLU(6), (3,), loss="mse").predict(np.array([[-1.0, 3, 9]]))
    array([[0., 3., 6.]], dtype=float32)
    """

    max_value: float = 6.0

    def __post_init__(self) -> None:
        check_positive("max_value", self.max_value)

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = clipped(xp, x, self.max_value)
        return y, lambda: xp.where(xp.logical_or(y <= 0, y >= self.max_value), full(x, (), 0.0), full(x, (), 1.0))


@computes_in_half
@checked
@dataclass(frozen=True)
class SELU(Activation):
    """y = scale x where x > 0, else scale alpha (exp(x) - 1);  f' = scale, or scale alpha exp(x).

    With these two numbers mean 0 and variance 1 are a fixed point of a layer: Klambauer et al. 2017.

    Examples
    --------
    >>> xcnn.Model(xcnn.SELU(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-1.11,  0.  ,  2.1 ]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        below = xp.minimum(x, xp.zeros_like(x))
        y = xp.where(x > 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * xp.expm1(below))
        return y, lambda: xp.where(x > 0, full(x, (), SELU_SCALE), SELU_SCALE * SELU_ALPHA * xp.exp(below))


@computes_in_half
@checked
@dataclass(frozen=True)
class Mish(Activation):
    """y = x w, w = tanh(log(1 + exp(x)));  f' = w + x (1 - w^2) sigmoid(x). Misra 2019.

    w = n / (n + 2) with n = e^x (e^x + 2), and for x > 0, both sides of the fraction by e^(2x), (1 + 2 p) / (1 + 2 p +
    2 p^2) with p = e^-x: so nothing overflows, and 1 - w, the rest of the fraction, does not cancel.

    Examples
    --------
    >>> xcnn.Model(xcnn.Mish(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.3 ,  0.  ,  1.94]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        p = xp.exp(-xp.abs(x))
        over = xp.where(x > 0, 1 + 2 * p, p * (p + 2))
        rest = xp.where(x > 0, 2 * p * p, full(x, (), 2.0))
        w, v = over / (over + rest), rest / (over + rest)
        return x * w, lambda: w + x * (v * (1 + w)) * sigmoid(xp, x)


@computes_in_half
@checked
@dataclass(frozen=True)
class HardSigmoid(Activation):
    """y = slope x + 1/2, held between 0 and 1;  f' = slope where 0 < y < 1, else 0.

    Parameters
    ----------
    slope
        of the line; 1/6 is PyTorch's and Keras 3's, 0.2 that of older Keras and of ONNX

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.HardSigmoid(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[0.33, 0.5 , 0.83]], dtype=float32)
    """

    slope: float = 1 / 6

    def __post_init__(self) -> None:
        check_positive("slope", self.slope)

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        y = clipped(xp, self.slope * x + 0.5, 1.0)
        return y, lambda: xp.where(xp.logical_or(y <= 0, y >= 1), full(x, (), 0.0), full(x, (), self.slope))


@computes_in_half
@checked
@dataclass(frozen=True)
class HardSwish(Activation):
    """y = x h, h = x / 6 + 1/2, held between 0 and 1;  f' = h + x / 6 where 0 < h < 1, else h. Howard et al. 2019.

    Examples
    --------
    >>> xcnn.Model(xcnn.HardSwish(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.33,  0.  ,  1.67]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        h = clipped(xp, x / 6 + 0.5, 1.0)
        return x * h, lambda: xp.where(xp.logical_or(h <= 0, h >= 1), h, h + x / 6)


@computes_in_half
@checked
@dataclass(frozen=True)
class Softsign(Activation):
    """y = x / (1 + |x|);  f' = 1 / (1 + |x|)^2.

    Examples
    --------
    >>> xcnn.Model(xcnn.Softsign(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.5 ,  0.  ,  0.67]], dtype=float32)
    """

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        q = 1 / (1 + xp.abs(x))
        return x * q, lambda: q * q


def clipped(xp: Any, x: Array, most: float) -> Array:
    """X, held between 0 and `most`; NaN stays NaN."""
    return xp.minimum(xp.maximum(x, xp.zeros_like(x)), full(x, (), most))


def sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)), computed from exp(-|x|), which never overflows, so that small values keep all their digits."""
    power = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, full(x, (), 1.0), power) / (1 + power)
