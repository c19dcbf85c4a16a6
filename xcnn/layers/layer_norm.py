"""Layer normalisation, Ba, Kiros and Hinton 2016."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_axes, check_axis, check_home, check_positive, check_shape
from xcnn.core.initializers import ones, zeros
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import standardise, standardise_backward


@checked
@dataclass(frozen=True)
class LayerNorm:
    """Y = scale X_hat + bias,  X_hat = (X - mean) / sqrt(variance + epsilon), for each sample.

    dscale = sum(dY X_hat),  dbias = sum(dY),  dX from standardise_backward.

    Mean and variance are taken over `axis`, one or several, the batch's axis being 0; None is all but the batch's, so
    C, H and W of images, as PyTorch's LayerNorm([C, H, W]). `axis=-1` is Keras's default, `axis=1` normalises the
    channels at each place. scale and bias have the sizes of these axes.

    Parameters
    ----------
    axis
        along which cells are normalised together, one or several; None is all but the batch's
    epsilon
        what is added to the variance, in units of X squared

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> weights, output_shape = xcnn.LayerNorm(axis=1).init(np.random.default_rng(0), (8, 28, 28))
    >>> {name: weight.shape for name, weight in weights.items()}
    {'scale': (8,), 'bias': (8,)}
    """

    _: KW_ONLY
    axis: int | tuple[int, ...] | None = None
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.axis is not None:
            check_axes(self, self.axis)
        check_positive("epsilon", self.epsilon)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        shape = tuple(input_shape[axis - 1] for axis in self.axes(len(input_shape) + 1))
        return {"scale": ones(rng, shape), "bias": zeros(rng, shape)}, input_shape

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_home(self, weights, x)
        xp, axes, shape = namespace(x), self.axes(x.ndim), weights["scale"].shape
        if tuple(x.shape[axis] for axis in axes) != tuple(shape):
            raise ShapeError(
                "X101",
                f"expects sizes {tuple(shape)} on axes {axes}.",
                f"got x {tuple(x.shape)}",
                hint=f"build the model with input_shape={tuple(x.shape[1:])}.",
                layer=self,
            )
        others = tuple(axis for axis in range(x.ndim) if axis not in axes)
        scale, bias = (
            xp.reshape(weights[name], tuple(1 if axis in others else n for axis, n in enumerate(x.shape)))
            for name in ("scale", "bias")
        )
        x_hat, inverse = standardise(xp, x, axes, self.epsilon)
        y = x_hat * scale + bias
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            grads = {"scale": xp.sum(dy * x_hat, axis=others), "bias": xp.sum(dy, axis=others)}
            return standardise_backward(xp, dy * scale, x_hat, inverse, axes), grads

        return y, backward

    def axes(self, rank: int) -> Shape:
        """The axes to normalise of an array with so many, in order."""
        asked = range(1, rank) if self.axis is None else (self.axis,) if isinstance(self.axis, int) else self.axis
        axes = tuple(sorted(check_axis(self, axis, rank) for axis in asked))
        if not axes or len(set(axes)) < len(axes):
            raise OptionError("X104", f"must have one axis or several different ones; got {self.axis}.", layer=self)
        return axes
