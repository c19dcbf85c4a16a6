"""Dropout, Srivastava et al. 2014: cells, whole channels or whole samples are left out at random in training."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import IMAGE, check_between, check_home, check_rank, check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.tracing import behind, floor
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Dropout:
    """Y = M X / (1 - rate),  dX = M dY / (1 - rate), M being 0 with probability `rate`, else 1. Y = X outside training.

    M follows from `run.key` and each cell's number in its batch alone, so it is the same on every backend.

    Parameters
    ----------
    rate
        the share of cells that are dropped, at least 0 and below 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> run = xcnn.Run(xcnn.backend("numpy"), train=True, key=(0, 1))
    >>> xcnn.Dropout(0.5)({}, np.ones((1, 8)), run)[0]
    array([[2., 2., 0., 2., 2., 2., 0., 0.]])
    """

    rate: float

    def __post_init__(self) -> None:
        check_between("rate", self.rate, 0, 1)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, check_shape("input_shape", input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x, run.backend)
        shape, drops = self.mask_shape(x.shape), run.train and behind(self.rate) > 0
        if drops:
            bits = run.random_bits(shape)
            xp = namespace(x)
            mask = xp.astype(bits >= floor(xp, self.rate, 2**32), x.dtype) / (1 - self.rate)
        y = x * mask if drops else x
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return dy * mask if drops else dy, {}

        return y, backward

    def mask_shape(self, x_shape: Shape) -> Shape:
        """One for each cell."""
        return tuple(x_shape)


@computes_in_half
@checked
@dataclass(frozen=True)
class SpatialDropout2D(Dropout):
    """Dropout of whole channels, (N, C, H, W): M is (N, C, 1, 1). Tompson et al. 2015.

    Parameters
    ----------
    rate
        the share of channels that are dropped, at least 0 and below 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> run = xcnn.Run(xcnn.backend("numpy"), train=True, key=(0, 3))
    >>> xcnn.SpatialDropout2D(0.5)({}, np.ones((1, 4, 1, 2)), run)[0].tolist()
    [[[[0.0, 0.0]], [[2.0, 2.0]], [[2.0, 2.0]], [[0.0, 0.0]]]]
    """

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, check_rank(self, input_shape, IMAGE)

    def mask_shape(self, x_shape: Shape) -> Shape:
        """One for each channel of each image."""
        check_rank(self, x_shape[1:], IMAGE)
        return (*x_shape[:2], 1, 1)


@computes_in_half
@checked
@dataclass(frozen=True)
class StochasticDepth(Dropout):
    """Dropout of whole samples: M is one number for each. Huang et al. 2016.

    The last layer of a Residual's own: the block is then left out for some samples, which pass by its shortcut.

    Parameters
    ----------
    rate
        the share of samples that are dropped, at least 0 and below 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> run = xcnn.Run(xcnn.backend("numpy"), train=True, key=(0, 3))
    >>> xcnn.StochasticDepth(0.5)({}, np.ones((4, 2)), run)[0].tolist()
    [[0.0, 0.0], [2.0, 2.0], [2.0, 2.0], [0.0, 0.0]]
    """

    def mask_shape(self, x_shape: Shape) -> Shape:
        """One for each sample."""
        return (*x_shape[:1], *(1 for _ in x_shape[1:]))
