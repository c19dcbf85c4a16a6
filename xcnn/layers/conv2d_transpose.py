"""Transposed convolution: Conv2D with its forward pass and its input's gradient exchanged."""

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
from xcnn.core.windows import extent, pads, pair, within
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.bias import Biased
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Conv2DTranspose(Biased):
    """Y = B + X, spread by the stride, full-convolved with K.   dX = dY * K,  dK = dY * X,  dB = dY (summed if shared).

    (N, C, H, W) -> (N, filters, H', W'); K is (C, filters / groups, h, w), as in PyTorch. Options are those of the
    Conv2D that leads back from Y to X, so `padding` takes cells away:

    H' = (H - 1) stride + extent - padding + output_padding, and "same" gives H' = H stride, as in Keras.

    Parameters
    ----------
    filters
        channels of Y
    kernel_size
        height and width, one number for both
    stride
        cells from a cell of X to the next in Y, down and across
    padding
        cells that are taken away around Y: "valid" none, "same" as many as give H' = H stride, "full" an extent less 1
        on each side; or p, (p_height, p_width), ((top, bottom), (left, right)) of them
    output_padding
        rows and columns more, fewer than the stride: picks among the sizes that this Conv2D would shrink to H
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
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.Conv2DTranspose(4, 3, stride=2, padding="same").init(np.random.default_rng(0), (8, 14, 14))[1]
    (4, 28, 28)
    """

    filters: int
    kernel_size: int | Pair
    _: KW_ONLY
    stride: int | Pair = 1
    padding: Padding = "valid"
    output_padding: int | Pair = 0
    dilation: int | Pair = 1
    groups: int = 1
    bias: Bias = True
    kernel_initializer: InitializerName | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        check_whole("filters", self.filters)
        check_groups(self, self.groups, self.filters, "filters")
        extra, stride = pair("output_padding", self.output_padding, least=0), pair("stride", self.stride)
        if extra[0] >= stride[0] or extra[1] >= stride[1] or (self.padding == "same" and extra != (0, 0)):
            raise OptionError("X104", f'output_padding must be below the stride, and 0 for "same"; got {extra}.')
        self.window((1, 1))
        self.check_bias()
        initializer(self.kernel_initializer)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        channels, *sizes = check_rank(self, input_shape, IMAGE)
        check_cells(self, input_shape)
        check_groups(self, self.groups, channels, "channels")
        h, w = pair("kernel_size", self.kernel_size)
        s, t = pair("stride", self.stride)
        output = (self.filters, *self.output_size(tuple(sizes)))
        shape = (channels, self.filters // self.groups, h, w)
        fans = max(channels // self.groups * h * w // (s * t), 1), shape[1] * h * w  # an output meets 1 cell in s t
        return {
            "kernel": initial(self.kernel_initializer, rng, shape, *fans),
            **self.init_bias(rng, output),
        }, output

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        kernel, backend = weights["kernel"], run.backend
        check_input(self, weights, x, IMAGE, kernel.shape[0])
        check_cells(self, x.shape[1:])
        how = {**self.window(x.shape[2:]), "groups": self.groups}
        z_shape = (x.shape[0], self.filters, *self.output_size(x.shape[2:]))
        how["stride"] = within(how["stride"], z_shape[2:], how["padding"])
        y = self.add_bias(weights, backend.correlate_input_adjoint(x, kernel, z_shape, **how))
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dkernel = backend.correlate_kernel_adjoint(dy, x, kernel.shape, **how)
            return backend.correlate(dy, kernel, **how), {"kernel": dkernel, **self.bias_gradient(dy)}

        return y, backward

    def window(self, sizes: Shape) -> dict[str, Any]:
        """Stride, padding and dilation for an input of these sizes, as the primitives take them."""
        stride, dilation = pair("stride", self.stride), pair("dilation", self.dilation)
        spread = tuple(n * s for n, s in zip(sizes, stride, strict=True))
        around = pads(self.padding, spread, pair("kernel_size", self.kernel_size), stride, dilation)
        return {"stride": stride, "padding": around, "dilation": dilation}

    def output_size(self, sizes: Shape) -> Pair:
        """H' and W'."""
        kernel, extra = pair("kernel_size", self.kernel_size), pair("output_padding", self.output_padding, least=0)
        if self.padding == "same":
            rows, columns = (n * s for n, s in zip(sizes, pair("stride", self.stride), strict=True))
            return rows, columns
        rows, columns = (
            (n - 1) * s + extent(k, d) - lo - hi + e
            for n, k, e, s, (lo, hi), d in zip(sizes, kernel, extra, *self.window(sizes).values(), strict=True)
        )
        if min(rows, columns) < 1:
            raise ShapeError(
                "X102",
                f"has a padding that leaves nothing of the output for an input of {sizes[0]}x{sizes[1]}.",
                f"output = (input - 1) stride + kernel - padding + output_padding = {rows}x{columns}",
                hint='use less padding, padding="same", or a larger kernel.',
                layer=self,
            )
        return rows, columns
