"""Initial weights, drawn on the host, so that one seed gives the same weights on every backend.

`fan_in` counts the inputs that one output sums over, `fan_out` the outputs that one input reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod, sqrt
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from array_api_compat import is_numpy_array

from xcnn.core.checks import check_call, check_shape, check_whole
from xcnn.core.names import unknown
from xcnn.core.random import Planner, Typed
from xcnn.core.types import Rng, Shape
from xcnn.core.windows import COUNTABLE
from xcnn.errors import OptionError, host_memory, short

HostArray: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]
Draw = TypeVar("Draw", bound=Callable[..., HostArray])
PIECE = 2**16
"""Cells that are drawn at a time."""
Initializer: TypeAlias = Callable[[Rng, Shape, int, int], HostArray]


def sized(draw: Draw) -> Draw:
    """An initializer that is told if its shape or its fans are none."""

    @wraps(draw)
    def drawn(rng: Rng, shape: Shape, fan_in: int = 0, fan_out: int = 0) -> HostArray:
        shape = check_shape("shape", shape)
        check_cells_of(shape)
        fans = check_whole("fan_in", fan_in, least=0), check_whole("fan_out", fan_out, least=0)
        with host_memory(f"an array of {shape}"):
            return draw(rng, shape, *fans)

    return cast("Draw", drawn)


@sized
def zeros(rng: Rng, shape: Shape, fan_in: int = 0, fan_out: int = 0) -> HostArray:
    """An array of zeros: biases begin so.

    Parameters
    ----------
    rng
        a NumPy generator
    shape
        of the array
    fan_in, fan_out
        products that an output is made of, and that an input goes into; here without a part

    Examples
    --------
    >>> xcnn.initializers.zeros(np.random.default_rng(0), (2,))
    array([0., 0.])
    """
    return rng.standard_normal(shape) if isinstance(rng, Planner) else np.zeros(shape)


@sized
def ones(rng: Rng, shape: Shape, fan_in: int = 0, fan_out: int = 0) -> HostArray:
    """An array of ones: scales begin so.

    Parameters
    ----------
    rng
        a NumPy generator
    shape
        of the array
    fan_in, fan_out
        products that an output is made of, and that an input goes into; here without a part

    Examples
    --------
    >>> xcnn.initializers.ones(np.random.default_rng(0), (2,))
    array([1., 1.])
    """
    return rng.standard_normal(shape) if isinstance(rng, Planner) else np.ones(shape)


@sized
def standard_normal(rng: Rng, shape: Shape, fan_in: int = 0, fan_out: int = 0) -> HostArray:
    """The article's: mean 0, deviation 1, whatever the fans.

    Parameters
    ----------
    rng
        a NumPy generator
    shape
        of the array
    fan_in, fan_out
        products that an output is made of, and that an input goes into; here without a part

    Examples
    --------
    >>> xcnn.initializers.standard_normal(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """
    return _in_pieces(rng, shape, rng.standard_normal)


def _in_pieces(rng: Rng, shape: Shape, draw: Callable[[Any], HostArray]) -> HostArray:
    """What `draw` gives for this shape; for a type of fewer bits without a double for each cell."""
    if not isinstance(rng, Typed):
        return draw(shape)
    drawn = np.empty(shape, rng.dtype)
    cells = drawn.reshape(-1)
    for first in range(0, cells.size, PIECE):
        piece = cells[first : first + PIECE]
        piece[:] = draw(piece.shape)
    return drawn


def _normal(variance: Callable[[int, int], float]) -> Initializer:
    @sized
    def initialize(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        deviation = sqrt(variance(fan_in, fan_out))
        return _in_pieces(rng, shape, lambda some: rng.normal(0.0, deviation, some))

    return initialize


def _uniform(variance: Callable[[int, int], float]) -> Initializer:
    @sized
    def initialize(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        limit = sqrt(3 * variance(fan_in, fan_out))  # a uniform variable on +-a has variance a^2 / 3
        return _in_pieces(rng, shape, lambda some: rng.uniform(-limit, limit, some))

    return initialize


def _glorot(fan_in: int, fan_out: int) -> float:
    """Glorot and Bengio 2010, equation 12: 2 / (fan_in + fan_out)."""
    return 2 / max(fan_in + fan_out, 1)


def _he(fan_in: int, fan_out: int) -> float:
    """He et al. 2015, equation 10: 2 / fan_in, for ReLU."""
    return 2 / max(fan_in, 1)


def _lecun(fan_in: int, fan_out: int) -> float:
    """LeCun et al. 1998, "Efficient BackProp", equation 16: 1 / fan_in."""
    return 1 / max(fan_in, 1)


@sized
def orthogonal(rng: Rng, shape: Shape, fan_in: int = 0, fan_out: int = 0) -> HostArray:
    """Rows (or columns, where they are fewer) orthonormal, uniform over all such matrices: Saxe et al. 2014.

    The matrix is (shape[0], the rest), as for a kernel (out, in, h, w).

    Parameters
    ----------
    rng
        a NumPy generator
    shape
        of the array
    fan_in, fan_out
        products that an output is made of, and that an input goes into; here without a part

    Raises
    ------
    OptionError
        X104, for an array without axes.

    Examples
    --------
    >>> q = xcnn.initializers.orthogonal(np.random.default_rng(0), (2, 3))
    >>> bool(np.allclose(q @ q.T, np.eye(2)))
    True
    """
    if isinstance(rng, Planner):
        return rng.standard_normal(shape)
    if not shape:
        raise OptionError("X104", "an orthogonal matrix has at least one axis; got shape ().", hint="give it sizes.")
    rows, columns = shape[0], int(np.prod(shape[1:]))
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # the sign that makes the draw uniform: Mezzadri 2007
    return (q if rows >= columns else q.T).reshape(shape)


def constant(rng: Rng, shape: Shape, value: float) -> HostArray:
    """An array of one number, which a layer's options tell."""
    drawn = ones(rng, shape)
    return drawn if isinstance(rng, Planner) else drawn * drawn.dtype.type(value)


INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "standard_normal": standard_normal,
    "glorot_normal": _normal(_glorot),
    "glorot_uniform": _uniform(_glorot),
    "he_normal": _normal(_he),
    "he_uniform": _uniform(_he),
    "lecun_normal": _normal(_lecun),
    "lecun_uniform": _uniform(_lecun),
    "orthogonal": orthogonal,
}


def check_cells_of(shape: Shape) -> None:
    """Raise X104 where an array of this shape would have more cells than any library counts."""
    if prod(shape) >= COUNTABLE:
        told = f"an array of shape {short(tuple(shape))} has more cells than can be counted."
        raise OptionError("X104", told, hint="give smaller sizes.")


def initial(choice: str | Initializer, rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """A weight's first values, by an initializer's name or by a user's own.

    Raises
    ------
    OptionError
        X104, where a user's own gives anything else than finite real numbers of that shape.
    """
    check_cells_of(shape)
    drawn = initializer(choice)(rng, shape, fan_in, fan_out)
    if choice not in INITIALIZERS:
        found = tuple(getattr(drawn, "shape", ()))
        if not is_numpy_array(drawn) or found != tuple(shape) or drawn.dtype.kind not in "iuf":
            what = f"an array {found} of {drawn.dtype}" if is_numpy_array(drawn) else short(drawn)
            told = f"the initializer must give a NumPy array of real numbers of shape {tuple(shape)}; got {what}."
            raise OptionError("X104", told, hint="return rng.normal(0, 0.1, shape), or the like.")
        if not np.isfinite(drawn).all():
            raise OptionError("X104", f"the initializer gave NaN or infinity for the shape {tuple(shape)}.")
    return drawn.astype(rng.dtype, copy=False) if isinstance(rng, Typed) else drawn


def initializer(name: str | Initializer) -> Initializer:
    """An initializer by name; a function (rng, shape, fan_in, fan_out) -> array stands for itself.

    Parameters
    ----------
    name
        one in INITIALIZERS, or a function

    Raises
    ------
    OptionError
        X104

    Examples
    --------
    >>> xcnn.initializers.initializer("he_normal")(np.random.default_rng(0), (8, 3, 3, 3), 27, 72).shape
    (8, 3, 3, 3)
    """
    if callable(name):
        check_call(name, 4, "initializers", "(rng, shape, fan_in, fan_out)")
        return name
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise unknown("initializer", name, INITIALIZERS)
    return INITIALIZERS[name]


__all__ = [
    "INITIALIZERS",
    "Initializer",
    "initializer",
    "ones",
    "orthogonal",
    "standard_normal",
    "zeros",
]
