"""A part of an axis."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import namespace, zeros
from xcnn.core.checks import check_axes, check_axis, check_home, check_shape, check_whole
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
class Slice:
    """Y = X[:, ..., start:stop:step, ...] along one axis;  dX = dY there, and 0 in the cells that are left out.

    Parameters
    ----------
    start, stop
        the first cell, and that before which it ends, counted from the end where they are negative, as in Python;
        None is the axis's end
    axis
        that is cut, the batch's being 0
    step
        cells from one that is taken to the next

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input without this axis, or one of which nothing would be left.

    Examples
    --------
    >>> xcnn.Slice(0, 4).init(np.random.default_rng(0), (6, 28, 28))
    ({}, (4, 28, 28))
    """

    start: int = 0
    stop: int | None = None
    _: KW_ONLY
    axis: int = 1
    step: int = 1

    def __post_init__(self) -> None:
        if not is_whole(self.start) or not (self.stop is None or is_whole(self.stop)):
            raise OptionError(
                "X104", f"start and stop must be whole numbers; got {short(self.start)}, {short(self.stop)}."
            )
        check_axes(self, self.axis)
        check_whole("step", self.step)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        shape = check_shape("input_shape", input_shape)
        axis, cells = self.cells(tuple(shape))
        return {}, (*shape[: axis - 1], len(cells), *shape[axis:])

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        axis, cells = self.cells(tuple(x.shape[1:]))
        xp, size, before = namespace(x), x.shape[axis], (slice(None),) * axis
        y = x[(*before, slice(cells.start, cells.stop, cells.step), ...)]
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            shape = tuple(dy.shape)

            def empty(count: int) -> Array:
                return zeros(dy, (*shape[:axis], count, *shape[axis + 1 :]))

            spread = dy
            if self.step > 1:  # each cell with those behind it that are left out, as a further axis
                wide = xp.expand_dims(dy, axis=axis + 1)
                gap = zeros(dy, (*shape[: axis + 1], self.step - 1, *shape[axis + 1 :]))
                spread = xp.reshape(
                    xp.concat((wide, gap), axis=axis + 1),
                    (*shape[:axis], len(cells) * self.step, *shape[axis + 1 :]),
                )
                spread = spread[(*before, slice(0, size - cells.start), ...)]
            rest = size - cells.start - spread.shape[axis]
            return xp.concat((empty(cells.start), spread, empty(rest)), axis=axis), {}

        return y, backward

    def cells(self, shape: Shape) -> tuple[int, range]:
        """The axis, and the cells of it that are taken from samples of this shape."""
        axis = check_axis(self, self.axis, len(shape) + 1)
        cells = range(*slice(self.start, self.stop, self.step).indices(shape[axis - 1]))
        if not cells:
            raise ShapeError("X101", f"leaves nothing of axis {axis} of samples of shape {shape}.", layer=self)
        return axis, cells
