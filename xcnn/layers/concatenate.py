"""Branches side by side, their channels joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_shape
from xcnn.core.likeness import check_dy, likeness, of_part
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run


@dataclass(frozen=True, init=False, repr=False)
class Concatenate(Container):
    """Y = [f1(X), f2(X), ...] along the channels (axis 1);  dX = the branches' dX of their parts of dY, summed.

    `Concatenate(Conv2D(4, 1), Conv2D(8, 3, padding="same"))` has 12 channels; `Sequential()` passes X itself on.

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
    """

    def __init__(self, *branches: Layer, **named: Layer) -> None:
        super().__init__(*branches, **named)
        if not self.named:
            raise OptionError("X104", "needs at least one branch.", layer=self)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        weights, shapes = self.init_each(rng, check_shape("input_shape", input_shape), chained=False)
        self.check_shapes(shapes)
        return weights, (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        ys, backwards = zip(*(self.call(n, weights, x, run, run.wants_dx) for n in range(len(self))), strict=True)
        self.check_shapes([y.shape[1:] for y in ys])
        edges = [0, *accumulate(y.shape[1] for y in ys)]

        y, parts = namespace(x).concat(ys, axis=1), [likeness(y) for y in ys]
        made = likeness(y)
        del ys

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            grads: Weights = {}
            dxs = [
                self.back(n, backwards[n], of_part(parts[n], dy[:, start:stop, ...]), grads)
                for n, (start, stop) in enumerate(pairwise(edges))
            ]
            return sum(dxs[1:], dxs[0]) if run.wants_dx else None, grads

        return y, backward

    def check_shapes(self, shapes: Sequence[Shape]) -> None:
        """Raise X101 unless the branches' outputs differ in their channels only."""
        if not all(shapes):
            raise ShapeError("X101", "joins channels, but its branches' outputs have none.", layer=self)
        if len({tuple(shape[1:]) for shape in shapes}) > 1:
            raise ShapeError(
                "X101",
                "joins channels, but its branches' outputs differ in more than these.",
                "got "
                + ", ".join(f"{name} {tuple(shape)}" for (name, _), shape in zip(self.named, shapes, strict=True)),
                hint='padding="same" and one stride in all branches give one height and width.',
                layer=self,
            )
