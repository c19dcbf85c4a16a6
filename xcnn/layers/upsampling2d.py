"""Larger images: each cell repeated, or lines drawn between the cells."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.checks import IMAGE, check_choice, check_input, check_rank
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import INTERPOLATIONS, Array, Backward, Interpolation, Pair, Rng, Shape, Weights
from xcnn.core.windows import pair
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.separable import lines, numbers


@checked
@dataclass(frozen=True)
class UpSampling2D:
    """Y = A X Bᵀ, (N, C, H, W) -> (N, C, H s, W t);  dX = Aᵀ dY B. A and B interpolate between rows and columns.

    "nearest" repeats each cell; "bilinear" takes cells as points at their centres and holds the outermost to the edge,
    as Keras does, and PyTorch with align_corners=False.

    Parameters
    ----------
    size
        s and t, rows and columns for each one of X; one number for both
    interpolation
        "nearest" or "bilinear"

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.UpSampling2D(2).init(np.random.default_rng(0), (3, 14, 14))
    ({}, (3, 28, 28))
    """

    size: int | Pair = 2
    interpolation: Interpolation = "nearest"

    def __post_init__(self) -> None:
        pair("size", self.size)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        c, h, w = check_rank(self, input_shape, IMAGE)
        s, t = pair("size", self.size)
        return {}, (c, h * s, w * t)

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = check_input(self, weights, x, IMAGE)
        (n, c, h, w), (s, t) = x.shape, pair("size", self.size)
        if self.interpolation == "bilinear":
            a, b = self.matrices(x, h, w)
            y = a @ x @ b.T
        else:
            y = xp.broadcast_to(xp.reshape(x, (n, c, h, 1, w, 1)), (n, c, h, s, w, t))
            y = xp.reshape(y, (n, c, h * s, w * t))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            if self.interpolation == "bilinear":
                return a.T @ dy @ b, {}
            return xp.sum(xp.reshape(dy, (n, c, h, s, w, t)), axis=(3, 5)), {}

        return y, backward

    def matrices(self, like: Array, h: int, w: int) -> tuple[Array, Array]:
        """A and B of "bilinear" for images of h x w cells."""
        s, t = pair("size", self.size)
        return tents(like, h, s), tents(like, w, t)


def tents(like: Array, cells: int, size: int) -> Array:
    """The matrix (cells size, cells) of linear interpolation at p[i] = (i + 1/2) / size - 1/2.

    That is where the i-th new cell lies among the old ones; it is counted in whole halves of new cells.
    """
    return lines(like, 2 * numbers(like, cells * size) + (1 - size), 2 * size, cells)
