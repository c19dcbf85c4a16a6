"""Branches side by side, their outputs added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xcnn.core.arrays import namespace
from xcnn.core.likeness import likeness
from xcnn.core.types import Array, Shape
from xcnn.layers.branches import Branches, Split, broadcast_shape, narrowed, widest


@dataclass(frozen=True, init=False, repr=False)
class Add(Branches):
    """Y = f1(X) + f2(X) + ...;  dX = the branches' dX of dY, summed.

    Outputs may be (C,) or (C, 1, 1) beside (C, H, W): one number is then added to each cell of a channel. In a Graph
    `both=(Add(), "left", "right")` adds values as they are.

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
    >>> net = xcnn.Add(xcnn.Conv2D(4, 3, padding="same"), xcnn.Conv2D(4, 1))
    >>> net.init(np.random.default_rng(0), (3, 8, 8))[1]
    (4, 8, 8)
    """

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        return broadcast_shape(self, shapes, "adds")

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        xp, parts = namespace(ys[0]), [likeness(y) for y in ys]
        first, *others = widest(xp, ys)
        return sum(others, first), lambda dy: [narrowed(xp, dy, part) for part in parts]
