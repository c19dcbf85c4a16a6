"""The mean of windows that are as many as one asks for."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import IMAGE, check_cells, check_input, check_rank
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Pair, Rng, Shape, Weights
from xcnn.core.windows import pair
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.separable import mapped, wholes


@checked
@dataclass(frozen=True)
class AdaptiveAveragePool2D:
    """Y = A X B^T, the mean of each window, (N, C, H, W) -> (N, C, H', W');  dX = A^T dY B.

    The i-th of H' windows has the rows from floor(i H / H') to before ceil((i + 1) H / H'), as in PyTorch: where H'
    does not divide H, they overlap. `AdaptiveAveragePool2D(1)` is GlobalAveragePool2D that leaves (N, C, 1, 1).

    Parameters
    ----------
    output_size
        H' and W', one number for both

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.AdaptiveAveragePool2D(7).init(np.random.default_rng(0), (8, 30, 40))
    ({}, (8, 7, 7))
    """

    output_size: int | Pair

    def __post_init__(self) -> None:
        pair("output_size", self.output_size)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        c, _, _ = check_rank(self, input_shape, IMAGE)
        check_cells(self, input_shape)
        return {}, (c, *pair("output_size", self.output_size))

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE, backend=run.backend)
        check_cells(self, x.shape[1:])
        return mapped(self, x, *self.matrices(x, *x.shape[2:]))

    def matrices(self, like: Array, h: int, w: int) -> tuple[Array, Array]:
        """A and B for images of h x w cells."""
        rows, columns = pair("output_size", self.output_size)
        return means(like, h, rows), means(like, w, columns)


def means(like: Array, cells: int, windows: int) -> Array:
    """The matrix (windows, cells) that takes the mean of each window."""
    xp, n, places = namespace(like), wholes(like, windows), wholes(like, cells)
    first, end = (xp.expand_dims(edge, axis=1) for edge in (n * cells // windows, -(-(n + 1) * cells // windows)))
    within = xp.astype((places >= first) & (places < end), like.dtype)
    return within / xp.astype(end - first, like.dtype)
