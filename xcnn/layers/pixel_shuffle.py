"""Channels laid out as pixels: Shi et al. 2016."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.checks import IMAGE, check_input, check_rank, check_whole
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import ShapeError
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class PixelShuffle:
    """(N, C r^2, H, W) -> (N, C, H r, W r): Y = X and dX = dY, the r^2 channels of each being r x r pixels.

    Parameters
    ----------
    factor
        r, rows and columns for each one of X

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.PixelShuffle(2).init(np.random.default_rng(0), (12, 14, 14))
    ({}, (3, 28, 28))
    """

    factor: int = 2

    def __post_init__(self) -> None:
        check_whole("factor", self.factor)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, self.output_shape(check_rank(self, input_shape, IMAGE))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = check_input(self, weights, x, IMAGE)
        (n, _, h, w), r, output = x.shape, self.factor, self.output_shape(x.shape[1:])
        y = xp.reshape(x, (n, output[0], r, r, h, w))
        y = xp.reshape(xp.permute_dims(y, (0, 1, 4, 2, 5, 3)), (n, *output))
        made, x_shape = likeness(y), x.shape

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dx = xp.permute_dims(xp.reshape(dy, (n, output[0], h, r, w, r)), (0, 1, 3, 5, 2, 4))
            return xp.reshape(dx, x_shape), {}

        return y, backward

    def output_shape(self, shape: Shape) -> Shape:
        """C, H r and W r; raises X101 where the channels are no multiple of r^2."""
        (channels, h, w), r = shape, self.factor
        if channels % r**2:
            raise ShapeError(
                "X101",
                f"makes {r}x{r} pixels of {r**2} channels, which do not divide {channels}.",
                f"got {tuple(shape)} for each sample",
                hint=f"let the layer before it have {(channels // r**2 + 1) * r**2} filters.",
                layer=self,
            )
        return channels // r**2, h * r, w * r
