"""Batch normalisation, Ioffe and Szegedy 2015."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import prod

from xcnn.core.checks import check_between, check_dy, check_input, check_positive, check_shape
from xcnn.core.initializers import ones, zeros
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.half import wide
from xcnn.layers.layer import Next, Run
from xcnn.layers.normalisation import axes_with_channels


@checked
@dataclass(frozen=True)
class BatchNorm:
    """Y = scale X_hat + bias,  X_hat = (X - mean) / sqrt(variance + epsilon), for each channel.

    dscale = sum(dY X_hat),  dbias = sum(dY),  and in training, m being the cells of a channel in the batch:
    dX = (dY - dbias / m - X_hat dscale / m) scale / sqrt(variance + epsilon).

    Takes (N, C), (N, C, L) and (N, C, H, W). In training, mean and variance are the batch's, and the running ones
    become momentum * running + (1 - momentum) * batch's, the variance with m - 1 in its denominator, as in PyTorch
    (Keras has m there); a batch of fewer than two cells a channel leaves them. Else they are the running ones, and
    dX = dY scale / sqrt(variance + epsilon).
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
        return {**weights, "running_mean": zeros(rng, c), "running_variance": ones(rng, c)}, check_shape(
            "input_shape", input_shape
        )

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        scale, mean, variance = weights["scale"], weights["running_mean"], weights["running_variance"]
        xp = check_input(self, weights, x, axes_with_channels(self, x.shape[1:]), scale.shape[0])
        axes = (0, *range(2, x.ndim))
        m = prod(x.shape[axis] for axis in axes)
        following = {"running_mean": Next(mean), "running_variance": Next(variance)}

        def wide(of_channels: Array) -> Array:
            return xp.reshape(of_channels, (-1, *(1 for _ in axes[1:])))

        if run.train and m > 0:
            mean = xp.sum(x, axis=axes) / m
            centred = x - wide(mean)
            variance = xp.sum(centred * centred, axis=axes) / m
            if m > 1:
                following = {
                    "running_mean": self.moved(weights["running_mean"], mean),
                    "running_variance": self.moved(weights["running_variance"], variance * (m / (m - 1))),
                }
        else:
            centred = x - wide(mean)
        inverse = 1 / xp.sqrt(variance + self.epsilon)
        x_hat = centred * wide(inverse)
        x_shape = x.shape

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, x_shape, dy)
            dscale, dbias = xp.sum(dy * x_hat, axis=axes), xp.sum(dy, axis=axes)
            dx_hat = dy - wide(dbias / m) - x_hat * wide(dscale / m) if run.train and m > 0 else dy
            return dx_hat * wide(scale * inverse), {"scale": dscale, "bias": dbias, **following}

        return x_hat * wide(scale) + wide(weights["bias"]), backward

    def moved(self, running: Array, batch: Array) -> Next:
        """The running value after this batch."""
        return Next(self.momentum * running + (1 - self.momentum) * batch)
