"""Scores into probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_axes, check_axis, check_home, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import wide
from xcnn.layers.layer import Run


@checked
@dataclass(frozen=True)
class Softmax:
    """Y = exp(X) / sum(exp(X)) along `axis`, by default the classes' or channels';  dX = Y (dY - sum(dY Y)).

    The maximum is taken off X first, which changes nothing but keeps exp from overflowing.

    Parameters
    ----------
    axis
        along which Y sums to 1, the batch's being 0

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input without this axis.

    Examples
    --------
    >>> xcnn.Model(xcnn.Softmax(), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[0.04, 0.11, 0.84]], dtype=float32)
    """

    axis: int = 1

    def __post_init__(self) -> None:
        check_axes(self, self.axis)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        check_axis(self, self.axis, len(input_shape) + 1)
        return {}, input_shape

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        xp, axis = namespace(x), check_axis(self, self.axis, x.ndim)
        largest = xp.max(x, axis=axis, keepdims=True) if x.shape[axis] else x  # nothing has no maximum
        powers = xp.exp(x - largest)
        y = powers / xp.sum(powers, axis=axis, keepdims=True)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return y * (dy - xp.sum(dy * y, axis=axis, keepdims=True)), {}

        return y, backward
