"""Zeros around each image."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import pad
from xcnn.core.checks import IMAGE, check_input, check_rank
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Pads, Pair, Rng, Shape, Weights
from xcnn.core.windows import pads
from xcnn.errors import OptionError, short
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class ZeroPadding2D:
    """Y = X with zeros around it;  dX = dY without its edges.

    (N, C, H, W) -> (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding
        cells of zeros: p, (p_height, p_width) or ((top, bottom), (left, right))

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.ZeroPadding2D((0, 2)).init(np.random.default_rng(0), (3, 28, 28))
    ({}, (3, 28, 32))
    """

    padding: int | Pair | Pads = 1

    def __post_init__(self) -> None:
        if isinstance(self.padding, str):
            raise OptionError("X104", f"padding must be a number, two, or two pairs; got {short(self.padding)}.")
        self.around()

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        c, h, w = check_rank(self, input_shape, IMAGE)
        rows, columns = self.around()
        return {}, (c, h + sum(rows), w + sum(columns))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE)
        (top, bottom), (left, right) = around = self.around()
        y = pad(x, around)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return pad(dy, ((-top, -bottom), (-left, -right))), {}

        return y, backward

    def around(self) -> Pads:
        """Zeros (top, bottom) and (left, right)."""
        return pads(self.padding, (1, 1), (1, 1), (1, 1))
