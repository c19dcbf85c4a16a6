"""Batch normalisation and the ReLU after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from xcnn.core.arrays import namespace
from xcnn.core.types import Array, Weights
from xcnn.layers import BatchNorm, ReLU
from xcnn.layers.batch_norm import unmoved
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_torch import memory
from xcnn_torch.fused.common import IN_PLACE, aten, computes_in, followed_by, gives, holds, slope
from xcnn_torch.memory import LONG, arranged, empty_like, typed

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.host import Host


@dataclass(frozen=True)
class Normalisation:
    """Y = relu(scale X_hat + bias), with or without the ReLU."""

    takes_shares: ClassVar[bool] = False

    name: str
    outer: Layer
    """The BatchNorm, or a Cast around it."""
    activation: type | None
    end: Layer

    @property
    def layer(self) -> BatchNorm:
        """The BatchNorm itself."""
        return within(self.outer)  # type: ignore[return-value]

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        # of a single cell PyTorch would divide its variance by zero
        return holds(self.outer, x, mine) and x.ndim in (2, 3, 4) and x.shape[1] == len(mine["scale"]) < x.numel()

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, x_type, train = weights[self.name], x.dtype, run.train
        dtype = computes_in(self.outer, mine["scale"].dtype)
        x, (scale, bias) = typed(x, dtype), (typed(mine[name], dtype) for name in ("scale", "bias"))
        running, epsilon, following = (
            [mine["running_mean"], mine["running_variance"]],
            self.layer.epsilon,
            unmoved(mine),
        )
        if train:  # PyTorch moves them in place: from zeros all the way to the batch's
            running = [torch.zeros_like(value) for value in running]
        y, *of_batch = normalised(x, scale, bias, *running, train, 1.0, epsilon)
        if train:
            following = self.layer.moved(namespace(x), mine, *running)
        IN_PLACE[self.activation](y)

        def backward(dy: Array, grads: Weights) -> Array:
            dz = slope(self.activation, typed(dy, dtype), y)
            if train and is_long(x):
                dx, dscale, dbias = long_backward(dz, x, scale, *of_batch)
            else:
                dx, dscale, dbias = aten.native_batch_norm_backward(
                    dz, x, scale, *running, *of_batch, train, epsilon, (True, True, True)
                )
            trained = {"scale": typed(dscale, mine["scale"].dtype), "bias": typed(dbias, mine["bias"].dtype)}
            grads[self.name] = {**trained, **following}
            return typed(dx, x_type)

        return typed(y, gives(self.end, dtype)), backward


def normalised(x: Array, *how: Any) -> tuple[Array, Array, Array]:
    """Y, and the mean and 1 / deviation of each channel, which are empty where the running ones are taken.

    Told where to write them, PyTorch leaves the mean alone unless x lies as it is indexed, or images with their
    channels last. So it is told for such x only, whose y is large enough to lie in memory that is used again; and what
    it would leave alone is NaN rather than a number of somebody else's.
    """
    if how[4] and is_long(x) and Lines.fit(x):
        return long_forward(x, *how)
    y = empty_like(x) if x.is_cpu and x.nbytes >= memory.LARGE and lies_plainly(x) else None
    if y is None:
        made: tuple[Array, Array, Array] = aten.native_batch_norm(x, *how)
        return made
    scale, train = how[0], how[4]
    mean, inverse = (scale.new_full((len(scale) if train else 0,), torch.nan) for _ in range(2))
    aten.native_batch_norm.out(x, *how, out=y, save_mean=mean, save_invstd=inverse)
    return y, mean, inverse


def lies_plainly(x: Array) -> bool:
    """Whether it lies as it is indexed, or images with their channels last."""
    return bool(x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)))


# Sums of many cells. PyTorch adds those of a channel one after another where channels lie last: of a million equal ones
# in float32 the mean is wrong by 0.3 %, and a small variance altogether.


@dataclass(frozen=True)
class Lines:
    """Cells whose channels lie last, as a matrix of so many lines: each of its columns is a short sum.

    A line holds `BESIDE` cells beside each other; what is left over makes a last, shorter one.
    """

    whole: Array
    """(lines, BESIDE * channels)"""
    rest: Array
    """(cells, channels)"""

    @staticmethod
    def fit(x: Array) -> bool:
        """Whether the channels of x lie last."""
        if x.ndim == 2:
            return bool(x.is_contiguous())
        return bool(x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))

    @classmethod
    def of(cls, x: Array) -> Lines:
        """The cells of x, which they `fit`."""
        channels = x.shape[1]
        cells = (x if x.ndim == 2 else x.permute(0, 2, 3, 1)).reshape(-1, channels)
        lines = len(cells) // BESIDE
        return cls(cells[: lines * BESIDE].view(lines, BESIDE * channels), cells[lines * BESIDE :])


BESIDE = 128
"""Cells to a line: sums of a million are of 8,192, and then of 128."""


def is_long(x: Array) -> bool:
    """Whether the sums of a channel have so many cells that they are not left to PyTorch."""
    return bool(x.is_cpu and x.dtype != torch.float64 and x.numel() > LONG * x.shape[1])


def long_forward(
    x: Array, scale: Array, bias: Array, running_mean: Array, running_variance: Array,
    train: bool, share: float, epsilon: float,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """What `normalised` gives in training, and the running mean and variance moved, by sums in Lines."""
    lines, cells = Lines.of(x), x.numel() // x.shape[1]
    means, variances = (a.view(BESIDE, -1) for a in aten.batch_norm_update_stats(lines.whole, None, None, 0.0))
    each, rest = len(lines.whole), lines.rest
    mean = (each * means.sum(0) + rest.sum(0)) / cells
    apart = (variances + (means - mean).square_()).sum(0)
    variance = (each * apart + (rest - mean).square_().sum(0)) / cells
    running_mean.lerp_(mean, share)
    running_variance.lerp_(variance * (cells / (cells - 1)), share)
    y, _, _ = aten.native_batch_norm(x, scale, bias, mean, variance, False, 0.0, epsilon)
    return y, mean, (variance + epsilon).rsqrt_()


def long_backward(dz: Array, x: Array, scale: Array, mean: Array, inverse: Array) -> tuple[Array, Array, Array]:
    """DX, dscale and dbias by the definition, its sums in Lines or PyTorch's own, which go by halves."""
    if Lines.fit(x):
        dz = dz.contiguous() if dz.ndim == 2 else arranged(dz, last=True)
        dscale, dbias = lines_backward(Lines.of(dz), Lines.of(x), mean, inverse)
    else:
        axes = (0, *range(2, x.ndim))
        dscale = (x - across(mean, x)).mul_(dz).sum(axes) * inverse
        dbias = dz.sum(axes)
    share = x.shape[1] / x.numel()
    of_dz = scale * inverse
    of_x = -of_dz * inverse * dscale * share
    dx = torch.addcmul(across(-of_dz * dbias * share - of_x * mean, x), x, across(of_x, x))
    return dx.addcmul_(dz, across(of_dz, x)), dscale, dbias


def lines_backward(dz: Lines, x: Lines, mean: Array, inverse: Array) -> tuple[Array, Array]:
    """Dscale and dbias."""
    repeated = [a.repeat(BESIDE) for a in (inverse, mean, inverse)]  # the first is no matter
    _, dscale, dbias = aten.native_batch_norm_backward(
        dz.whole, x.whole, repeated[0], None, None, *repeated[1:], True, 0.0, (False, True, True)
    )
    of_rest = ((x.rest - mean) * dz.rest).sum(0) * inverse, dz.rest.sum(0)
    return dscale.view(BESIDE, -1).sum(0) + of_rest[0], dbias.view(BESIDE, -1).sum(0) + of_rest[1]


def across(of_channels: Array, x: Array) -> Array:
    """One number a channel, as it goes with x."""
    return of_channels.view(-1, *(1 for _ in x.shape[2:]))


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Normalisation] | None:
    """BatchNorm, and the ReLU after it."""
    name, outer = layers[n]
    if type(within(outer)) is not BatchNorm:
        return None
    activation = ReLU if followed_by(layers, n, ReLU) else None
    length = 1 + (activation is not None)
    return length, Normalisation(name, outer, activation, layers[n + length - 1][1])
