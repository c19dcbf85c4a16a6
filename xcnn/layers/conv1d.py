"""One-dimensional convolution: Conv2D on images of height 1."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import (
    SIGNAL,
    check_cells,
    check_input,
    check_rank,
    check_whole,
    on_behalf_of,
)
from xcnn.core.initializers import Initializer
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Bias, InitializerName, Padding, PaddingName, Pair, Rng, Shape, Weights
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Conv1D:
    """Y = B + X * K.   dK = X * dY,  dX = dY full-convolved with K,  dB = dY (summed where it is shared).

    (N, C, L) -> (N, filters, L'); K is (filters, C / groups, k).

    Parameters
    ----------
    filters
        channels of Y
    kernel_size
        cells of the kernel
    stride
        cells from a window to the next
    padding
        cells of zeros at the ends of X: "valid" none, "same" as many as give L' = ceil(L / stride), "full" as many as
        make every overlap count; or p at both ends, or (before, after) of them
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
        X101, for an input that does not fit; X102, where the window does not fit into it.

    Examples
    --------
    >>> xcnn.Conv1D(8, 5, stride=2, padding="same").init(np.random.default_rng(0), (2, 100))[1]
    (8, 50)
    """

    filters: int
    kernel_size: int
    _: KW_ONLY
    stride: int = 1
    padding: PaddingName | int | Pair = "valid"
    dilation: int = 1
    groups: int = 1
    bias: Bias = True
    kernel_initializer: InitializerName | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            check_whole(name, getattr(self, name))
        self.conv2d()

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        channels, length = check_rank(self, input_shape, SIGNAL)
        check_cells(self, input_shape)
        with on_behalf_of(self):
            weights, output = self.conv2d().init(rng, (channels, 1, length))
        return _without_height(weights), (output[0], output[2])

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = check_input(self, weights, x, SIGNAL, weights["kernel"].shape[1] * self.groups)
        check_cells(self, x.shape[1:])
        flat = {name: xp.expand_dims(w, axis=-2) if w.ndim > 1 else w for name, w in weights.items()}
        with on_behalf_of(self):
            image, conv2d_backward = self.conv2d()(flat, xp.expand_dims(x, axis=2), run)
        y = image[:, :, 0, :]
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dx, grads = conv2d_backward(xp.expand_dims(dy, axis=2))
            return None if dx is None else dx[:, :, 0, :], _without_height(grads)

        return y, backward

    def conv2d(self) -> Conv2D:
        """The Conv2D that this is."""
        padding: Padding
        match self.padding:
            case int():
                padding = (0, self.padding)
            case (int() as before, int() as after):
                padding = ((0, 0), (before, after))
            case _:
                padding = self.padding
        return Conv2D(
            self.filters,
            (1, self.kernel_size),
            stride=(1, self.stride),
            padding=padding,
            dilation=(1, self.dilation),
            groups=self.groups,
            bias=self.bias,
            kernel_initializer=self.kernel_initializer,
        )


def _without_height(weights: Weights) -> Weights:
    return {name: namespace(w).squeeze(w, axis=-2) if w.ndim > 1 else w for name, w in weights.items()}
