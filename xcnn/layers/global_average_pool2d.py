"""The mean of each channel."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.checks import IMAGE, check_cells, check_input, check_rank
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import wide
from xcnn.layers.layer import Run


@checked
@dataclass(frozen=True)
class GlobalAveragePool2D:
    """Y = mean of X over height and width, (N, C, H, W) -> (N, C);  dX = dY / (H W) in every cell.

    Raises
    ------
    ShapeError
        X101, for an input that is not (N, C, H, W).

    Examples
    --------
    >>> xcnn.GlobalAveragePool2D().init(np.random.default_rng(0), (8, 7, 7))
    ({}, (8,))
    """

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        check_cells(self, check_rank(self, input_shape, IMAGE))
        return {}, tuple(input_shape[:1])

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = check_input(self, weights, x, IMAGE)
        check_cells(self, x.shape[1:])
        (n, c, h, w), y = x.shape, xp.mean(x, axis=(2, 3))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return xp.broadcast_to(xp.reshape(dy / (h * w), (n, c, 1, 1)), (n, c, h, w)), {}

        return y, backward
