"""Convolution by standardised kernels: Qiao et al. 2019."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_positive
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Weights
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import standardise, standardise_backward

AXES = (1, 2, 3)
"""Of a kernel, all but its filters'."""


@checked
@dataclass(frozen=True)
class StandardizedConv2D(Conv2D):
    """Y = B + X * K_hat,  K_hat = (K - mean) / sqrt(variance + epsilon), for each filter.

    dK_hat = X * dY as in Conv2D, and dK from it by standardise_backward. The kernel that is kept is K. It is a layer of
    its own and no option of Conv2D, so that what is fused and exported of a Conv2D is one.

    Parameters
    ----------
    filters
        channels of Y
    kernel_size
        height and width, one number for both
    stride
        cells from a window to the next, down and across
    padding
        cells of zeros around X: "valid" none, "same" as many as give H' = ceil(H / stride), "full" as many as make
        every overlap count; or p, (p_height, p_width), ((top, bottom), (left, right)) of them
    dilation
        cells from a tap of the kernel to the next; 1 leaves no gaps
    groups
        channels and filters are split into so many parts, each for itself
    bias
        True (one for each filter), False, or "untied" (the article's: one for each output element)
    kernel_initializer
        how the kernel is drawn: a name in xcnn.initializers.INITIALIZERS, such as "he_normal", or a function (rng,
        shape, fan_in, fan_out) -> array
    epsilon
        what is added to the variance

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the kernel does not fit into it.

    Examples
    --------
    >>> xcnn.StandardizedConv2D(8, 3, padding="same").init(np.random.default_rng(0), (1, 28, 28))[1]
    (8, 28, 28)
    """

    _: KW_ONLY
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("epsilon", self.epsilon)

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = namespace(weights["kernel"])
        kernel, inverse = standardise(xp, weights["kernel"], AXES, self.epsilon)
        y, plain_backward = super().__call__({**weights, "kernel": kernel}, x, run)

        def backward(dy: Array) -> tuple[Array, Weights]:
            dx, grads = plain_backward(dy)
            dkernel = standardise_backward(xp, grads["kernel"], kernel, inverse, AXES)
            return dx, {**grads, "kernel": dkernel}

        return y, backward
