"""What a converter of one of Keras's layers is given, and what it makes: layers of xcnn's with their arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xcnn.core.types import Shape
from xcnn.exchange.keras.files import Stored
from xcnn.layers.layer import Layer

Numbers: TypeAlias = NDArray[Any]
Order: TypeAlias = "Numbers | None"
"""Of each feature its number in Keras; None where it is its own."""


class UnsupportedError(ValueError):
    """A layer, or an option of one, that xcnn does not have."""


@dataclass(frozen=True)
class Part:
    """A layer of xcnn's, and the leaves of its weights: an array of the file's and what makes ours of it.

    Parameters
    ----------
    layer
        of xcnn
    weights
        by name: a function without arguments that brings the array
    suffix
        what its name has behind Keras's, where one of Keras's layers becomes several
    takes
        what it is given: numbers of the inputs of Keras's layer, and behind them of its parts; None is the part before
    """

    layer: Layer
    weights: Mapping[str, Callable[[], Numbers]] = field(default_factory=dict)
    suffix: str = ""
    takes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Given:
    """A layer of Keras's with what it is given.

    Parameters
    ----------
    config
        its options
    shapes
        of its inputs, for a sample, as xcnn has them
    orders
        of their features
    arrays
        its own
    """

    config: Mapping[str, Any]
    shapes: Sequence[Shape]
    orders: Sequence[Order]
    arrays: Sequence[Stored]

    @property
    def shape(self) -> Shape:
        """Of its first input."""
        return self.shapes[0]

    @property
    def order(self) -> Order:
        """Of its first input."""
        return self.orders[0]

    def option(self, name: str, default: Any = None) -> Any:
        """An option of Keras's."""
        return self.config.get(name, default)

    def size(self, name: str, default: Any = 1) -> Any:
        """A whole number, or one or two in a list, as a number or a pair."""
        value = self.option(name, default)
        return value if not isinstance(value, list) else value[0] if len(value) == 1 else tuple(value)

    def only(self, **expected: Any) -> None:
        """Raise unless these options are as expected, or not told."""
        for name, value in expected.items():
            if (found := self.option(name, value)) not in (value, None):
                raise UnsupportedError(f"{name}={found!r}")

    def array(self, n: int, change: Callable[[Numbers], Numbers] = lambda array: array) -> Callable[[], Numbers]:
        """What brings its n-th array, changed."""
        if n >= len(self.arrays):
            raise UnsupportedError(f"{len(self.arrays)} arrays in the file, where it has more")
        return lambda: change(self.arrays[n].read())

    def ordered(self, rows: Numbers) -> Numbers:
        """Features, or rows of a kernel that meets features, in our order."""
        return rows if self.order is None else rows[self.order]

    def last_axis(self, name: str = "axis") -> None:
        """Raise unless an option names the axis of the channels."""
        axis = self.option(name, -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(self.shape)):
            raise UnsupportedError(f"{name}={axis!r}, which are not the channels")


def channels_first(array: Numbers) -> Numbers:
    """(..., channels) -> (channels, ...)"""
    return np.moveaxis(array, -1, 0)


def out_in(kernel: Numbers) -> Numbers:
    """(..., in, out) -> (out, in, ...)"""
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
