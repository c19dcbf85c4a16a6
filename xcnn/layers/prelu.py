"""A leak below zero that is learned: He et al. 2015."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import full, total, zeros
from xcnn.core.checks import check_between, check_input, check_shape
from xcnn.core.initializers import constant
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import axes_with_channels


@computes_in_half
@checked
@dataclass(frozen=True)
class PReLU:
    """Y = max(X, 0) + a min(X, 0), a being `negative_slope`, one for each channel.

    dX = dY where X > 0, else a dY;  da = sum(dY min(X, 0)). Takes (N, C), (N, C, L) and (N, C, H, W).

    Parameters
    ----------
    initial
        what the slopes are at first
    shared
        whether all channels have one slope, as in PyTorch's PReLU()

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

    def __post_init__(self) -> None:
        check_between("initial", self.initial, 0, float("inf"))

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        axes_with_channels(self, input_shape)
        count = 1 if self.shared else input_shape[0]
        return {"negative_slope": constant(rng, (count,), self.initial)}, input_shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        slope, names = weights["negative_slope"], axes_with_channels(self, x.shape[1:])
        xp = check_input(self, weights, x, names, None if self.shared else slope.shape[0])
        a, below = xp.reshape(slope, (-1, *(1 for _ in names[1:]))), xp.minimum(x, zeros(x, ()))
        y = xp.maximum(x, zeros(x, ())) + a * below
        made, axes = likeness(y), tuple(axis for axis in range(x.ndim) if axis != 1)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            da = xp.reshape(total(dy * below, axis=None if self.shared else axes), slope.shape)
            return dy * xp.where(x > 0, full(x, (), 1.0), a), {"negative_slope": da}

        return y, backward
