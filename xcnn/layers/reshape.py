"""Another shape for the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_batch, check_home, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.core.windows import is_whole
from xcnn.errors import OptionError, ShapeError, counted, short
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Reshape:
    """(N, ...) -> (N, *target_shape): Y = X and dX = dY, reshaped. One size may be -1: what the others leave.

    Parameters
    ----------
    target_shape
        of one sample, without the batch axis

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, where X has another number of cells.

    Examples
    --------
    >>> xcnn.Reshape((4, -1)).init(np.random.default_rng(0), (2, 3, 4))
    ({}, (4, 6))
    """

    target_shape: Shape

    def __post_init__(self) -> None:
        sizes = self.target_shape
        if not isinstance(sizes, tuple | list) or not all(is_whole(n) and (n > 0 or n == -1) for n in sizes):
            raise OptionError("X104", f"target_shape must be sizes of at least 1, or -1; got {short(sizes)}.")
        if sizes.count(-1) > 1:
            raise OptionError("X104", f"only one size of target_shape can be -1; got {short(sizes)}.")

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, self.resolved(check_shape("input_shape", input_shape))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        check_batch(self, x)
        xp, shape = namespace(x), x.shape
        y = xp.reshape(x, (shape[0], *self.resolved(shape[1:])))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return xp.reshape(dy, shape), {}

        return y, backward

    def resolved(self, input_shape: Shape) -> Shape:
        """The target's shape for samples of this shape, its -1 found.

        Raises
        ------
        ShapeError
            X101, when the cells are too many or too few.
        """
        cells, given = prod(input_shape), prod(n for n in self.target_shape if n != -1)
        target = tuple(cells // given if n == -1 else n for n in self.target_shape)
        if prod(target) != cells:
            raise ShapeError(
                "X101",
                f"can't make {tuple(self.target_shape)} of {tuple(input_shape)}.",
                f"got {counted(cells, 'cell')} for each sample, the target takes {given}"
                + " times -1" * (-1 in self.target_shape),
                layer=self,
            )
        return target
