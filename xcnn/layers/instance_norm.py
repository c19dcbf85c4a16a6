"""Instance normalisation, Ulyanov, Vedaldi and Lempitsky 2016."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.checks import check_input, check_positive, check_shape
from xcnn.core.initializers import ones, zeros
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import ShapeError
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import axes_with_channels, standardise, standardise_backward


@checked
@dataclass(frozen=True)
class InstanceNorm:
    """Y = scale X_hat + bias,  X_hat = (X - mean) / sqrt(variance + epsilon), for each channel of each sample.

    dscale = sum(dY X_hat),  dbias = sum(dY),  dX from standardise_backward.

    Takes (N, C, L) and (N, C, H, W); scale and bias are (C,).

    Parameters
    ----------
    epsilon
        what is added to the variance, in units of X squared
    affine
        whether there are scale and bias; without them, as PyTorch has it by default, Y = X_hat

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> weights, output_shape = xcnn.InstanceNorm().init(np.random.default_rng(0), (8, 28, 28))
    >>> {name: weight.shape for name, weight in weights.items()}
    {'scale': (8,), 'bias': (8,)}
    """

    _: KW_ONLY
    epsilon: float = 1e-3
    affine: bool = True

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        self.axes(input_shape)
        c = input_shape[:1]
        return {"scale": ones(rng, c), "bias": zeros(rng, c)} if self.affine else {}, input_shape

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        names = self.axes(x.shape[1:])
        xp = check_input(self, weights, x, names, weights["scale"].shape[0] if self.affine else None)
        cells = tuple(range(2, x.ndim))
        x_hat, inverse = standardise(xp, x, cells, self.epsilon)
        y = x_hat
        if self.affine:
            scale, bias = (xp.reshape(weights[name], (-1, *(1 for _ in cells))) for name in ("scale", "bias"))
            y = x_hat * scale + bias
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            if not self.affine:
                return standardise_backward(xp, dy, x_hat, inverse, cells), {}
            grads = {"scale": xp.sum(dy * x_hat, axis=(0, *cells)), "bias": xp.sum(dy, axis=(0, *cells))}
            return standardise_backward(xp, dy * scale, x_hat, inverse, cells), grads

        return y, backward

    def axes(self, input_shape: Shape) -> tuple[str, ...]:
        """The names of a sample's axes; raises X101 for one without cells beside its channels."""
        names = axes_with_channels(self, input_shape)
        if len(names) == 1:
            raise ShapeError(
                "X101",
                "takes the mean over the cells of a channel, but there are features alone.",
                f"got {tuple(input_shape)} for each sample",
                hint="use LayerNorm() for vectors.",
                layer=self,
            )
        return names
