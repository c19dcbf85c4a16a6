"""All axes of a sample in one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_batch, check_home, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Flatten:
    """(N, ...) -> (N, features): Y = X and dX = dY, reshaped.

    Raises
    ------
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.Flatten().init(np.random.default_rng(0), (8, 7, 7))
    ({}, (392,))
    """

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, (prod(check_shape("input_shape", input_shape)),)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        check_batch(self, x)
        xp = namespace(x)
        shape, y = x.shape, xp.reshape(x, (x.shape[0], prod(x.shape[1:])))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return xp.reshape(dy, shape), {}

        return y, backward
