"""Normalisation by the neighbouring channels, Krizhevsky, Sutskever and Hinton 2012."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import namespace, zeros
from xcnn.core.checks import check_input, check_positive, check_rate, check_shape, check_whole
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Pair, Rng, Shape, Weights
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.normalisation import axes_with_channels


@checked
@dataclass(frozen=True)
class LocalResponseNorm:
    """Y = X / S^beta,  S = k + alpha / size (sum of X^2 over `size` neighbouring channels).

    dX = dY / S^beta - 2 alpha beta / size X (sum of dY X / S^(beta + 1) over the channels whose sums this one is in).

    Takes (N, C), (N, C, L) and (N, C, H, W). Of an even size there is one channel more before than behind; those that
    do not exist count as 0. As in PyTorch; ONNX's is the same, the article's alpha is alpha / size here.

    Parameters
    ----------
    size
        channels of a sum
    alpha
        what the mean of squares counts, in units of 1 / X squared, at least 0
    beta
        the power
    k
        what S is where X is 0

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.Model(xcnn.LocalResponseNorm(3, alpha=1.0), (3,)).predict(np.array([[1.0, 2, 3]])).round(2)
    array([[0.48, 0.54, 0.85]], dtype=float32)
    """

    size: int = 5
    _: KW_ONLY
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        check_whole("size", self.size)
        check_rate("alpha", self.alpha)
        check_positive("beta", self.beta)
        check_positive("k", self.k)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        axes_with_channels(self, input_shape)
        return {}, input_shape

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, axes_with_channels(self, x.shape[1:]))
        before, behind = self.size // 2, (self.size - 1) // 2
        s = self.k + self.alpha / self.size * neighbours(x * x, (before, behind))
        by = s**-self.beta
        y = x * by
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            sums = neighbours(dy * x * by / s, (behind, before))
            return dy * by - (2 * self.alpha * self.beta / self.size) * x * sums, {}

        return y, backward


def neighbours(x: Array, reach: Pair) -> Array:
    """The sum of each channel, of so many before it and of so many behind, as far as there are any."""
    xp, channels = namespace(x), x.shape[1]
    before, behind = (min(n, max(channels - 1, 0)) for n in reach)
    edges = (zeros(x, (x.shape[0], n, *x.shape[2:])) for n in (before, behind))
    padded = xp.concat([next(edges), x, next(edges)], axis=1)
    whole = zeros(x, x.shape)
    for n in range(before + behind + 1):
        whole = whole + padded[:, n : n + channels, ...]
    return whole
