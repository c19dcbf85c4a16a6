"""The Gaussian error linear unit, Hendrycks and Gimpel 2016."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import pi, sqrt
from typing import Any

from xcnn.core.arrays import full
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.layers.activations import Activation, Slope, sigmoid
from xcnn.layers.half import wide_call

LIMIT = 40.0
"""Beyond it every number here is 0 or 1 in float64 too: exp(-40^2 / 2) is 0."""

MILLS = (
    (1.2533141373155001836, 1.9438881357843835392, 1.4913258265745812911, 0.72687389606470254516,
     0.24562565012850779499, 0.059435742029709676101, 0.010297812619454007569, 0.0012361578298231914789,
     9.400629529092761671e-05, 3.5012552848498016572e-06),
    (1.0, 2.3488828922730782876, 2.5640432470294376945, 1.7172920534831578101,
     0.78387257131077620613, 0.25573543888979243703, 0.060664897754847103113, 0.01039181890416928733,
     0.0012396590852944630659, 9.4006295288954340534e-05, 3.501255284859206062e-06),
)  # fmt: skip
"""Coefficients, from the constant on, of polynomials P and Q with P(a) / Q(a) = Phi(-a) / phi(a), Mills's ratio.

The relative error is at most 5.5e-17 for 0 <= a <= 40: a minimax fit by Remez's algorithm in 60 digits. All are
positive, so nothing cancels.
"""

SINGLE_MILLS = (
    (1.25331415, 1.10111826, 0.461140724, 0.102473269, 0.010410523),
    (1.0, 1.67645027, 1.20554579, 0.471407093, 0.102479386, 0.0104104113),
)
"""The same for float32: the error is at most 6.4e-9 for 0 <= a <= 15, beyond which phi(a) is 0."""


@wide_call
@checked
@dataclass(frozen=True)
class GELU(Activation):
    """y = x Phi(x), Phi being the normal distribution and phi its density;  f' = Phi(x) + x phi(x).

    `approximate=True` takes sigmoid(2 u) for Phi(x), u = sqrt(2 / pi) (x + 0.044715 x^3), which is (1 + tanh(u)) / 2.

    Parameters
    ----------
    approximate
        whether to take the form with tanh, which is wrong by 5e-4 at most, as PyTorch's approximate="tanh"

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.GELU(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.16,  0.  ,  1.95]], dtype=float32)
    """

    _: KW_ONLY
    approximate: bool = False

    def f(self, xp: Any, x: Array) -> tuple[Array, Slope]:
        if self.approximate:
            return tanh_gelu(xp, x)
        density, distribution = normal(xp, x)
        return x * distribution, lambda: distribution + x * density


def tanh_gelu(xp: Any, x: Array) -> tuple[Array, Slope]:
    """With v = x (c + d x^2) and s = sigmoid(v): y = x s,  f' = s + x s (1 - s) (c + 3 d x^2)."""
    c = 2 * sqrt(2 / pi)
    d = 0.044715 * c
    near = xp.minimum(xp.maximum(x, full(x, (), -LIMIT)), full(x, (), LIMIT))
    s = sigmoid(xp, near * (c + d * near * near))
    return x * s, lambda: s + near * s * (1 - s) * (c + 3 * d * near * near)


def normal(xp: Any, x: Array) -> tuple[Array, Array]:
    """The standard normal's density phi(x) and distribution Phi(x), each to full relative precision.

    phi(x) = exp(-x^2 / 2) / sqrt(2 pi), with x^2 = r^2 + (x - r)(x + r), r being x rounded to sixteenths: r^2 is
    exact. What their sum, rounded, misses of both is taken into account, so that no error of x^2 is magnified by exp.
    Phi(-|x|) = phi(x) P(|x|) / Q(|x|), and Phi(|x|) = 1 - Phi(-|x|).
    """
    over, under = MILLS if x.dtype == xp.float64 else SINGLE_MILLS
    a = xp.minimum(xp.abs(x), full(x, (), LIMIT))
    r = xp.round(16 * a) / 16
    near, rest = r * r, (a - r) * (a + r)
    square = near + rest
    missed = rest - (square - near)
    density = xp.exp(-0.5 * square) * (1 / sqrt(2 * pi) - 0.5 / sqrt(2 * pi) * missed)
    tail = density * polynomial(a, over) / polynomial(a, under)
    return density, xp.where(x > 0, 1 - tail, tail)


def polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """c[0] + x (c[1] + x (c[2] + ...)), Horner's scheme."""
    *rest, last, highest = coefficients
    y = last + x * highest
    for c in reversed(rest):
        y = c + x * y
    return y
