"""Depthwise convolution: each channel has kernels of its own."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.checks import IMAGE, check_cells, check_rank, check_whole, on_behalf_of
from xcnn.core.initializers import Initializer
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Bias, InitializerName, Padding, Pair, Rng, Shape, Weights
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class DepthwiseConv2D:
    """Y[c m + j] = B[c m + j] + X[c] * K[c m + j] for j < m, the depth multiplier: Conv2D with one group a channel.

    (N, C, H, W) -> (N, C m, H', W'); K is (C m, 1, h, w).

    Parameters
    ----------
    kernel_size
        height and width, one number for both
    depth_multiplier
        m, filters for each channel
    stride
        cells from a window to the next, down and across
    padding
        cells of zeros around X: "valid" none, "same" as many as give H' = ceil(H / stride), "full" as many as make
        every overlap count; or p, (p_height, p_width), ((top, bottom), (left, right)) of them
    dilation
        cells from a tap of the kernel to the next; 1 leaves no gaps
    bias
        True (one for each filter), False, or "untied" (the article's: one for each output element)
    kernel_initializer
        how the kernel is drawn: a name in xcnn.initializers.INITIALIZERS, such as "he_normal", or a function (rng,
        shape, fan_in, fan_out) -> array

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the window does not fit into it.

    Examples
    --------
    >>> xcnn.DepthwiseConv2D(3, depth_multiplier=2, padding="same").init(np.random.default_rng(0), (4, 28, 28))[1]
    (8, 28, 28)
    """

    kernel_size: int | Pair
    _: KW_ONLY
    depth_multiplier: int = 1
    stride: int | Pair = 1
    padding: Padding = "valid"
    dilation: int | Pair = 1
    bias: Bias = True
    kernel_initializer: InitializerName | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        check_whole("depth_multiplier", self.depth_multiplier)
        self.conv2d(1)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        channels = check_rank(self, input_shape, IMAGE)[0]
        check_cells(self, input_shape)
        with on_behalf_of(self):
            return self.conv2d(channels).init(rng, input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        channels = weights["kernel"].shape[0] // self.depth_multiplier
        with on_behalf_of(self):
            y, conv2d_backward = self.conv2d(channels)(weights, x, run)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return conv2d_backward(dy)

        return y, backward

    def conv2d(self, channels: int) -> Conv2D:
        """The Conv2D that this is, for so many channels."""
        return Conv2D(
            channels * self.depth_multiplier,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=channels,
            bias=self.bias,
            kernel_initializer=self.kernel_initializer,
        )
