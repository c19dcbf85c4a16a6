"""Batch normalisation and the ReLU after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from xcnn._typing import Array, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import BatchNorm, ReLU
from xcnn.layers.layer import Layer, Next, Run
from xcnn.precision import within
from xcnn_torch import memory
from xcnn_torch.fused.common import IN_PLACE, aten, computes_in, followed_by, gives, holds, slope
from xcnn_torch.memory import empty_like, typed

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.backend import TorchBackend


@dataclass(frozen=True)
class Normalisation:
    """Y = relu(scale X_hat + bias), with or without the ReLU."""

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
        following = {name: mine[name] for name in ("running_mean", "running_variance")}
        if train:  # PyTorch moves them in place, so they are copies
            following = {name: value.clone() for name, value in following.items()}
        running, epsilon = tuple(following.values()), self.layer.epsilon
        y, *of_batch = normalised(x, scale, bias, *running, train, 1 - self.layer.momentum, epsilon)
        IN_PLACE[self.activation](y)

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, y.shape, dy)
            dz = slope(self.activation, typed(dy, dtype), y)
            dx, dscale, dbias = aten.native_batch_norm_backward(
                dz, x, scale, *running, *of_batch, train, epsilon, (True, True, True)
            )
            trained = {"scale": typed(dscale, mine["scale"].dtype), "bias": typed(dbias, mine["bias"].dtype)}
            grads[self.name] = {**trained, **{name: Next(value) for name, value in following.items()}}
            return typed(dx, x_type)

        return typed(y, gives(self.end, dtype)), backward


def normalised(x: Array, *how: Any) -> tuple[Array, Array, Array]:
    """Y, and the mean and 1 / deviation of each channel, which are empty where the running ones are taken.

    Told where to write them, PyTorch leaves the mean alone unless x lies as it is indexed, or images with their
    channels last. So it is told for such x only, whose y is large enough to lie in memory that is used again; and what
    it would leave alone is NaN rather than a number of somebody else's.
    """
    y = empty_like(x) if x.is_cpu and x.nbytes >= memory.LARGE and lies_plainly(x) else None
    if y is None:
        return aten.native_batch_norm(x, *how)
    scale, train = how[0], how[4]
    mean, inverse = (scale.new_full((len(scale) if train else 0,), torch.nan) for _ in range(2))
    return aten.native_batch_norm.out(x, *how, out=y, save_mean=mean, save_invstd=inverse)


def lies_plainly(x: Array) -> bool:
    """Whether it lies as it is indexed, or images with their channels last."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def fuse(backend: TorchBackend, layers: Named, n: int) -> tuple[int, Normalisation] | None:
    """BatchNorm, and the ReLU after it."""
    name, outer = layers[n]
    if type(within(outer)) is not BatchNorm:
        return None
    activation = ReLU if followed_by(layers, n, ReLU) else None
    length = 1 + (activation is not None)
    return length, Normalisation(name, outer, activation, layers[n + length - 1][1])
