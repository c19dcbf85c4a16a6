"""Initial weights, drawn on the host, so that one seed gives the same weights on every backend.

`fan_in` counts the inputs that one output sums over, `fan_out` the outputs that one input reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from xcnn.core.random import Planner
from xcnn.core.types import Rng, Shape
from xcnn.errors import OptionError

HostArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Initializer: TypeAlias = Callable[[Rng, Shape, int, int], HostArray]


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
    """
    return rng.standard_normal(shape) if isinstance(rng, Planner) else np.zeros(shape)


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
    """
    return rng.standard_normal(shape) if isinstance(rng, Planner) else np.ones(shape)


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
    """
    return rng.standard_normal(shape)


def _normal(variance: Callable[[int, int], float]) -> Initializer:
    def initialize(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        return rng.normal(0.0, sqrt(variance(fan_in, fan_out)), shape)

    return initialize


def _uniform(variance: Callable[[int, int], float]) -> Initializer:
    def initialize(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        limit = sqrt(3 * variance(fan_in, fan_out))  # a uniform variable on +-a has variance a^2 / 3
        return rng.uniform(-limit, limit, shape)

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
    """
    if isinstance(rng, Planner):
        return rng.standard_normal(shape)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # the sign that makes the draw uniform: Mezzadri 2007
    return (q if rows >= columns else q.T).reshape(shape)


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
    """
    if callable(name):
        return name
    if name not in INITIALIZERS:
        raise OptionError(
            "X104", f"there is no initializer {name!r}.", hint="use one of " + ", ".join(INITIALIZERS) + "."
        )
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
