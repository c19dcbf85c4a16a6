"""Several values where mostly there is one: what a Graph is given, what it gives, and what some layers in it join.

Then a layer's shape is a tuple of shapes, its x or y a tuple of arrays, and so is the gradient of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xcnn.core.types import Array, Shape

Result = TypeVar("Result")


def is_several(shape: Any) -> bool:
    """Whether this is a tuple of shapes."""
    return isinstance(shape, tuple | list) and bool(shape) and isinstance(shape[0], tuple | list)


def shapes_of(shape: Any) -> list[Shape]:
    """The shapes, one or several."""
    return [*shape] if is_several(shape) else [shape]


def arrays_of(x: Any) -> tuple[Array, ...]:
    """The arrays, one or several."""
    return x if isinstance(x, tuple) else (x,)


def each(f: Callable[[Any], Result], x: Any) -> Any:
    """f(x), or a tuple of f's results for several."""
    return tuple(map(f, x)) if isinstance(x, tuple) else f(x)
