"""The largest cell of each channel."""

from __future__ import annotations

from dataclasses import dataclass

from array_api_compat import device

from xcnn.core.arrays import full
from xcnn.core.checks import IMAGE, check_cells, check_input, check_rank
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class GlobalMaxPool2D:
    """Y = max of X over height and width, (N, C, H, W) -> (N, C);  dX = dY where the first maximum stood, else 0.

    NaN is larger than all numbers, as in MaxPool2D.

    Raises
    ------
    ShapeError
        X101, for an input that is not (N, C, H, W).

    Examples
    --------
    >>> xcnn.GlobalMaxPool2D().init(np.random.default_rng(0), (8, 7, 7))
    ({}, (8,))
    """

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        check_cells(self, check_rank(self, input_shape, IMAGE))
        return {}, tuple(input_shape[:1])

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = check_input(self, weights, x, IMAGE)
        check_cells(self, x.shape[1:])
        n, c, h, w = shape = x.shape
        cells = xp.reshape(x, (n, c, h * w))
        y, which = xp.max(cells, axis=2), xp.argmax(cells, axis=2, keepdims=True)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            here = xp.arange(h * w, dtype=which.dtype, device=device(which)) == which
            return xp.reshape(xp.where(here, xp.expand_dims(dy, axis=2), full(dy, (), 0.0)), shape), {}

        return y, backward
