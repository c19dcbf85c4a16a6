"""What containers share whose layers stand side by side: they all see X, and their outputs are made one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from xcnn.core.arrays import total
from xcnn.core.checks import check_home, check_shape
from xcnn.core.likeness import Likeness, check_dy, likeness, of_part
from xcnn.core.several import is_several
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run

Split: TypeAlias = Callable[[Array], Sequence[Array]]
"""From the gradient of what was made of several arrays to the gradients of these."""


@dataclass(frozen=True, init=False, repr=False)
class Branches(Container):
    """Y = joined(f1(X), f2(X), ...);  dX = the branches' dX, summed.

    Without branches it joins several values as they are, which a node of a Graph may be given.
    """

    def __init__(self, *branches: Layer, **named: Layer) -> None:
        super().__init__(*branches, **named)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        self.check_given(is_several(input_shape))
        if not self.named:
            return {}, self.joined_shape([check_shape("input_shape", shape) for shape in input_shape])
        weights, shapes = self.init_each(rng, check_shape("input_shape", input_shape), chained=False)
        return weights, self.joined_shape(shapes)

    def __call__(self, weights: Weights, x: Any, run: Run) -> tuple[Array, Backward]:
        self.check_given(isinstance(x, tuple))
        if not self.named:
            return self.joining(x, run)
        ys, backwards = zip(*(self.call(n, weights, x, run, run.wants_dx) for n in range(len(self))), strict=True)
        self.joined_shape([y.shape[1:] for y in ys])
        parts, (y, split) = [likeness(y) for y in ys], self.joined(ys)
        made = likeness(y)
        del ys

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            grads: Weights = {}
            dxs = [
                self.back(n, backwards[n], of_part(part, dy_n), grads)
                for n, (part, dy_n) in enumerate(zip(parts, split(dy), strict=True))
            ]
            return self.summed(dxs) if run.wants_dx else None, grads

        return y, backward

    def joining(self, xs: Sequence[Array], run: Run) -> tuple[Array, Backward]:
        """Y of these values themselves; its backward gives a tuple of their gradients."""
        for x in xs:
            check_home(self, {}, x, run.backend)
        self.joined_shape([x.shape[1:] for x in xs])
        parts, (y, split) = [likeness(x) for x in xs], self.joined(xs)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Any, Weights]:
            check_dy(self, made, dy)
            return tuple(of_part(part, dx) for part, dx in zip(parts, split(dy), strict=True)), {}

        return y, backward

    def check_given(self, several: bool) -> None:
        """Raise X104 where there are no branches for one value, or branches and several values."""
        if several and self.named:
            what, hint = "has branches, which all see one value, and is given several.", "leave the branches out."
        elif not several and not self.named:
            what = "needs at least one branch."
            hint = "without branches it joins several values, in a Graph: both=(Add(), 'left', 'right')."
        else:
            return
        raise OptionError("X104", what, hint=hint.replace("Add", type(self).__name__), layer=self)

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        """The shape of y for one sample; raises X101 where the branches' outputs do not fit each other."""
        raise NotImplementedError

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        """Y of the branches' outputs, and what parts its gradient."""
        raise NotImplementedError

    def summed(self, dxs: Sequence[Array]) -> Array:
        """DX of the branches' own."""
        return sum(dxs[1:], dxs[0])

    def named_shapes(self, shapes: Sequence[Shape]) -> str:
        """Of each branch its name and the shape of its output; of values without names the shapes alone."""
        names = [f"{name} " for name, _ in self.named] or [""] * len(shapes)
        return "got " + ", ".join(f"{name}{tuple(shape)}" for name, shape in zip(names, shapes, strict=True))


def broadcast_shape(layer: Branches, shapes: Sequence[Shape], verb: str) -> Shape:
    """The shape of a sum or product cell by cell: sizes are equal or 1, and axes that lack at the end count as 1.

    Raises
    ------
    ShapeError
        X101
    """
    whole = [padded(shape, max(map(len, shapes))) for shape in shapes]
    sizes = [{*along} - {1} for along in zip(*whole, strict=True)]
    if any(len(of_axis) > 1 for of_axis in sizes):
        raise ShapeError(
            "X101",
            f"{verb} cell by cell, but what it is given differs in shape.",
            layer.named_shapes(shapes),
            hint='padding="same" and one stride keep height and width; (C,) and (C, 1, 1) fit (C, H, W).',
            layer=layer,
        )
    return tuple(of_axis.pop() if of_axis else 1 for of_axis in sizes)


def padded(shape: Shape, rank: int) -> Shape:
    """The shape with axes of size 1 at its end."""
    return (*shape, *(1 for _ in range(rank - len(shape))))


def widest(xp: Any, ys: Sequence[Array]) -> list[Array]:
    """The arrays with as many axes as the one that has most."""
    rank = max(y.ndim for y in ys)
    return [y if y.ndim == rank else xp.reshape(y, padded(y.shape, rank)) for y in ys]


def narrowed(xp: Any, dy: Array, part: Likeness) -> Array:
    """The gradient of what was broadcast: the sum over the axes along which it was one cell."""
    shape = padded(part[1], dy.ndim)
    axes = tuple(axis for axis, (n, m) in enumerate(zip(shape, dy.shape, strict=True)) if axis and n != m)
    return xp.reshape(total(dy, axis=axes) if axes else dy, part[1]) if axes or shape != part[1] else dy
