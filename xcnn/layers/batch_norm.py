"""Batch normalisation, Ioffe and Szegedy 2015."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from math import prod
from typing import Any

from xcnn.core.arrays import full
from xcnn.core.checks import check_between, check_input, check_positive, check_shape
from xcnn.core.initializers import ones, zeros
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import wide
from xcnn.layers.layer import Next, Run
from xcnn.layers.normalisation import axes_with_channels

STEPS = "running_steps"
RUNNING = ("running_mean", "running_variance", STEPS)
EARLY = 9.0
"""Of n batches the running statistics remember about the last n / EARLY, until that is what momentum remembers."""
SETTLED = 1e6
"""Batches after which nothing is left of a start."""


@checked
@dataclass(frozen=True)
class BatchNorm:
    """Y = scale X_hat + bias,  X_hat = (X - mean) / sqrt(variance + epsilon), for each channel.

    dscale = sum(dY X_hat),  dbias = sum(dY),  and in training, m being the cells of a channel in the batch:
    dX = (dY - dbias / m - X_hat dscale / m) scale / sqrt(variance + epsilon).

    Takes (N, C), (N, C, L) and (N, C, H, W). In training, mean and variance are the batch's, and the running ones
    become (1 - share) running + share batch's, the variance with m - 1 in its denominator, as in PyTorch (Keras has m
    there); a batch of fewer than two cells a channel leaves them. Else they are the running ones, and
    dX = dY scale / sqrt(variance + epsilon).

    share = max(1 - momentum, EARLY / (n + EARLY)), n being `running_steps`, the batches that the running ones have
    seen: so the first one takes the place of the 0 and 1 that they start with, and early ones are soon forgotten. Those
    that somebody sets before the first step, and those without `running_steps`, move by 1 - momentum.

    Parameters
    ----------
    momentum
        the share of the running statistics that a step leaves in the end, at least 0 and below 1: as in Keras, and the
        reverse of PyTorch's, whose 0.1 is 0.9 here
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
    >>> weights, output_shape = xcnn.BatchNorm(momentum=0.9).init(np.random.default_rng(0), (8, 28, 28))
    >>> {name: weight.shape for name, weight in weights.items()}
    {'scale': (8,), 'bias': (8,), 'running_mean': (8,), 'running_variance': (8,), 'running_steps': (1,)}
    """

    _: KW_ONLY
    momentum: float = 0.99
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        check_between("momentum", self.momentum, 0, 1)
        check_positive("epsilon", self.epsilon)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        axes_with_channels(self, input_shape)
        c = tuple(input_shape[:1])
        weights = {"scale": ones(rng, c), "bias": zeros(rng, c)}
        running = {"running_mean": zeros(rng, c), "running_variance": ones(rng, c), "running_steps": zeros(rng, (1,))}
        return {**weights, **running}, input_shape

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        scale, mean, variance = weights["scale"], weights["running_mean"], weights["running_variance"]
        xp = check_input(self, weights, x, axes_with_channels(self, x.shape[1:]), scale.shape[0])
        axes = (0, *range(2, x.ndim))
        mine, m = (samples * prod(x.shape[2:]) for samples in (x.shape[0], run.batch_size(x.shape[0])))
        following = unmoved(weights)

        def wide(of_channels: Array) -> Array:
            return xp.reshape(of_channels, (-1, *(1 for _ in axes[1:])))

        if run.train and m > 0:
            mean = xp.sum(x, axis=axes) / max(mine, 1)
            centred = x - wide(mean)
            variance = xp.sum(centred * centred, axis=axes) / max(mine, 1)
            if run.share is not None:
                mean, variance = of_whole(xp, run, mean, variance, mine)
                centred = x - wide(mean)
            if m > 1:
                following = self.moved(xp, weights, mean, variance * (m / (m - 1)))
        else:
            centred = x - wide(mean)
        inverse = 1 / xp.sqrt(variance + self.epsilon)
        x_hat = centred * wide(inverse)
        y = x_hat * wide(scale) + wide(weights["bias"])
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dscale, dbias = xp.sum(dy * x_hat, axis=axes), xp.sum(dy, axis=axes)
            dx_hat = dy
            if run.train and m > 0:
                slope, shift = run.sums_over_batch(dscale, dbias)
                dx_hat = dy - wide(shift / m) - x_hat * wide(slope / m)
            return dx_hat * wide(scale * inverse), {"scale": dscale, "bias": dbias, **following}

        return y, backward

    def moved(self, xp: Any, weights: Weights, mean: Array, variance: Array) -> Weights:
        """The running statistics after a batch with these."""
        old, share, following = (weights["running_mean"], weights["running_variance"]), 1 - self.momentum, {}
        if "running_steps" in weights:
            n = weights["running_steps"]
            set_by_hand = (n == 0) & xp.any((old[0] != 0) | (old[1] != 1))
            n = xp.where(set_by_hand, full(n, n.shape, SETTLED), n)
            share = xp.maximum(EARLY / (n + EARLY), full(n, n.shape, share))
            following["running_steps"] = Next(n + 1)
        mean, variance = ((1 - share) * a + share * b for a, b in zip(old, (mean, variance), strict=True))
        return {"running_mean": Next(mean), "running_variance": Next(variance), **following}


def of_whole(xp: Any, run: Run, mean: Array, variance: Array, cells: int) -> tuple[Array, Array]:
    """Mean and variance of a batch from those of a share's own cells: Chan, Golub & LeVeque, 1983.

    All shares tell theirs, and how many cells a channel has, in one message.
    """
    table = run.each_of_batch(xp.stack([mean, variance, full(mean, mean.shape, cells)]))
    means, variances, counts = (table[:, n, ...] for n in range(3))
    whole = xp.sum(counts, axis=0)
    mean = xp.sum(counts * means, axis=0) / whole
    far = means - mean
    return mean, xp.sum(counts * (variances + far * far), axis=0) / whole


def unmoved(weights: Weights) -> Weights:
    """The running statistics as they are."""
    return {name: Next(weights[name]) for name in RUNNING if name in weights}


def settled(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
    """Weights by path that somebody sets in the place of those: statistics without steps of their own have seen enough.

    They come from where steps are not counted, or differ from the old ones and have their steps still.
    """
    whole = dict(new)
    for steps in (path for path in old if path.endswith(STEPS)):
        mean, variance = (steps.removesuffix(STEPS) + name for name in RUNNING[:2])
        changed = {path for path in (mean, variance, steps) if path in new and (new[path] != old[path]).any()}
        if changed and steps not in changed:
            whole[steps] = full(old[steps], old[steps].shape, SETTLED)
    return whole
