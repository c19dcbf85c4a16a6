"""Arrays whose axes stay in the order in which convolutions left them, until something needs another.

XLA's CPU compiler computes convolutions with the channels last, and brings no transposes together that stand before and
behind what works cell by cell: it copies each image for each. So a program is evaluated operation by operation while it
is traced (programs.py), on the values that are here. A transpose is only noted. What does not mind the order of the
axes, work cell by cell, sums over some axes, cuts, take the cells as they lie (rules.py); all others get them in the
order that the program has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from jax import lax

from xcnn.core import tree
from xcnn.core.types import Array, Shape, Weights

Order: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Turned:
    """An array whose axis n is that one of `cells` which `order` has at n."""

    cells: Array
    order: Order

    @property
    def shape(self) -> Shape:
        """Of the array."""
        return tuple(self.cells.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> Any:
        """Of both."""
        return self.cells.dtype

    def lying(self, order: Order) -> Array:
        """The cells of the same array in another order."""
        return lax.transpose(self.cells, [self.order[axis] for axis in inverse(order)])


@dataclass(frozen=True)
class Spread:
    """An array of this shape with the same cells along all axes but `axes`, which are those of `cells`."""

    cells: Array
    shape: Shape
    axes: Order

    @property
    def dtype(self) -> Any:
        """Of both."""
        return self.cells.dtype

    def lying(self, order: Order) -> Array:
        """The cells of the array in this order."""
        places = [order[axis] for axis in self.axes]
        cells = lax.transpose(self.cells, sorted(range(len(places)), key=places.__getitem__))
        return lax.broadcast_in_dim(cells, [self.shape[axis] for axis in inverse(order)], sorted(places))


@dataclass(frozen=True)
class Flat:
    """All cells of a turned array in one row, as they lie; the row's own order is that of the array's axes."""

    cells: Array
    sides: Shape
    order: Order
    """What the turned array has."""

    @property
    def shape(self) -> Shape:
        """Of the row."""
        return (prod(self.sides),)

    @property
    def dtype(self) -> Any:
        """Of all."""
        return self.cells.dtype

    def lying(self, order: Order) -> Array:
        """The cells in the row's own order, which is the only one of one axis."""
        whole = Turned(lax.reshape(self.cells, self.sides), self.order)
        return lax.reshape(plain(whole), self.shape)

    def lies_as(self, value: Value) -> bool:
        """Whether this is a row of an array that lies in the same way."""
        return isinstance(value, Flat) and (value.sides, value.order) == (self.sides, self.order)


Value: TypeAlias = Any
"""An array, which lies as it is, or one of the three above."""


def inverse(order: Sequence[int]) -> Order:
    """The order that undoes one."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def lying(value: Value, order: Order) -> Array:
    """The cells of a value in this order."""
    if is_value(value):
        return value.lying(order)
    return lax.transpose(value, inverse(order))


def is_value(value: object) -> bool:
    """Whether this is one of the three."""
    return isinstance(value, Turned | Spread | Flat)


def plain(value: Value) -> Array:
    """A value as an array."""
    return value.lying((*range(len(value.shape)),)) if is_value(value) else value


def turned(cells: Array, order: Sequence[int]) -> Value:
    """An array, or `Turned` where it lies otherwise."""
    return cells if [*order] == [*range(len(order))] else Turned(cells, (*order,))


# Weights, whose kernels lie as convolutions want them.

KERNEL = 3, 2, 0, 1
"""(filters, channels, height, width) of cells (height, width, channels, filters)."""


def laid(weights: Weights) -> Weights:
    """With the kernels' cells in that order."""
    return tree.map(lambda w: lying(w, KERNEL) if len(w.shape) == len(KERNEL) else plain(w), weights)


def held(weights: Weights) -> Weights:
    """What `laid` made, as the arrays that they are."""
    return tree.map(lambda w: Turned(w, KERNEL) if len(w.shape) == len(KERNEL) else w, weights)
