"""Images without their edges."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import pad
from xcnn.core.checks import IMAGE, check_input, check_rank
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Pads, Pair, Rng, Shape, Weights
from xcnn.core.windows import pads
from xcnn.errors import OptionError, ShapeError, short
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Cropping2D:
    """Y = X without its edges;  dX = dY with zeros around it.

    (N, C, H, W) -> (N, C, H - top - bottom, W - left - right).

    Parameters
    ----------
    cropping
        cells to leave out: p, (p_height, p_width) or ((top, bottom), (left, right))

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where nothing would be left.

    Examples
    --------
    >>> xcnn.Cropping2D(((1, 2), (0, 3))).init(np.random.default_rng(0), (3, 28, 28))
    ({}, (3, 25, 25))
    """

    cropping: int | Pair | Pads = 1

    def __post_init__(self) -> None:
        if isinstance(self.cropping, str):
            raise OptionError("X104", f"cropping must be a number, two, or two pairs; got {short(self.cropping)}.")
        self.edges()

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        c, h, w = check_rank(self, input_shape, IMAGE)
        return {}, (c, *self.left(h, w))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE)
        (top, bottom), (left, right) = edges = self.edges()
        self.left(*x.shape[2:])
        y = pad(x, ((-top, -bottom), (-left, -right)))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return pad(dy, edges), {}

        return y, backward

    def edges(self) -> Pads:
        """Cells left out (top, bottom) and (left, right)."""
        try:
            return pads(self.cropping, (1, 1), (1, 1), (1, 1))
        except OptionError as error:
            error.message = error.message.replace("padding", "cropping")
            raise

    def left(self, h: int, w: int) -> Pair:
        """H' and W'; raises X102 where there are none."""
        rows, columns = (n - sum(edge) for n, edge in zip((h, w), self.edges(), strict=True))
        if min(rows, columns) < 1:
            raise ShapeError(
                "X102",
                f"leaves nothing of an input of {h}x{w}.",
                f"output = input - cropping = {rows}x{columns}",
                hint="crop less.",
                layer=self,
            )
        return rows, columns
