"""What a gradient must be like: its output, in all but its numbers.

A gradient of another shape may broadcast, one of another type makes all that it meets wider, and one of another
library fails deep inside or is copied in silence. So each backward checks dy against its y, of which it keeps no more
than the likeness.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from xcnn.core.arrays import check_array, known_namespace, namespace
from xcnn.core.checks import IMAGE, SIGNAL, VECTOR, home, home_of
from xcnn.core.types import Array, Shape
from xcnn.errors import BackendError, DTypeError, ShapeError, XcnnError

Likeness: TypeAlias = tuple[type, Shape, Any, Any]
"""An array without its numbers: its class, shape, type and device, None where the library does not tell."""


def likeness(y: Array) -> Likeness:
    """What an array is like. It keeps nothing of its memory."""
    try:
        return type(y), y.shape, y.dtype, getattr(y, "device", None)
    except AttributeError:
        check_array(y, "y")
        raise


def check_dy(layer: object, y: Likeness, dy: Array) -> None:
    """Raise unless the gradient is like the output that it belongs to.

    Parameters
    ----------
    layer
        who is told of it
    y
        the output's likeness
    dy
        its gradient

    Raises
    ------
    BackendError
        X301, where it is of another library, or on another device.
    ShapeError
        X101, where it has another shape.
    DTypeError
        X103, where it is no array, or has another type.
    """
    if type(dy) is not y[0] or likeness(dy) != y:
        refuse(layer, y, dy, "a gradient", "its output")


def is_like(y: Likeness, dy: Any) -> bool:
    """Whether `check_dy` would take it."""
    try:
        check_dy(None, y, dy)
    except XcnnError:
        return False
    return True


def of_part(part: Likeness, dy: Array) -> Array:
    """The gradient of one part of a sum, or of what is joined: in its type, where the library made the whole wider."""
    return dy if dy.dtype is part[2] or dy.dtype == part[2] else namespace(dy).astype(dy, part[2])


def refuse(layer: object, y: Likeness, dy: Any, what: str, of: str) -> None:
    """Raise in what it is unlike y. Nothing is left of some: a tracer, or an array of a derived class."""
    check_array(dy, "dy")
    kind, shape, dtype, device = y
    there, where = known_namespace(kind) or namespace(dy), getattr(dy, "device", None)
    if namespace(dy) is not there or (where != device and None not in (where, device)):
        raise BackendError(
            "X301",
            f"got {what} on {home(dy)}, {of} was on {home_of(there, device)}.",
            hint="dy = backend.asarray(dy), of the backend that the layer ran on.",
            layer=layer,
        )
    if tuple(dy.shape) != tuple(shape):
        raise ShapeError(
            "X101",
            f"got {what} that is not shaped like {of}.",
            f"got {named(dy.shape)}, {of.replace('its', 'the')} was {named(shape)}",
            hint="it comes from the loss, or from the layer behind.",
            layer=layer,
        )
    if dy.dtype != dtype:
        raise DTypeError(
            "X103",
            f"got {what} of {dy.dtype}, {of} was {dtype}.",
            hint=f"convert it to {dtype}.",
            layer=layer,
        )


AXES = (), ("batch",), ("batch", *VECTOR), ("batch", *SIGNAL), ("batch", *IMAGE)


def named(shape: Shape) -> str:
    """A batch's shape with its axes named, where there are names for so many."""
    names = f" = ({', '.join(AXES[len(shape)])})" if 0 < len(shape) < len(AXES) else ""
    return f"{tuple(shape)}{names}"
