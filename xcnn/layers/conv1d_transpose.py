"""One-dimensional transposed convolution: Conv2DTranspose on images of height 1."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.checks import check_whole
from xcnn.core.initializers import Initializer
from xcnn.core.options import checked
from xcnn.core.types import Bias, InitializerName, PaddingName, Pair, Weights
from xcnn.layers.conv2d_transpose import Conv2DTranspose
from xcnn.layers.half import computes_in_half
from xcnn.layers.signals import OfSignals, along


@computes_in_half
@checked
@dataclass(frozen=True)
class Conv1DTranspose(OfSignals):
    """Y = B + X, spread by the stride, full-convolved with K.   dX = dY * K,  dK = dY * X,  dB = dY (summed if shared).

    (N, C, L) -> (N, filters, L'); K is (C, filters / groups, k), as in PyTorch. Options are those of the Conv1D that
    leads back from Y to X, so `padding` takes cells away: L' = (L - 1) stride + extent - padding + output_padding, and
    "same" gives L' = L stride, as in Keras.

    Parameters
    ----------
    filters
        channels of Y
    kernel_size
        cells of the kernel
    stride
        cells from a cell of X to the next in Y
    padding
        cells that are taken away at the ends of Y: "valid" none, "same" as many as give L' = L stride, "full" an extent
        less 1 at both; or p at both ends, or (before, after) of them
    output_padding
        cells more, fewer than the stride: picks among the lengths that this Conv1D would shrink to L
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
    >>> xcnn.Conv1DTranspose(4, 5, stride=2, padding="same").init(np.random.default_rng(0), (8, 50))[1]
    (4, 100)
    """

    filters: int
    kernel_size: int
    _: KW_ONLY
    stride: int = 1
    padding: PaddingName | int | Pair = "valid"
    output_padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: Bias = True
    kernel_initializer: InitializerName | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            check_whole(name, getattr(self, name))
        check_whole("output_padding", self.output_padding, least=0)
        self.twin()

    def channels(self, weights: Weights) -> int:
        """Those of X."""
        return int(weights["kernel"].shape[0])

    def twin(self) -> Conv2DTranspose:
        return Conv2DTranspose(
            self.filters,
            (1, self.kernel_size),
            stride=(1, self.stride),
            padding=along(self.padding),
            output_padding=(0, self.output_padding),
            dilation=(1, self.dilation),
            groups=self.groups,
            bias=self.bias,
            kernel_initializer=self.kernel_initializer,
        )
