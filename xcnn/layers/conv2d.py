"""Two-dimensional convolution: the article's three correlations, in batches."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from xcnn.core.checks import (
    IMAGE,
    check_cells,
    check_groups,
    check_input,
    check_rank,
    check_whole,
)
from xcnn.core.initializers import Initializer, initial, initializer
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Bias, InitializerName, Padding, Pair, Rng, Shape, Weights
from xcnn.core.windows import pads, pair, positions, within
from xcnn.layers.bias import Biased
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Conv2D(Biased):
    """Y = B + X * K.   dK = X * dY,  dX = dY full-convolved with K,  dB = dY (summed where it is shared).

    (N, C, H, W) -> (N, filters, H', W'), * being the valid cross-correlation of the padded image.

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

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the kernel does not fit into it.

    Examples
    --------
    >>> weights, output_shape = xcnn.Conv2D(8, 3, padding="same").init(np.random.default_rng(0), (1, 28, 28))
    >>> weights["kernel"].shape, output_shape
    ((8, 1, 3, 3), (8, 28, 28))
    """

    filters: int
    kernel_size: int | Pair
    _: KW_ONLY
    stride: int | Pair = 1
    padding: Padding = "valid"
    dilation: int | Pair = 1
    groups: int = 1
    bias: Bias = True
    kernel_initializer: InitializerName | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        check_whole("filters", self.filters)
        check_groups(self, self.groups, self.filters, "filters")
        self.window((1, 1))
        self.check_bias()
        initializer(self.kernel_initializer)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        channels, *sizes = check_rank(self, input_shape, IMAGE)
        check_cells(self, input_shape)
        check_groups(self, self.groups, channels, "channels")
        h, w = kernel_size = pair("kernel_size", self.kernel_size)
        output = (self.filters, *positions(self, tuple(sizes), kernel_size, **self.window(tuple(sizes))))
        shape = (self.filters, channels // self.groups, h, w)
        fans = shape[1] * h * w, self.filters // self.groups * h * w
        return {
            "kernel": initial(self.kernel_initializer, rng, shape, *fans),
            **self.init_bias(rng, output),
        }, output

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        kernel, backend = weights["kernel"], run.backend
        check_input(self, weights, x, IMAGE, kernel.shape[1] * self.groups)
        check_cells(self, x.shape[1:])
        how = self.window(x.shape[2:])
        positions(self, x.shape[2:], kernel.shape[2:], **how)
        how["groups"] = self.groups
        y = self.add_bias(weights, backend.correlate(x, kernel, **how))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dkernel = backend.correlate_kernel_adjoint(x, dy, kernel.shape, **how)
            dx = backend.correlate_input_adjoint(dy, kernel, x.shape, **how) if run.wants_dx else None
            return dx, {"kernel": dkernel, **self.bias_gradient(dy)}

        return y, backward

    def window(self, sizes: Shape) -> dict[str, Any]:
        """Stride, padding and dilation for an image of these sizes, as the primitives take them."""
        stride, dilation = pair("stride", self.stride), pair("dilation", self.dilation)
        around = pads(self.padding, sizes, pair("kernel_size", self.kernel_size), stride, dilation)
        return {"stride": within(stride, sizes, around), "padding": around, "dilation": dilation}
