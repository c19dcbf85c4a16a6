"""Branches side by side, their channels joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from xcnn.core.arrays import namespace
from xcnn.core.types import Array, Shape
from xcnn.errors import ShapeError
from xcnn.layers.branches import Branches, Split


@dataclass(frozen=True, init=False, repr=False)
class Concatenate(Branches):
    """Y = [f1(X), f2(X), ...] along the channels (axis 1);  dX = the branches' dX of their parts of dY, summed.

    `Concatenate(Conv2D(4, 1), Conv2D(8, 3, padding="same"))` has 12 channels; `Sequential()` passes X itself on. In a
    Graph `both=(Concatenate(), "left", "right")` joins values as they are.

    Parameters
    ----------
    *branches
        layers that are all given X
    **named
        branches that come after those, with names of yours

    Raises
    ------
    OptionError
        X104, for what is no layer, or a name twice.
    ShapeError
        X101, where their outputs differ in more than channels.

    Examples
    --------
    >>> net = xcnn.Concatenate(xcnn.Conv2D(4, 1), xcnn.Conv2D(8, 3, padding="same"))
    >>> net.init(np.random.default_rng(0), (3, 28, 28))[1]
    (12, 28, 28)
    """

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        self.check_shapes(shapes)
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        edges = [0, *accumulate(y.shape[1] for y in ys)]
        y = namespace(ys[0]).concat([*ys], axis=1)
        return y, lambda dy: [dy[:, start:stop, ...] for start, stop in pairwise(edges)]

    def check_shapes(self, shapes: Sequence[Shape]) -> None:
        """Raise X101 unless the branches' outputs differ in their channels only."""
        if not all(shapes):
            raise ShapeError("X101", "joins channels, but its branches' outputs have none.", layer=self)
        if len({tuple(shape[1:]) for shape in shapes}) > 1:
            raise ShapeError(
                "X101",
                "joins channels, but its branches' outputs differ in more than these.",
                self.named_shapes(shapes),
                hint='padding="same" and one stride in all branches give one height and width.',
                layer=self,
            )
