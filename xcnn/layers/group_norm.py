"""Group normalisation, Wu and He 2018."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.checks import check_groups, check_input, check_positive, check_shape, check_whole
from xcnn.core.initializers import ones, zeros
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import axes_with_channels, standardise, standardise_backward


@checked
@dataclass(frozen=True)
class GroupNorm:
    """Y = scale X_hat + bias,  X_hat = (X - mean) / sqrt(variance + epsilon), for each group of channels of a sample.

    dscale = sum(dY X_hat),  dbias = sum(dY),  dX from standardise_backward.

    Takes (N, C), (N, C, L) and (N, C, H, W); scale and bias are (C,). One group normalises whole samples, C groups
    each channel for itself (instance normalisation).

    Parameters
    ----------
    groups
        how many; the channels are a multiple of it
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
    >>> weights, output_shape = xcnn.GroupNorm(4).init(np.random.default_rng(0), (8, 28, 28))
    >>> {name: weight.shape for name, weight in weights.items()}
    {'scale': (8,), 'bias': (8,)}
    """

    groups: int
    _: KW_ONLY
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        check_whole("groups", self.groups)
        check_positive("epsilon", self.epsilon)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        axes_with_channels(self, input_shape)
        check_groups(self, self.groups, input_shape[0], "channels")
        c = tuple(input_shape[:1])
        return {"scale": ones(rng, c), "bias": zeros(rng, c)}, check_shape("input_shape", input_shape)

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        names = axes_with_channels(self, x.shape[1:])
        xp = check_input(self, weights, x, names, weights["scale"].shape[0])
        shape, axes = x.shape, (0, *range(2, x.ndim))
        grouped = (shape[0], self.groups, shape[1] // self.groups, *shape[2:])
        cells = (*range(2, len(grouped)),)
        scale, bias = (xp.reshape(weights[name], (-1, *(1 for _ in axes[1:]))) for name in ("scale", "bias"))
        groups_hat, inverse = standardise(xp, xp.reshape(x, grouped), cells, self.epsilon)
        x_hat = xp.reshape(groups_hat, shape)
        y = x_hat * scale + bias
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            grads = {"scale": xp.sum(dy * x_hat, axis=axes), "bias": xp.sum(dy, axis=axes)}
            dx = standardise_backward(xp, xp.reshape(dy * scale, grouped), groups_hat, inverse, cells)
            return xp.reshape(dx, shape), grads

        return y, backward
