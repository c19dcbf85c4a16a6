"""A learned factor for each channel, as ConvNeXt's layer scale: Touvron et al. 2021."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import total
from xcnn.core.checks import check_input, check_shape
from xcnn.core.initializers import constant, zeros
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, short
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import axes_with_channels


@computes_in_half
@checked
@dataclass(frozen=True)
class Scale:
    """Y = scale X + bias, one scale and bias for each channel.   dX = scale dY,  dscale = sum(dY X),  dbias = sum(dY).

    Takes (N, C), (N, C, L) and (N, C, H, W).

    Parameters
    ----------
    initial
        what the scales are at first: a block whose last layer is a Scale(1e-6) begins as almost nothing
    bias
        whether something is added; 0 at first

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> weights, output_shape = xcnn.Scale(1e-6).init(np.random.default_rng(0), (8, 28, 28))
    >>> {name: weight.shape for name, weight in weights.items()}
    {'scale': (8,)}
    """

    initial: float = 1.0
    _: KW_ONLY
    bias: bool = False

    def __post_init__(self) -> None:
        if not abs(self.initial) < float("inf"):
            raise OptionError("X104", f"initial must be a finite number; got {short(self.initial)}.")

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        axes_with_channels(self, input_shape)
        c = input_shape[:1]
        return {"scale": constant(rng, c, self.initial), **({"bias": zeros(rng, c)} if self.bias else {})}, input_shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        scale, names = weights["scale"], axes_with_channels(self, x.shape[1:])
        xp = check_input(self, weights, x, names, scale.shape[0])
        wide = (-1, *(1 for _ in names[1:]))
        y = xp.reshape(scale, wide) * x
        if self.bias:
            y = y + xp.reshape(weights["bias"], wide)
        made, axes = likeness(y), (0, *range(2, x.ndim))

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            grads = {"scale": total(dy * x, axis=axes), **({"bias": total(dy, axis=axes)} if self.bias else {})}
            return xp.reshape(scale, wide) * dy, grads

        return y, backward
