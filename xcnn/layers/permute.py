"""The axes of a sample in another order."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_home, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.core.windows import is_whole
from xcnn.errors import OptionError, ShapeError, short
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Permute:
    """Y[n, i_a, i_b, ...] = X[n, i_1, i_2, ...], a, b, ... being `axes`;  dX = dY with its axes put back.

    Parameters
    ----------
    axes
        of X, 1 to its last one, in the order that Y has them in; the batch's, 0, stays in front

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input with another number of axes.

    Examples
    --------
    >>> xcnn.Permute((2, 3, 1)).init(np.random.default_rng(0), (3, 28, 32))
    ({}, (28, 32, 3))
    """

    axes: Shape

    def __post_init__(self) -> None:
        given = self.axes
        if (
            not isinstance(given, tuple | list)
            or not all(map(is_whole, given))
            or sorted(given) != [*range(1, len(given) + 1)]
        ):
            raise OptionError("X104", f"axes must be 1 to the number of axes, each once; got {short(given)}.")

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        shape = check_shape("input_shape", input_shape)
        self.check_rank(shape)
        return {}, tuple(shape[axis - 1] for axis in self.axes)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        self.check_rank(x.shape[1:])
        xp, order = namespace(x), (0, *self.axes)
        back = tuple(order.index(axis) for axis in range(len(order)))
        y = xp.permute_dims(x, order)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return xp.permute_dims(dy, back), {}

        return y, backward

    def check_rank(self, shape: Shape) -> None:
        """Raise X101 unless a sample has as many axes as are named."""
        if len(shape) != len(self.axes):
            raise ShapeError(
                "X101", f"orders {len(self.axes)} axes but gets samples of shape {tuple(shape)}.", layer=self
            )
