"""A leak below zero that is learned: He et al. 2015."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import full, total, zeros
from xcnn.core.checks import check_between, check_input, check_shape
from xcnn.core.initializers import constant
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import axes_with_channels


@computes_in_half
@checked
@dataclass(frozen=True)
class PReLU:
    """Y = max(X, 0) + a min(X, 0), a being `negative_slope`, one for each channel, for all, or for each cell.

    dX = dY where X > 0, else a dY;  da = sum(dY min(X, 0)). Takes (N, C), (N, C, L) and (N, C, H, W).

    Parameters
    ----------
    initial
        what the slopes are at first
    shared
        whether all channels have one slope, as in PyTorch's PReLU()
    untied
        whether each cell of a sample has a slope of its own, as in Keras's PReLU()

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.Model(xcnn.PReLU(initial=0.1), (3,), loss="mse").predict(np.array([[-1.0, 0, 2]])).round(2)
    array([[-0.1,  0. ,  2. ]], dtype=float32)
    """

    _: KW_ONLY
    initial: float = 0.25
    shared: bool = False
    untied: bool = False

    def __post_init__(self) -> None:
        check_between("initial", self.initial, 0, float("inf"))
        if self.shared and self.untied:
            raise OptionError("X104", "shared is one slope for all channels, untied one for each cell; choose one.")

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        axes_with_channels(self, input_shape)
        shape = input_shape if self.untied else (1,) if self.shared else input_shape[:1]
        return {"negative_slope": constant(rng, shape, self.initial)}, input_shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        slope, names = weights["negative_slope"], axes_with_channels(self, x.shape[1:])
        xp = check_input(self, weights, x, names, None if self.shared else slope.shape[0])
        if self.untied and tuple(x.shape[1:]) != tuple(slope.shape):
            raise ShapeError(
                "X101",
                f"has a slope for each cell of {tuple(slope.shape)} but is given {tuple(x.shape[1:])}.",
                hint="resize the images to those that the model was built for, or leave untied out.",
                layer=self,
            )
        a = slope if self.untied else xp.reshape(slope, (-1, *(1 for _ in names[1:])))
        below = xp.minimum(x, zeros(x, ()))
        y = xp.maximum(x, zeros(x, ())) + a * below
        made, others = likeness(y), tuple(axis for axis in range(x.ndim) if axis != 1)
        axes = (0,) if self.untied else None if self.shared else others

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            da = xp.reshape(total(dy * below, axis=axes), slope.shape)
            return dy * xp.where(x > 0, full(x, (), 1.0), a), {"negative_slope": da}

        return y, backward
