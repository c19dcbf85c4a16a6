"""Branches side by side, their outputs multiplied: gates, as squeeze-and-excitation (Hu et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul

from xcnn.core.arrays import namespace
from xcnn.core.likeness import likeness
from xcnn.core.types import Array, Shape
from xcnn.layers.branches import Branches, Split, broadcast_shape, narrowed, widest


@dataclass(frozen=True, init=False, repr=False)
class Multiply(Branches):
    """Y = f1(X) f2(X) ..., cell by cell;  the n-th branch gets dY times the other outputs, dX is their dX, summed.

    Outputs may be (C,) or (C, 1, 1) beside (C, H, W): a factor for each channel. In a Graph
    `gated=(Multiply(), "features", "gate")` multiplies values as they are.

    Parameters
    ----------
    *branches
        layers that are all given X; `Sequential()` passes X itself on
    **named
        branches that come after those, with names of yours

    Raises
    ------
    OptionError
        X104, for what is no layer, or a name twice.
    ShapeError
        X101, where the outputs' shapes do not fit each other.

    Examples
    --------
    Squeeze-and-excitation:

    >>> gate = xcnn.Sequential(xcnn.GlobalAveragePool2D(), xcnn.Dense(2), xcnn.ReLU(), xcnn.Dense(8), xcnn.Sigmoid())
    >>> xcnn.Multiply(xcnn.Sequential(), gate).init(np.random.default_rng(0), (8, 7, 7))[1]
    (8, 7, 7)
    """

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        return broadcast_shape(self, shapes, "multiplies")

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        xp, parts = namespace(ys[0]), [likeness(y) for y in ys]
        factors = widest(xp, ys)

        def split(dy: Array) -> list[Array]:
            products = [reduce(mul, factors[:n] + factors[n + 1 :], dy) for n in range(len(factors))]
            return [narrowed(xp, product, part) for product, part in zip(products, parts, strict=True)]

        return reduce(mul, factors), split
